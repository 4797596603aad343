#pragma once
// ChatML, the form of conversation that the model was trained on. No system prompt is added.

#include <span>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace axon {

struct Message {
  std::string role;  // "system", "user", "assistant"; any other goes through as it is
  std::string content;
};

// "<|im_start|>role\ncontent<|im_end|>\n" for every message, then "<|im_start|>assistant\n" if an answer is to follow.
std::string render_chat(std::span<const Message> messages, bool add_generation_prompt);

// Appends the ids of the rendered chat. With kRecognised the rendered string is encoded as it is, so a "<|im_end|>" in
// a message ends it. With kPlainText roles and contents are text whatever they hold; where they hold no added token the
// ids are the same. That needs <|im_start|> and <|im_end|> as added tokens, otherwise it is kUnsupported. After an
// error `out` is as it was.
Status encode_chat(const Tokenizer& tokenizer, std::span<const Message> messages, bool add_generation_prompt,
                   std::vector<TokenId>& out, AddedTokens in_content = AddedTokens::kRecognised);

}  // namespace axon
