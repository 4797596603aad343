// A tokenizer.json of any bytes: it is refused, or it encodes and decodes text without a loss.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

using namespace axon;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  auto shape = Tokenizer::measure(json, "fuzz");
  if (!shape.ok()) return 0;
  // What it plans is about what it was given.
  AXON_CHECK(shape.value().bytes().count <= 8 * size + 8192);
  Ledger ledger(16_MiB);
  auto loaded = Tokenizer::load(json, shape.value(), ledger);
  if (!loaded.ok()) return 0;
  const Tokenizer tokenizer = std::move(loaded).value();
  AXON_CHECK(ledger.used() == shape.value().bytes());

  // In form C already, so that it comes back whether or not the file asks for that.
  constexpr std::string_view kText =
      "Hello, w\u00f6rld! 123  <|im_start|>it's\r\n\n \u4e2d\u6587 \U0001F600 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ";
  std::vector<TokenId> ids;
  if (!tokenizer.encode(kText, ids).ok()) return 0;  // a split pattern may take too many steps
  AXON_CHECK(tokenizer.decode(ids, false) == kText);
  StreamDecoder decoder(tokenizer, false);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  text += decoder.flush();
  AXON_CHECK(text == kText);
  return 0;
}
