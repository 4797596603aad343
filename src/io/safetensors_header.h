#pragma once
// The header of one safetensors file: from bytes to checked tensor views. safetensors.h is the door for everyone else.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "io/safetensors.h"

namespace axon {

struct SafetensorsHeader {
  Safetensors::Tensors tensors;  // TensorView::file is null
  Safetensors::Metadata metadata;
  std::span<const std::byte> text;  // the header's bytes in the file, length field included
};

// Checks the whole header against the size of `bytes` (a whole file), and that the tensors cover the data section
// without holes or overlaps. Does not read the data section. Errors as in Safetensors::open, `what` in front.
Result<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> bytes, std::string_view what);

// `name` in quotes for a message: escaped, and cut where it is very long.
std::string quoted(std::string_view name);

}  // namespace axon
