#pragma once
// The header of one GGUF file: from bytes to checked values and tensors. gguf.h is the door for everyone else.

#include <cstddef>
#include <span>
#include <string_view>

#include "io/gguf.h"

namespace axon {

struct GgufHeader {
  Gguf::Tensors tensors;  // in the file's order, no name twice; shard is 0
  Gguf::Metadata metadata;
  std::span<const std::byte> text;  // the header's bytes in the file
};

// Checks the whole header against the size of `bytes` (a whole file), and that tensors lie inside without overlaps.
// Does not read the data section. Errors as in Gguf::open, `what` and the field's name in front.
Result<GgufHeader> parse_gguf_header(std::span<const std::byte> bytes, std::string_view what);

}  // namespace axon
