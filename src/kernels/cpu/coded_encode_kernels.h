#pragma once
// What CPU levels offer for coding vectors: encode() for some codes.

#include <bit>

#include "kernels/cpu/coded_encode.h"

namespace axon::cpu::coded {

static_assert(std::endian::native == std::endian::little, "codes are written as little-endian words");

void encode_scalar_codes(turboquant::Code code, Mat<const std::int8_t> values, std::span<const float> factors,
                         std::uint8_t* codes, std::span<float> scales);

// Trellis codes. Defined only where their instructions can be compiled.
void encode_trellis_avx2(turboquant::Code code, Mat<const std::int8_t> values, std::span<const float> factors,
                         std::uint8_t* codes, std::span<float> scales);
void encode_trellis_avx512(turboquant::Code code, Mat<const std::int8_t> values, std::span<const float> factors,
                           std::uint8_t* codes, std::span<float> scales);

}  // namespace axon::cpu::coded
