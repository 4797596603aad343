#include "train/data_set.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/random.h"

namespace axon::train {
namespace {

constexpr std::uint64_t kProgressEvery = 1u << 20;  // bytes
constexpr std::uint64_t kMaxLines = std::numeric_limits<std::uint32_t>::max() - 1;

std::uint64_t count_targets(const TokenSequence& sequence) {
  if (sequence.trained.empty()) return 0;
  return static_cast<std::uint64_t>(std::count(sequence.trained.begin() + 1, sequence.trained.end(), 1));
}

ExampleShape shape_of(const Example& example, std::uint32_t line) {
  const auto tokens = [&](std::size_t i) { return static_cast<std::uint32_t>(example.sequences[i].ids.size()); };
  return {.line = line, .tokens = {tokens(0), tokens(1)}};
}

std::uint64_t mixed(std::uint64_t hash, std::uint64_t more) { return mix64(hash ^ mix64(more + 1)); }

}  // namespace

// The pass over the file that fills the index and the statistics.
class JsonlExamples::Opening {
 public:
  Opening(JsonlExamples& set, const DataProgress& progress) : set_(set), progress_(progress) {}

  Status run() {
    AXON_TRY(set_.file_.each([this](const Line& line) { return visit(line); }));
    if (progress_) progress_(set_.file_.size(), set_.file_.size());
    return some_target_ ? Status(Ok{}) : Status(no_example());
  }

 private:
  Status visit(const Line& line) {
    if (progress_ && line.offset >= reported_ + kProgressEvery) {
      reported_ = line.offset;
      progress_(Bytes{reported_}, set_.file_.size());
    }
    if (is_blank(line.text) && !line.too_long) return Ok{};
    ++set_.stats_.lines;
    const Status status = read(line, fmt::format("{}:{}", set_.file_.path(), line.number));
    if (status.ok() || !set_.options_.skip_bad) return status;
    if (set_.stats_.bad++ < kBadNamed) set_.stats_.first_bad.push_back(status.error().message);
    return Ok{};
  }
  Status read(const Line& line, const std::string& what) {
    if (line.too_long) return make_error(ErrorCode::kUnsupported, "{}: longer than {}", what, to_string(kMaxLine));
    const ParsedRecord parsed = AXON_TRY(parse_record(line.text, what, set_.options_.objective, format_));
    const Result<Encoded> encoded = encode_record(*set_.tokenizer_, parsed.record, set_.options_.encode, example_);
    if (!encoded.ok()) {
      return Error{encoded.error().code, fmt::format("{}: {}", what, encoded.error().message)};
    }
    format_ = parsed.format;
    set_.format_ = parsed.format;
    keep(line, Result<Encoded>(encoded).value());
    return Ok{};
  }
  void keep(const Line& line, const Encoded& encoded) {
    DataStats& stats = set_.stats_;
    stats.longest = std::max<std::uint64_t>(stats.longest, encoded.longest);
    stats.truncated += encoded.truncated ? 1 : 0;
    if (!encoded.has_targets) {
      ++(encoded.had_targets ? stats.emptied : stats.without_targets);
      if (!set_.options_.encode.compat) return;  // the original trains on batches of nothing, too
    } else {
      some_target_ = true;
    }
    ++stats.examples;
    for (const TokenSequence& sequence : example_.sequences) {
      stats.tokens += sequence.ids.size();
      stats.targets += count_targets(sequence);
      for (const TokenId id : sequence.ids) stats.highest_id = std::max(stats.highest_id, id);
    }
    Entry& entry = set_.entries_[set_.size_++];
    entry.offset = line.offset;
    entry.hash = hash64(line.text);
    entry.bytes = static_cast<std::uint32_t>(line.text.size());
    entry.line = static_cast<std::uint32_t>(line.number);
    entry.tokens = shape_of(example_, entry.line).tokens;
    set_.fingerprint_ =
        mixed(mixed(set_.fingerprint_, entry.hash), (std::uint64_t{entry.tokens[0]} << 32) | entry.tokens[1]);
  }
  Error no_example() const {
    const DataStats& stats = set_.stats_;
    const std::string& path = set_.file_.path();
    if (stats.lines == 0) return make_error(ErrorCode::kInvalidArgument, "{}: holds no example: it is empty", path);
    std::string why;
    const auto add = [&why](std::uint64_t count, std::string_view what) {
      if (count != 0) why += fmt::format("{}{} {}", why.empty() ? "" : ", ", count, what);
    };
    add(stats.bad, "malformed");
    add(stats.without_targets, "without anything to learn (no answer of the assistant?)");
    add(stats.emptied, fmt::format("whose answers lie beyond {} tokens", set_.options_.encode.max_seq_len));
    return make_error(
        ErrorCode::kInvalidArgument, "{}: no example is left of {} lines: {}{}{}", path, stats.lines, why,
        stats.first_bad.empty() ? "" : "; the first: ", stats.first_bad.empty() ? "" : stats.first_bad.front());
  }

