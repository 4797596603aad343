#pragma once
// Text to token ids and back: byte-level BPE as in a Hugging Face tokenizer.json, with the same ids.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "memory/arena.h"
#include "memory/ledger.h"
#include "tokenizer/regex.h"
#include "tokenizer/settings.h"
#include "tokenizer/token.h"
#include "tokenizer/token_tables.h"

namespace axon {

// What a tokenizer.json holds, known before anything is loaded.
class TokenizerShape {
 public:
  // Exactly what the loaded tokenizer will take from the ledger.
  Bytes bytes() const;
  std::size_t vocab_size() const { return counts_.ids; }

 private:
  friend class Tokenizer;
  TokenCounts counts_;
  TokenizerSettings settings_;
  bool merges_first_ = false;  // the file names merges before the tokens that they join
  std::string what_;
};

// Whether added tokens that occur in a text become their ids, or are text like any other.
enum class AddedTokens { kRecognised, kPlainText };

// Immutable once loaded; every method may be called from any number of threads.
class Tokenizer {
 public:
  // Reads the file's structure in memory that does not grow with it. `what` names the file in messages. kCorrupt or
  // kUnsupported says which field or entry, and why; files over 256 MiB are kUnsupported.
  static Result<TokenizerShape> measure(std::string_view text, std::string_view what);
  // Takes shape.bytes() from the ledger (account::kTokenizer) and fills them. `text` is what was measured and is not
  // needed afterwards. kOverBudget if the ledger refuses; kCorrupt for repeated, missing or inconsistent entries.
  static Result<Tokenizer> load(std::string_view text, const TokenizerShape& shape, Ledger& ledger);

  // Appends the ids of `text`, at most 1 GiB of it. Invalid UTF-8 is kInvalidArgument with the offset of the first bad
  // byte; after an error `out` is as it was. Memory: about 60 bytes for each byte of the longest piece.
  Status encode(std::string_view text, std::vector<TokenId>& out, AddedTokens added = AddedTokens::kRecognised) const;

  // From here on encode() refuses (kInvalidArgument) a text with a longer piece, so that its memory has a bound.
  void limit_pieces(std::size_t bytes_max) { piece_bytes_max_ = bytes_max; }

  // The text of the tokens, bytes that are not UTF-8 as U+FFFD. Ids that are no token have no text.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;
  // The bytes that a token stands for: possibly part of a character. Empty for an id that is none.
  std::string_view token_bytes(TokenId id) const { return tables_.text(id); }
  std::size_t longest_token() const { return longest_token_; }  // bytes

  std::size_t vocab_size() const { return tables_.ids(); }  // 1 + the highest id
  bool is_special(TokenId id) const { return tables_.is_special(id); }
  // The added token with this content.
  std::optional<TokenId> find_special(std::string_view content) const { return tables_.find_added(content); }
  // What ends an answer: <|im_end|>, else </s>.
  std::optional<TokenId> eos_id() const;
  // Everything that ends a text: those of <|im_end|>, <|endoftext|> and </s> that exist.
  std::vector<TokenId> stop_ids() const;

 private:
  Tokenizer() = default;
  std::optional<TokenId> find_token(std::string_view text) const;

  Arena arena_;
  TokenTables tables_;
  std::vector<Regex> splits_;
  bool nfc_ = false;
  bool ignore_merges_ = false;
  std::size_t longest_token_ = 0;
  std::size_t piece_bytes_max_ = static_cast<std::size_t>(-1);
};

}  // namespace axon
