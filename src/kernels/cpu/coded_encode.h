#pragma once
// Coding of the vectors that leave the tail of a compressed cache.

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/turboquant_tables.h"
#include "tensor/mat.h"

namespace axon::cpu {

// As turboquant::recode for each row, to the bit on every level: values [T, A], factors and scales [T]; codes of T
// vectors one after the other, code_bytes(code, A) each. T may be any number, 8 at a time are fastest. Takes some
// 80 KiB of stack.
void encode(turboquant::Code code, Mat<const std::int8_t> values, std::span<const float> factors, std::uint8_t* codes,
            std::span<float> scales);

}  // namespace axon::cpu