  JsonlExamples& set_;
  const DataProgress& progress_;
  std::optional<DataFormat> format_;
  Example example_;
  std::uint64_t reported_ = 0;
  bool some_target_ = false;
};

Result<Bytes> JsonlExamples::measure(const std::string& path) {
  const LineFile file = AXON_TRY(LineFile::open(path));
  return index_bytes(AXON_TRY(file.count()));
}

Bytes JsonlExamples::index_bytes(std::size_t lines) {
  Carver carver;
  carver.span<Entry>(lines);
  return carver.peak();
}

Result<JsonlExamples> JsonlExamples::open(const std::string& path, const Tokenizer& tokenizer,
                                          const DataOptions& options, Ledger& ledger, const DataProgress& progress) {
  if (options.encode.max_seq_len < 2 || options.encode.max_seq_len > std::numeric_limits<std::int32_t>::max()) {
    return make_error(ErrorCode::kInvalidArgument, "max_seq_len: expected from 2 to {}, came {}",
                      std::numeric_limits<std::int32_t>::max(), options.encode.max_seq_len);
  }
  JsonlExamples set(AXON_TRY(LineFile::open(path)), tokenizer, options);
  const std::uint64_t lines = AXON_TRY(set.file_.count());
  if (lines > kMaxLines)
    return make_error(ErrorCode::kUnsupported, "{}: has {} lines, more than {}", path, lines, kMaxLines);
  set.arena_ = AXON_TRY(Arena::create(ledger, account::kTrainingData, index_bytes(lines)));
  Carver carver = set.arena_.carver();
  set.entries_ = carver.span<Entry>(lines);
  AXON_TRY(Opening(set, progress).run());
  return set;
}

ExampleShape JsonlExamples::shape(std::size_t index) const {
  AXON_CHECK(index < size_);
  return {.line = entries_[index].line, .tokens = entries_[index].tokens};
}

Status JsonlExamples::read(std::size_t index, Example& out) const {
  AXON_CHECK(index < size_);
  const Entry& entry = entries_[index];
  const std::string what = fmt::format("{}:{}", file_.path(), entry.line);
  std::string text;
  AXON_TRY(file_.read(entry.offset, entry.bytes, text));
  if (hash64(text) != entry.hash) {
    return make_error(ErrorCode::kCorrupt, "{}: has changed since the file was opened", what);
  }
  const ParsedRecord parsed = AXON_TRY(parse_record(text, what, options_.objective, format_));
  AXON_TRY(encode_record(*tokenizer_, parsed.record, options_.encode, out));
  AXON_CHECK(shape_of(out, entry.line).tokens == entry.tokens);
  return Ok{};
}

Result<TokenExamples> TokenExamples::create(std::vector<Example> examples, std::size_t max_seq_len, bool pairs) {
  if (examples.empty()) return make_error(ErrorCode::kInvalidArgument, "expected one or more examples, came none");
  if (max_seq_len < 2)
    return make_error(ErrorCode::kInvalidArgument, "max_seq_len: expected 2 or more, came {}", max_seq_len);
  for (std::size_t i = 0; i < examples.size(); ++i) {
    for (std::size_t s = 0; s < 2; ++s) {
      TokenSequence& sequence = examples[i].sequences[s];
      const bool present = s == 0 || pairs;
      if (sequence.ids.size() != sequence.trained.size() ||
          (present ? sequence.ids.size() < 2 : !sequence.ids.empty())) {
        return make_error(ErrorCode::kInvalidArgument,
                          "example {}, sequence {}: expected {} ids and a mask as long, came {} and {}", i, s,
                          present ? "2 or more" : "no", sequence.ids.size(), sequence.trained.size());
      }
      sequence.ids.resize(std::min(sequence.ids.size(), max_seq_len));
      sequence.trained.resize(sequence.ids.size());
    }
  }
  return TokenExamples(std::move(examples), max_seq_len, pairs);
}

ExampleShape TokenExamples::shape(std::size_t index) const {
  return shape_of(examples_[index], static_cast<std::uint32_t>(index + 1));
}

Status TokenExamples::read(std::size_t index, Example& out) const {
  out = examples_[index];
  return Ok{};
}

std::uint64_t TokenExamples::fingerprint() const {
  std::uint64_t hash = max_seq_len_;
  for (const Example& example : examples_) {
    for (const TokenSequence& sequence : example.sequences) {
      hash = mixed(hash, sequence.ids.size());
      for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
        hash = mixed(hash, (std::uint64_t{sequence.trained[t]} << 32) | sequence.ids[t]);
      }
    }
  }
  return hash;
}

}  // namespace axon::train
