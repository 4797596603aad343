#include "tokenizer/token_tables.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/random.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/settings.h"

namespace axon {
namespace {

// Open addressing at a load of at most 2/3.
std::uint64_t slots_for(std::uint64_t entries) { return entries + entries / 2 + 1; }

// A file made so that all its entries collide is refused, not endured: honest tables stay far below.
constexpr std::size_t kMaxProbe = 2048;

std::size_t slot_of(std::uint64_t hash, std::size_t slots) {
  return static_cast<std::size_t>((hash >> 32) * slots >> 32);
}

std::uint64_t hash_text(std::string_view text) {
  std::uint64_t h = text.size() * 0x9E3779B97F4A7C15ull;
  while (text.size() > 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data(), 8);
    h = mix64(h ^ word);
    text.remove_prefix(8);
  }
  std::uint64_t word = 0;
  std::memcpy(&word, text.data(), text.size());
  return mix64(h ^ word);
}

std::uint64_t pair_of(TokenId left, TokenId right) { return std::uint64_t{left} << 32 | right; }

std::uint64_t hash_pair(std::uint64_t pair) {
  pair = (pair ^ (pair >> 29)) * 0x9E3779B97F4A7C15ull;
  return pair ^ (pair << 32);
}

Error changed() { return {ErrorCode::kCorrupt, "the file changed while it was read"}; }
Error colliding() { return {ErrorCode::kCorrupt, "its entries are made to collide in the hash table"}; }

}  // namespace

TokenTables::TokenTables(Carver& carver, const TokenCounts& counts)
    : texts_(carver.span<Text>(counts.ids)),
      flags_(carver.span<std::uint8_t>(counts.ids)),
      texts_pool_(carver.span<char>(counts.text_bytes)),
      by_text_(carver.span<std::uint32_t>(slots_for(counts.vocab_entries))),
      merges_(carver.span<Merge>(slots_for(counts.merges))),
      added_(carver.span<AddedToken>(counts.added_tokens)),
      byte_tokens_(carver.span<TokenId>(256)),
      added_starts_(carver.span<std::uint8_t>(256)),
      merges_expected_(counts.merges),
      vocab_expected_(counts.vocab_entries) {}

std::optional<TokenId> TokenTables::find(std::string_view bytes) const {
  std::size_t slot = slot_of(hash_text(bytes), by_text_.size());
  for (; by_text_[slot] != 0; slot = slot + 1 == by_text_.size() ? 0 : slot + 1) {
    const TokenId id = by_text_[slot] - 1;
    if (view(texts_[id]) == bytes) return id;
  }
  return std::nullopt;
}

std::uint64_t TokenTables::merge_value(TokenId left, TokenId right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t slot = slot_of(hash_pair(pair), merges_.size());
  while (merges_[slot].value != 0 && merges_[slot].pair != pair) slot = slot + 1 == merges_.size() ? 0 : slot + 1;
  return merges_[slot].value;
}

std::optional<TokenId> TokenTables::find_added(std::string_view content) const {
  const auto at = std::lower_bound(added_.begin(), added_.end(), content,
                                   [this](const AddedToken& a, std::string_view b) { return this->content(a) < b; });
  if (at == added_.end() || this->content(*at) != content) return std::nullopt;
  return at->id;
}

// Narrows the range of tokens that share a prefix with the text, a byte at a time. Of these the shortest comes first.
std::optional<AddedToken> TokenTables::added_prefix(std::string_view text) const {
  std::optional<AddedToken> best;
  auto begin = added_.begin();
  auto end = added_.end();
  for (std::size_t depth = 0; depth < text.size() && begin != end; ++depth) {
    const auto byte = static_cast<unsigned char>(text[depth]);
    const auto at_depth = [this, depth](const AddedToken& token) {
      return token.length > depth ? static_cast<unsigned char>(content(token)[depth]) : -1;
    };
    begin = std::partition_point(begin, end, [&](const AddedToken& token) { return at_depth(token) < byte; });
    end = std::partition_point(begin, end, [&](const AddedToken& token) { return at_depth(token) == byte; });
    if (begin != end && begin->length == depth + 1) best = *begin;
  }
  return best;
}

std::size_t TokenTables::longest_text() const {
  std::size_t longest = 0;
  for (const Text& text : texts_) longest = std::max<std::size_t>(longest, text.length);
  return longest;
}

Status TokenTables::add_vocab_entry(std::string_view spelling, TokenId id) {
  if (id >= ids() || vocab_used_++ == vocab_expected_) return changed();
  if ((flags_[id] & kTaken) != 0) {
    return make_error(ErrorCode::kCorrupt, "id {} is given twice, also to {}", id, quote_briefly(spelling));
  }
  // An added token may hold characters that spell no bytes; any other such entry is refused in finish_tokens().
  const auto length = byte_level::to_bytes(spelling, nullptr);
  const std::size_t size = length.value_or(spelling.size());
  if (size > texts_pool_.size() - pool_used_) return changed();
  char* out = texts_pool_.data() + pool_used_;
  if (length) {
    byte_level::to_bytes(spelling, out);
  } else {
    std::memcpy(out, spelling.data(), size);
  }
  const std::string_view text(out, size);
  texts_[id] = {static_cast<std::uint32_t>(pool_used_), static_cast<std::uint32_t>(size)};
  flags_[id] = length ? kTaken : kTaken | kNotSpelled;
  pool_used_ += size;
  if (!length) return Ok{};

  std::size_t slot = slot_of(hash_text(text), by_text_.size());
  for (std::size_t probe = 0; by_text_[slot] != 0; slot = slot + 1 == by_text_.size() ? 0 : slot + 1) {
    if (view(texts_[by_text_[slot] - 1]) == text) {
      return make_error(ErrorCode::kCorrupt, "token {} is there twice, with ids {} and {}", quote_briefly(spelling),
                        by_text_[slot] - 1, id);
    }
    if (++probe == kMaxProbe) return colliding();
  }
  by_text_[slot] = id + 1;
  return Ok{};
}

