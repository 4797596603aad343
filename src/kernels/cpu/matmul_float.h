#pragma once
// Weights of any format times float32 activations, in float32.

#include <cstddef>

#include "kernels/device.h"

namespace axon::cpu {

// Rows of W whose room the decoded blocks have, which many tokens meet: of long rows that many, a panel of their
// columns at a time.
inline constexpr std::size_t kFloatBlockRows = 16;

// Of one thread, at a multiple of 64: decoded weights, and one row of codes.
constexpr std::size_t float_scratch_bytes(std::size_t cols) {
  return kFloatBlockRows * sizeof(float) * round_up(cols, 16) + round_up(cols, 64);
}

// Consecutive rows of W, or tokens.
struct Range {
  std::size_t begin, end;
};

// y[t,r] (+)= sum_k x[t,k] * W[r,k] for these rows r and tokens t. Codes are decoded as affine::decode_row does:
// float32(code) * scale + bias. Of a product with several tokens, a sum is the same whatever rows and tokens come with
// it.
void float_rows(const Product& product, Range rows, Range tokens, std::byte* scratch);

}  // namespace axon::cpu
