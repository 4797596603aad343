// Any bytes as a safetensors file: an error, or tensors that lie inside the bytes and can be read.

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "io/safetensors.h"

// A read that the compiler may not leave out.
static void touch(const std::byte& b) { static_cast<void>(*const_cast<const volatile std::byte*>(&b)); }

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes = std::as_bytes(std::span(data, size));
  auto result = axon::Safetensors::parse(bytes, "fuzz");
  if (!result.ok()) return 0;
  std::uint64_t total = 0;
  for (const auto& [name, view] : result.value().tensors()) {
    AXON_CHECK(axon::packed_bytes(view.dtype, view.shape.elements()) == view.bytes.size());
    total += view.bytes.size();
    if (view.bytes.empty()) continue;
    touch(view.bytes.front());
    touch(view.bytes.back());
  }
  AXON_CHECK(total <= size);
  return 0;
}