Status TokenTables::add_added_token(std::string_view content, TokenId id, bool special) {
  if (id >= ids() || added_used_ == added_.size() || content.size() > texts_pool_.size() - pool_used_) return changed();
  std::memcpy(texts_pool_.data() + pool_used_, content.data(), content.size());
  added_[added_used_++] = {id, static_cast<std::uint32_t>(pool_used_), static_cast<std::uint32_t>(content.size()),
                           special ? 1u : 0u};
  pool_used_ += content.size();
  return Ok{};
}

Status TokenTables::finish_tokens() {
  if (vocab_used_ != vocab_expected_) return changed();
  AXON_TRY(index_added());
  for (const AddedToken& token : added_) AXON_TRY(settle_added(token));
  for (TokenId id = 0; id < ids(); ++id) {
    if ((flags_[id] & kTaken) == 0)
      return make_error(ErrorCode::kCorrupt, "no token has id {}: the ids have a hole", id);
    if ((flags_[id] & kNotSpelled) != 0 && (flags_[id] & kAdded) == 0) {
      return make_error(ErrorCode::kUnsupported, "token {} (id {}) is not spelled in the byte-level alphabet",
                        quote_briefly(text(id)), id);
    }
  }
  return find_byte_tokens();
}

Status TokenTables::index_added() {
  if (added_used_ != added_.size()) return changed();
  const auto before = [this](const AddedToken& a, const AddedToken& b) { return content(a) < content(b); };
  std::sort(added_.begin(), added_.end(), before);
  for (std::size_t i = 1; i < added_.size(); ++i) {
    if (content(added_[i - 1]) == content(added_[i])) {
      return make_error(ErrorCode::kCorrupt, "added token {} is there twice", quote_briefly(content(added_[i])));
    }
  }
  for (const AddedToken& token : added_) added_starts_[static_cast<unsigned char>(content(token)[0])] = 1;
  return Ok{};
}

// Gives an added token its id, which may be one that the vocabulary gave to the same text, and to no other.
Status TokenTables::settle_added(const AddedToken& token) {
  const std::string_view content = this->content(token);
  std::string bytes(content.size(), '\0');
  const auto length = byte_level::to_bytes(content, bytes.data());
  if (length && std::string_view(bytes).substr(0, *length) != content) {
    return make_error(ErrorCode::kUnsupported, "added token {} is also the byte-level spelling of another text",
                      quote_briefly(content));
  }
  const auto in_vocab = length ? find(content) : std::nullopt;
  const bool taken = (flags_[token.id] & kTaken) != 0;
  if (taken && (view(texts_[token.id]) != content || (!length && (flags_[token.id] & kNotSpelled) == 0))) {
    return make_error(ErrorCode::kCorrupt, "added token {} has id {}, which is {}'s", quote_briefly(content), token.id,
                      quote_briefly(view(texts_[token.id])));
  }
  if (in_vocab && *in_vocab != token.id) {
    return make_error(ErrorCode::kCorrupt, "added token {} has id {}, but {} in the vocabulary", quote_briefly(content),
                      token.id, *in_vocab);
  }
  texts_[token.id] = {token.start, token.length};
  flags_[token.id] =
      static_cast<std::uint8_t>(flags_[token.id] | kTaken | kAdded | (token.special != 0 ? kSpecial : 0));
  return Ok{};
}

Status TokenTables::find_byte_tokens() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const auto id = find({&c, 1});
    if (!id) {
      return make_error(ErrorCode::kCorrupt, "the vocabulary lacks {}, the token of byte {}: not every text has ids",
                        quote_briefly(byte_level::spelling(static_cast<unsigned char>(byte))), byte);
    }
    byte_tokens_[byte] = *id;
  }
  return Ok{};
}

Result<TokenId> TokenTables::merge_part(std::string_view spelling) const {
  std::string bytes(spelling.size(), '\0');
  const auto length = byte_level::to_bytes(spelling, bytes.data());
  const auto id = length ? find(std::string_view(bytes).substr(0, *length)) : std::nullopt;
  if (!id) {
    return make_error(ErrorCode::kCorrupt, "merge {} has {}, which is not in the vocabulary", merges_used_,
                      quote_briefly(spelling));
  }
  return *id;
}

Status TokenTables::add_merge(std::string_view left, std::string_view right) {
  if (merges_used_ == merges_expected_) return changed();
  const std::uint64_t pair = pair_of(AXON_TRY(merge_part(left)), AXON_TRY(merge_part(right)));
  const TokenId joined = AXON_TRY(merge_part(std::string(left) + std::string(right)));
  std::size_t slot = slot_of(hash_pair(pair), merges_.size());
  for (std::size_t probe = 0; merges_[slot].value != 0; slot = slot + 1 == merges_.size() ? 0 : slot + 1) {
    if (merges_[slot].pair == pair) {
      return make_error(ErrorCode::kCorrupt, "merge {} of {} and {} repeats merge {}", merges_used_,
                        quote_briefly(left), quote_briefly(right), (merges_[slot].value >> 32) - 1);
    }
    if (++probe == kMaxProbe) return colliding();
  }
  merges_[slot] = {pair, (merges_used_ + 1) << 32 | joined};
  ++merges_used_;
  return Ok{};
}

Status TokenTables::finish_merges() const {
  if (merges_used_ != merges_expected_) return changed();
  return Ok{};
}

}  // namespace axon
