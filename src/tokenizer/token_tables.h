#pragma once
// What a loaded tokenizer holds, as flat arrays carved from one piece of memory: token texts, a hash table from text to
// id, a hash table of merges, and the added tokens in lexical order.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "memory/arena.h"
#include "tokenizer/token.h"

namespace axon {

// How much of everything there is. Known before anything is allocated.
struct TokenCounts {
  std::uint64_t ids = 0;            // 1 + the highest id
  std::uint64_t vocab_entries = 0;  // in the vocabulary
  std::uint64_t merges = 0;
  std::uint64_t added_tokens = 0;
  std::uint64_t text_bytes = 0;  // of all tokens, added ones included
};

// Joining two tokens: `value` is rank + 1 in the upper half, the joined token in the lower; 0 where there is none.
// The smaller value is the merge that comes first.
struct Merge {
  std::uint64_t pair = 0;  // left << 32 | right
  std::uint64_t value = 0;
};

struct AddedToken {
  TokenId id;
  std::uint32_t start;  // of its text
  std::uint32_t length;
  std::uint32_t special;
};

class TokenTables {
 public:
  TokenTables() = default;
  // The same code measures and allocates.
  TokenTables(Carver& carver, const TokenCounts& counts);

  std::size_t ids() const { return texts_.size(); }
  // The bytes that a token stands for; empty for an id that is none.
  std::string_view text(TokenId id) const { return id < texts_.size() ? view(texts_[id]) : std::string_view(); }
  bool is_special(TokenId id) const { return id < flags_.size() && (flags_[id] & kSpecial) != 0; }
  bool is_added(TokenId id) const { return id < flags_.size() && (flags_[id] & kAdded) != 0; }
  TokenId byte_token(unsigned char byte) const { return byte_tokens_[byte]; }

  // The vocabulary's token with exactly these bytes.
  std::optional<TokenId> find(std::string_view bytes) const;
  // Merge::value, 0 if the two do not merge.
  std::uint64_t merge_value(TokenId left, TokenId right) const;

  std::optional<TokenId> find_added(std::string_view content) const;
  // The longest added token that `text` starts with.
  std::optional<AddedToken> added_prefix(std::string_view text) const;
  bool may_start_added(char byte) const { return added_starts_[static_cast<unsigned char>(byte)] != 0; }
  std::string_view content(const AddedToken& token) const { return {texts_pool_.data() + token.start, token.length}; }
  std::size_t longest_text() const;

  // Filling: vocabulary and added tokens, then finish_tokens(); merges once the vocabulary is there, then
  // finish_merges(). kCorrupt or kUnsupported names what is wrong; more of anything than was counted is kCorrupt, for a
  // mapped file can change under us.
  Status add_vocab_entry(std::string_view spelling, TokenId id);
  Status add_added_token(std::string_view content, TokenId id, bool special);
  Status finish_tokens();
  Status add_merge(std::string_view left, std::string_view right);
  Status finish_merges() const;

 private:
  enum Flag : std::uint8_t { kTaken = 1, kAdded = 2, kSpecial = 4, kNotSpelled = 8 };
  struct Text {
    std::uint32_t start;
    std::uint32_t length;
  };

  std::string_view view(Text text) const { return {texts_pool_.data() + text.start, text.length}; }
  Result<TokenId> merge_part(std::string_view spelling) const;
  Status index_added();
  Status settle_added(const AddedToken& token);
  Status find_byte_tokens();

  std::span<Text> texts_;             // [ids]
  std::span<std::uint8_t> flags_;     // [ids]
  std::span<char> texts_pool_;        // [text_bytes]
  std::span<std::uint32_t> by_text_;  // id + 1, or 0
  std::span<Merge> merges_;
  std::span<AddedToken> added_;           // in lexical order of content, after finish_tokens()
  std::span<TokenId> byte_tokens_;        // [256]
  std::span<std::uint8_t> added_starts_;  // [256]
  std::uint64_t pool_used_ = 0, added_used_ = 0, merges_used_ = 0, vocab_used_ = 0;
  std::uint64_t merges_expected_ = 0, vocab_expected_ = 0;
};

}  // namespace axon
