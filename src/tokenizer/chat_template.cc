#include "tokenizer/chat_template.h"

namespace axon {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";
constexpr std::string_view kAnswer = "assistant\n";

// Added tokens cut a text into segments that know nothing of each other, so segments may be encoded one by one.
Status encode_segments(const Tokenizer& tokenizer, std::span<const Message> messages, bool add_generation_prompt,
                       std::vector<TokenId>& out) {
  const auto start = tokenizer.find_special(kStart);
  const auto end = tokenizer.find_special(kEnd);
  if (!start || !end) {
    return make_error(ErrorCode::kUnsupported, "the tokenizer has no added token {}: messages cannot be kept apart",
                      start ? kEnd : kStart);
  }
  for (const Message& message : messages) {
    out.push_back(*start);
    AXON_TRY(tokenizer.encode(message.role + "\n" + message.content, out, AddedTokens::kPlainText));
    out.push_back(*end);
    AXON_TRY(tokenizer.encode("\n", out, AddedTokens::kPlainText));
  }
  if (!add_generation_prompt) return Ok{};
  out.push_back(*start);
  return tokenizer.encode(kAnswer, out, AddedTokens::kPlainText);
}

}  // namespace

std::string render_chat(std::span<const Message> messages, bool add_generation_prompt) {
  std::string text;
  for (const Message& message : messages) {
    text += fmt::format("{}{}\n{}{}\n", kStart, message.role, message.content, kEnd);
  }
  if (add_generation_prompt) text += fmt::format("{}{}", kStart, kAnswer);
  return text;
}

Status encode_chat(const Tokenizer& tokenizer, std::span<const Message> messages, bool add_generation_prompt,
                   std::vector<TokenId>& out, AddedTokens in_content) {
  if (in_content == AddedTokens::kRecognised)
    return tokenizer.encode(render_chat(messages, add_generation_prompt), out);
  const std::size_t before = out.size();
  Status status = encode_segments(tokenizer, messages, add_generation_prompt, out);
  if (!status.ok()) out.resize(before);
  return status;
}

}  // namespace axon
