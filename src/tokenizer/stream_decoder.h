#pragma once
// Tokens to text, one token at a time: what is complete comes out, half a character waits for the next token.

#include <cstddef>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace axon {

// All the pieces and the flush together are decode() of all the tokens. Allocates when made, never afterwards. The
// tokenizer must outlive it. For one sequence, from one thread.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);

  // The text that is complete with this token, often empty; whole characters only. Valid until the next call.
  std::string_view push(TokenId id);
  // What is left at the end: U+FFFD for a character that stayed incomplete. The decoder is then as new.
  std::string_view flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::vector<char> bytes_;  // waiting, then the token's; [3 + longest token]
  std::vector<char> text_;   // [3 * bytes_.size()]
  std::size_t waiting_ = 0;  // bytes of an incomplete character, at most 3
};

}  // namespace axon
