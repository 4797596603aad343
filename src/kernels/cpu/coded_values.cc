#include "kernels/cpu/coded_values.h"

#include <algorithm>

#include "kernels/cpu/coded_kernels.h"

namespace axon::cpu {

void add_values(const CodedRegion& values, Mat<const float> weights, std::span<std::byte> scratch, Mat<float> out) {
  AXON_DCHECK(weights.rows == out.rows && weights.cols == values.tokens() && out.cols == values.head_dim);
  AXON_DCHECK(values.tokens() <= turboquant::kTileTokens && scratch.size() >= coded_scratch_bytes(values.head_dim));
  if (values.tokens() == 0) return;
  const coded::Kernels& kernels = coded::kernels(level());
  for (std::size_t r = 0; r < out.rows; r += coded::kRowsMax) {
    const std::size_t n = std::min(coded::kRowsMax, out.rows - r);
    coded::Weights rounded;
    kernels.weigh(values, weights.rows_from(r, n), rounded);
    kernels.add(values, rounded, scratch.data(), out.rows_from(r, n));
  }
}

}  // namespace axon::cpu
