#include "tokenizer/stream_decoder.h"

#include <algorithm>

#include "base/utf8.h"

namespace axon {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      bytes_(3 + tokenizer.longest_token()),
      text_(utf8::kReplacement.size() * bytes_.size()) {}

std::string_view StreamDecoder::push(TokenId id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  const std::string_view token = tokenizer_->token_bytes(id);
  AXON_CHECK(waiting_ + token.size() <= bytes_.size());
  std::copy(token.begin(), token.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(waiting_));
  const std::string_view bytes(bytes_.data(), waiting_ + token.size());
  const utf8::Converted done = utf8::convert(bytes, text_.data());
  waiting_ = bytes.size() - done.read;
  std::copy(bytes.end() - static_cast<std::ptrdiff_t>(waiting_), bytes.end(), bytes_.begin());
  return {text_.data(), done.written};
}

std::string_view StreamDecoder::flush() {
  const bool incomplete = waiting_ > 0;
  waiting_ = 0;
  return incomplete ? utf8::kReplacement : std::string_view();
}

}  // namespace axon
