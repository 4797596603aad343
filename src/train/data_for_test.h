#pragma once
// What the tests of training data share: a byte tokenizer with ChatML's tokens, and examples made of numbers.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_file_for_test.h"
#include "train/data.h"

namespace axon::train::testing {

template <class T>
T ok(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return std::move(result).value();
}

inline constexpr TokenId kStart = 257, kEnd = 258;

// Every byte is a token; "ab" is one too (256), then <|im_start|> and <|im_end|>.
class ByteTokenizer {
 public:
  explicit ByteTokenizer(std::vector<std::string> added = {"<|im_start|>", "<|im_end|>"}) {
    axon::testing::TokenizerFile file;
    file.merges = {{"a", "b"}};
    file.added = std::move(added);
    const std::string json = file.json();
    const TokenizerShape shape = ok(Tokenizer::measure(json, "test"));
    tokenizer_.emplace(ok(Tokenizer::load(json, shape, ledger_)));
  }
  const Tokenizer& operator*() const { return *tokenizer_; }

 private:
  Ledger ledger_{16_MiB};
  std::optional<Tokenizer> tokenizer_;
};

// The text of a sequence with what is learned in [brackets].
inline std::string marked(const Tokenizer& tokenizer, const TokenSequence& sequence) {
  std::string out;
  bool inside = false;
  for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
    const bool trained = sequence.trained[t] != 0;
    if (trained != inside) out += trained ? "[" : "]";
    inside = trained;
    out += tokenizer.token_bytes(sequence.ids[t]);
  }
  return out + (inside ? "]" : "");
}

// `length` ids that no other example has, the first `masked` of them not learned.
inline TokenSequence numbered(TokenId first, std::size_t length, std::size_t masked) {
  TokenSequence out;
  for (std::size_t t = 0; t < length; ++t) {
    out.ids.push_back(first + static_cast<TokenId>(t));
    out.trained.push_back(t < masked ? 0 : 1);
  }
  return out;
}

}  // namespace axon::train::testing
