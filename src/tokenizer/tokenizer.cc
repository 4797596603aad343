#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "base/utf8.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/normalize.h"
#include "tokenizer/tokenizer_json.h"

namespace axon {
namespace {

constexpr std::size_t kMaxText = std::size_t{1} << 30;

// Pass 1: counts.
class Count : public TokenSink {
 public:
  TokenCounts counts;
  Status vocab_entry(std::string_view spelling, TokenId id) override {
    ++counts.vocab_entries;
    return token(byte_length(spelling), id);
  }
  Status merge(std::string_view, std::string_view) override { return ++counts.merges, Ok{}; }
  Status added_token(std::string_view content, TokenId id, bool) override {
    ++counts.added_tokens;
    return token(content.size(), id);
  }

 private:
  static std::size_t byte_length(std::string_view spelling) {
    return byte_level::to_bytes(spelling, nullptr).value_or(spelling.size());
  }
  Status token(std::size_t bytes, TokenId id) {
    counts.text_bytes += bytes;
    counts.ids = std::max<std::uint64_t>(counts.ids, id + std::uint64_t{1});
    return Ok{};
  }
};

// Pass 2: fills the tables. Merges wait for another pass if their tokens are not there yet.
class Fill : public TokenSink {
 public:
  enum class Part { kAll, kTokens, kMerges };
  Fill(TokenTables& tables, Part part) : tables_(tables), part_(part) {}

  Status vocab_entry(std::string_view spelling, TokenId id) override {
    if (part_ == Part::kMerges) return Ok{};
    return tables_.add_vocab_entry(spelling, id);
  }
  Status merge(std::string_view left, std::string_view right) override {
    if (part_ == Part::kTokens) return Ok{};
    return tables_.add_merge(left, right);
  }
  Status added_token(std::string_view content, TokenId id, bool special) override {
    if (part_ == Part::kMerges) return Ok{};
    return tables_.add_added_token(content, id, special);
  }

 private:
  TokenTables& tables_;
  Part part_;
};

Error named(std::string_view what, const Error& error) { return make_error(error.code, "{}: {}", what, error.message); }

Status fill(std::string_view text, std::string_view what, bool merges_first, TokenTables& tables) {
  const auto pass = [&](Fill::Part part) {
    Fill sink(tables, part);
    TokenizerJson json(sink);
    return read_json(text, what, json);
  };
  AXON_TRY(pass(merges_first ? Fill::Part::kTokens : Fill::Part::kAll));
  if (const Status status = tables.finish_tokens(); !status.ok()) return named(what, status.error());
  if (merges_first) AXON_TRY(pass(Fill::Part::kMerges));
  if (const Status status = tables.finish_merges(); !status.ok()) return named(what, status.error());
  return Ok{};
}

// One call of encode(): splits the text further and further, and gives the pieces to the BPE.
class Encoder {
 public:
  Encoder(const TokenTables& tables, std::span<const Regex> splits, bool nfc, bool ignore_merges,
          std::size_t piece_bytes_max, std::vector<TokenId>& out)
      : tables_(tables),
        splits_(splits),
        nfc_(nfc),
        ignore_merges_(ignore_merges),
        piece_bytes_max_(piece_bytes_max),
        out_(out) {}

  // Cuts out the added tokens: leftmost first, of those the longest.
  Status text(std::string_view text) {
    std::size_t start = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto token = tables_.may_start_added(text[at]) ? tables_.added_prefix(text.substr(at)) : std::nullopt;
      if (!token) {
        ++at;
        continue;
      }
      AXON_TRY(segment(text.substr(start, at - start)));
      out_.push_back(token->id);
      at += token->length;
      start = at;
    }
    return segment(text.substr(start));
  }

  // Text without added tokens.
  Status segment(std::string_view text) {
    if (text.empty()) return Ok{};
    return split(0, nfc_ ? AXON_TRY(normalize_nfc(text, normalized_)) : text);
  }

 private:
  // Every match is a piece, and so is what lies between two matches.
  Status split(std::size_t level, std::string_view text) {
    if (level == splits_.size()) return piece(text);
    for (std::size_t at = 0; at < text.size();) {
      const Regex::Match match = AXON_TRY(splits_[level].search(text, at, scratch_));
      if (match.begin > at) AXON_TRY(split(level + 1, text.substr(at, match.begin - at)));
      if (match.end > match.begin) AXON_TRY(split(level + 1, text.substr(match.begin, match.end - match.begin)));
      at = match.end;
    }
    return Ok{};
  }

