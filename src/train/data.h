#pragma once
// The shapes of training data: examples as token ids with targets, and the rows that a training step reads.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "tokenizer/token.h"

namespace axon::train {

// The label of a position that has no target: no token has this id.
inline constexpr std::uint32_t kIgnore = 0xFFFFFFFFu;

// A document and which of its tokens are to be learned. `trained` has the length of `ids`. A trained first token is
// never a target: nothing comes before it.
struct TokenSequence {
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> trained;  // 0 or 1
};

// One line of a dataset: a document, or a pair of an answer that is preferred and one that is not.
struct Example {
  std::array<TokenSequence, 2>
      sequences;  // [0] the document, or the chosen one; [1] the rejected one, empty if no pair
};

// What is known of an example without reading it.
struct ExampleShape {
  std::uint32_t line = 0;                     // in its file, from 1
  std::array<std::uint32_t, 2> tokens{0, 0};  // of each sequence, after truncation; [1] is 0 if it is no pair

  // Positions that it takes in a row: one less than the tokens, for each sequence.
  std::size_t positions() const { return tokens[0] - 1u + (tokens[1] == 0 ? 0u : tokens[1] - 1u); }
};

// Examples by number. Each sequence of an example has from 2 to max_seq_len() tokens.
class ExampleSource {
 public:
  virtual ~ExampleSource() = default;
  virtual std::size_t size() const = 0;  // examples, at least 1
  virtual std::size_t max_seq_len() const = 0;
  virtual bool pairs() const = 0;
  virtual ExampleShape shape(std::size_t index) const = 0;
  // Replaces `out`. An error names the file and the line.
  virtual Status read(std::size_t index, Example& out) const = 0;
  // The same for the same examples in the same order: what a saved position belongs to.
  virtual std::uint64_t fingerprint() const = 0;
};

enum class SegmentRole : std::uint8_t { kDocument, kChosen, kRejected };

// Positions [begin, end) of a row that know nothing of what stands before: states are empty at `begin`, and attention
// looks no further back.
struct Segment {
  std::uint32_t begin = 0, end = 0;
  std::uint32_t targets = 0;  // labels in it that are not kIgnore
  std::uint32_t line = 0;     // of its (first) example, from 1
  SegmentRole role = SegmentRole::kDocument;
};

// Positions of one sequence of ids; `labels[t]` is the id to be predicted from ids up to `t`: already shifted, and
// never from another segment. In a row of pairs each chosen segment is followed by the rejected one of its pair.
struct Row {
  std::span<const TokenId> ids;           // [T]
  std::span<const std::uint32_t> labels;  // [T], kIgnore where there is no target
  std::span<const Segment> segments;      // in order, without gaps: they cover [0, T)
  std::span<const std::uint32_t> lines;   // of the examples in it, for messages
};

// What one step of one rank trains on. The views live until the next batch is made.
struct Batch {
  std::span<const Row> rows;   // empty only at the end of a pass that does not repeat
  std::uint64_t examples = 0;  // examples that begin in it
  std::uint64_t tokens = 0;    // positions, padding included
  std::uint64_t targets = 0;
};

// Where a stream of batches stands; the same on every rank. Of examples, or in compat mode of the original's packed
// rows.
struct DataPosition {
  std::uint64_t epoch = 0;
  std::uint64_t index = 0;  // what comes next, counted in the order of the epoch
  bool operator==(const DataPosition&) const = default;
};

}  // namespace axon::train
