#pragma once
// W^T x in float32, for weights of any format.

#include <cstddef>

#include "kernels/device.h"

namespace axon::cpu {

// Columns of W that a thread takes at a time: whole groups.
inline constexpr std::size_t kFloatUnitCols = 256;
// Rows of a panel that is decoded once for all tokens: with 256 columns a quarter of the second cache.
inline constexpr std::size_t kFloatPanelRows = 256;

// Of one thread, at a multiple of 64: the decoded panel, and codes of one of its rows.
constexpr std::size_t float_columns_scratch_bytes(std::size_t rows, std::size_t cols) {
  const std::size_t width = round_up(cols < kFloatUnitCols ? cols : kFloatUnitCols, 16);
  return (rows < kFloatPanelRows ? rows : kFloatPanelRows) * sizeof(float) * width + round_up(width, 64);
}

// y[t,c] (+)= sum_r x[x_rows[t],r] * W[r,c] for columns c in [begin, end) and all tokens t; begin is a multiple of
// kFloatUnitCols. The sum runs over r from the first to the last, whatever the split. Codes are decoded as
// affine::decode_row does.
void float_columns(const Product& product, std::size_t begin, std::size_t end, std::byte* scratch);

}  // namespace axon::cpu
