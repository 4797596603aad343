#pragma once
// Weights of any format times float32 activations, in float32.

#include <cstddef>

#include "kernels/device.h"

namespace axon::cpu {

// Rows of W that are decoded together, so that many tokens meet them.
inline constexpr std::size_t kFloatBlockRows = 16;

// Of one thread, at a multiple of 64: the decoded rows, and one row of codes.
constexpr std::size_t float_scratch_bytes(std::size_t cols) {
  return kFloatBlockRows * sizeof(float) * round_up(cols, 16) + round_up(cols, 64);
}

// y[t,r] (+)= sum_k x[t,k] * W[r,k] for rows r in [begin, end) and all tokens t. Codes are decoded as
// affine::decode_row does: float32(code) * scale + bias.
void float_rows(const Product& product, std::size_t begin, std::size_t end, std::byte* scratch);

}  // namespace axon::cpu
