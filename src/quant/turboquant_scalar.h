#pragma once
// The scalar code of the TurboQuant paper (arXiv 2504.19874): each coordinate becomes the index of its nearest
// centroid. Indices are kept as planes, each without gaps and lowest bit first: 1, 2 and 4 bits are one plane, 3 bits
// are a plane of the two low bits and then a plane of the high bit.

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/turboquant_tables.h"

namespace axon::turboquant {

// x [A] of unit variance. Writes code_bytes(code, A) bytes. A value on a threshold takes the upper index.
void encode_scalar(Code code, std::span<const float> x, std::span<std::uint8_t> planes);
// Indices [A] into Codebook::values.
void read_indices(Code code, std::span<const std::uint8_t> planes, std::span<std::uint8_t> indices);

}  // namespace axon::turboquant
