#pragma once
// Datasets: a JSONL file that is read line by line, or examples that are in memory already.

#include <functional>
#include <string>
#include <vector>

#include "memory/arena.h"
#include "memory/ledger.h"
#include "train/data.h"
#include "train/data_encode.h"
#include "train/data_lines.h"
#include "train/data_record.h"

namespace axon::train {

struct DataOptions {
  Objective objective = Objective::kSupervised;
  EncodeOptions encode;
  bool skip_bad = false;  // leave malformed lines out instead of failing at the first
};

// What was found in a dataset, for reports.
struct DataStats {
  std::uint64_t lines = 0;             // that are not blank
  std::uint64_t bad = 0;               // malformed and left out
  std::vector<std::string> first_bad;  // messages of the first kBadNamed of them
  std::uint64_t truncated = 0;         // longer than max_seq_len (those without targets among them)
  std::uint64_t emptied = 0;           // left out: truncation took all their targets
  std::uint64_t without_targets = 0;   // left out: had none from the start
  std::uint64_t examples = 0;          // what is left
  std::uint64_t tokens = 0;            // of those, after truncation; both of a pair
  std::uint64_t targets = 0;           // of those
  std::uint64_t longest = 0;           // tokens of the longest sequence, before truncation
  TokenId highest_id = 0;              // the model must have an embedding for it

  double mean() const { return examples == 0 ? 0.0 : static_cast<double>(tokens) / static_cast<double>(examples); }
};
inline constexpr std::size_t kBadNamed = 5;

// Bytes of the file that were looked at, and all.
using DataProgress = std::function<void(Bytes done, Bytes total)>;

// A JSONL file. Opening reads, checks and encodes every line once; what stays in memory is 32 bytes a line, and reading
// an example reads its line again. Lines in another format than the first are malformed.
class JsonlExamples : public ExampleSource {
 public:
  static constexpr std::size_t kBytesPerLine = 32;  // of the account
  // What open() will take from the ledger (account::kTrainingData), from the number of lines alone.
  static Result<Bytes> measure(const std::string& path);
  static Bytes index_bytes(std::size_t lines);
  // kCorrupt or kInvalidArgument "FILE:LINE: reason" for a malformed line; kInvalidArgument when no example is left.
  // `tokenizer` must outlive the dataset.
  static Result<JsonlExamples> open(const std::string& path, const Tokenizer& tokenizer, const DataOptions& options,
                                    Ledger& ledger, const DataProgress& progress = {});

  const DataStats& stats() const { return stats_; }
  DataFormat format() const { return format_; }
  Bytes index_bytes() const { return arena_.size(); }

  std::size_t size() const override { return size_; }
  std::size_t max_seq_len() const override { return options_.encode.max_seq_len; }
  bool pairs() const override { return options_.objective == Objective::kPreference; }
  ExampleShape shape(std::size_t index) const override;
  // kCorrupt when the file has changed since it was opened.
  Status read(std::size_t index, Example& out) const override;
  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  struct Entry {
    std::uint64_t offset;  // of the line
    std::uint64_t hash;    // of the line
    std::uint32_t bytes;   // of the line
    std::uint32_t line;
    std::array<std::uint32_t, 2> tokens;
  };
  class Opening;
  JsonlExamples(LineFile file, const Tokenizer& tokenizer, const DataOptions& options)
      : file_(std::move(file)), tokenizer_(&tokenizer), options_(options) {}

  LineFile file_;
  const Tokenizer* tokenizer_;
  DataOptions options_;
  DataFormat format_ = DataFormat::kText;
  DataStats stats_;
  Arena arena_;
  std::span<Entry> entries_;
  std::size_t size_ = 0;
  std::uint64_t fingerprint_ = 0;
};

// Examples in memory: other sources of ids, and tests. Line numbers are 1 + the index.
class TokenExamples : public ExampleSource {
 public:
  // kInvalidArgument names the example that is empty, longer than max_seq_len or without a mask of its length.
  static Result<TokenExamples> create(std::vector<Example> examples, std::size_t max_seq_len, bool pairs);

  std::size_t size() const override { return examples_.size(); }
  std::size_t max_seq_len() const override { return max_seq_len_; }
  bool pairs() const override { return pairs_; }
  ExampleShape shape(std::size_t index) const override;
  Status read(std::size_t index, Example& out) const override;
  std::uint64_t fingerprint() const override;

 private:
  TokenExamples(std::vector<Example> examples, std::size_t max_seq_len, bool pairs)
      : examples_(std::move(examples)), max_seq_len_(max_seq_len), pairs_(pairs) {}
  std::vector<Example> examples_;
  std::size_t max_seq_len_;
  bool pairs_;
};

}  // namespace axon::train
