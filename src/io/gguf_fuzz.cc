// Any bytes as a GGUF file: an error, or values and tensors that lie inside the bytes and can be read.

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "io/gguf.h"

// A read that the compiler may not leave out.
static void touch(const std::byte& b) { static_cast<void>(*const_cast<const volatile std::byte*>(&b)); }

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes = std::as_bytes(std::span(data, size));
  auto result = axon::Gguf::parse(bytes, "fuzz");
  if (!result.ok()) {
    AXON_CHECK(result.error().message.starts_with("fuzz: "));
    return 0;
  }
  const axon::Gguf gguf = std::move(result).value();
  std::uint64_t total = 0;
  for (const axon::GgufTensor& tensor : gguf.tensors()) {
    AXON_CHECK(tensor.type->bytes(tensor.elements()) == tensor.bytes.size());
    AXON_CHECK(gguf.find_tensor(tensor.name) == &tensor);
    total += tensor.bytes.size();
    if (tensor.bytes.empty()) continue;
    AXON_CHECK(tensor.bytes.data() >= bytes.data() && tensor.bytes.size() <= size);
    touch(tensor.bytes.front());
    touch(tensor.bytes.back());
  }
  AXON_CHECK(total <= size);
  for (const auto& [key, value] : gguf.metadata()) {
    AXON_CHECK(gguf.find(key) == &value && !value.brief().empty());
    AXON_CHECK(value.array_size().value_or(0) <= size);
    if (const auto list = value.wholes()) AXON_CHECK(list->size() == value.array_size());
  }
  return 0;
}