  Status piece(std::string_view bytes) {
    if (bytes.size() > piece_bytes_max_) {
      return make_error(ErrorCode::kInvalidArgument,
                        "the text has a stretch of {} bytes without a place to split it; at most {} can be encoded in "
                        "the memory that is planned for it",
                        bytes.size(), piece_bytes_max_);
    }
    if (ignore_merges_) {
      const auto id = tables_.find(bytes);
      if (id && !tables_.is_added(*id)) return out_.push_back(*id), Ok{};
    }
    bpe_encode(tables_, bytes, bpe_, out_);
    return Ok{};
  }

  const TokenTables& tables_;
  std::span<const Regex> splits_;
  bool nfc_;
  bool ignore_merges_;
  std::size_t piece_bytes_max_;
  std::vector<TokenId>& out_;
  RegexScratch scratch_;
  BpeScratch bpe_;
  std::string normalized_;
};

}  // namespace

Bytes TokenizerShape::bytes() const {
  Carver carver;
  TokenTables measured(carver, counts_);
  return carver.peak();
}

Result<TokenizerShape> Tokenizer::measure(std::string_view text, std::string_view what) {
  if (text.size() > kMaxTokenizerFile) {
    return make_error(ErrorCode::kUnsupported, "{}: {} is too large for a tokenizer", what,
                      to_string(Bytes{text.size()}));
  }
  Count count;
  TokenizerJson json(count);
  AXON_TRY(read_json(text, what, json));
  if (const Status status = json.complete(); !status.ok()) return named(what, status.error());
  Result<TokenizerSettings> settings = interpret_settings(json.settings());
  if (!settings.ok()) return named(what, settings.error());
  const TokenCounts& counts = count.counts;
  if (counts.ids > counts.vocab_entries + counts.added_tokens) {
    return make_error(ErrorCode::kCorrupt, "{}: ids go up to {}, but there are only {} tokens: the ids have holes",
                      what, counts.ids - 1, counts.vocab_entries + counts.added_tokens);
  }
  TokenizerShape shape;
  shape.counts_ = counts;
  shape.settings_ = std::move(settings).value();
  shape.merges_first_ = json.merges_first();
  shape.what_ = what;
  return shape;
}

Result<Tokenizer> Tokenizer::load(std::string_view text, const TokenizerShape& shape, Ledger& ledger) {
  Tokenizer tokenizer;
  tokenizer.arena_ = AXON_TRY(Arena::create(ledger, account::kTokenizer, shape.bytes()));
  Carver carver = tokenizer.arena_.carver();
  tokenizer.tables_ = TokenTables(carver, shape.counts_);
  AXON_TRY(fill(text, shape.what_, shape.merges_first_, tokenizer.tables_));
  for (const std::string& pattern : shape.settings_.split_patterns) {
    Result<Regex> regex = Regex::compile(pattern);
    if (!regex.ok()) return named(shape.what_, regex.error());
    tokenizer.splits_.push_back(std::move(regex).value());
  }
  tokenizer.nfc_ = shape.settings_.nfc;
  tokenizer.ignore_merges_ = shape.settings_.ignore_merges;
  tokenizer.longest_token_ = tokenizer.tables_.longest_text();
  return tokenizer;
}

Status Tokenizer::encode(std::string_view text, std::vector<TokenId>& out, AddedTokens added) const {
  if (text.size() > kMaxText) {
    return make_error(ErrorCode::kInvalidArgument, "the text has {}, more than {}", to_string(Bytes{text.size()}),
                      to_string(Bytes{kMaxText}));
  }
  if (const auto at = utf8::first_error(text)) {
    return make_error(ErrorCode::kInvalidArgument, "the text is not valid UTF-8 at byte {}", *at);
  }
  const std::size_t before = out.size();
  Encoder encoder(tables_, splits_, nfc_, ignore_merges_, piece_bytes_max_, out);
  Status status = added == AddedTokens::kRecognised ? encoder.text(text) : encoder.segment(text);
  if (!status.ok()) out.resize(before);
  return status;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  if (!utf8::first_error(bytes)) return bytes;
  std::string text(bytes.size() * utf8::kReplacement.size(), '\0');
  const utf8::Converted done = utf8::convert(bytes, text.data());
  text.resize(done.written);
  if (done.read < bytes.size()) text += utf8::kReplacement;
  return text;
}

std::optional<TokenId> Tokenizer::find_token(std::string_view text) const {
  const auto added = tables_.find_added(text);
  return added ? added : tables_.find(text);
}

std::optional<TokenId> Tokenizer::eos_id() const {
  const auto im_end = find_token("<|im_end|>");
  return im_end ? im_end : find_token("</s>");
}

std::vector<TokenId> Tokenizer::stop_ids() const {
  std::vector<TokenId> ids;
  for (const char* text : {"<|im_end|>", "<|endoftext|>", "</s>"}) {
    if (const auto id = find_token(text)) ids.push_back(*id);
  }
  return ids;
}

}  // namespace axon
