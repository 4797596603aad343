#include "kernels/cpu/coded_values.h"

#include <algorithm>

#include "kernels/cpu/coded_kernels.h"

namespace axon::cpu {

namespace {

constexpr std::size_t kRegionsAtOnce = 8;  // a kernel that begins anew costs as much as some tokens

}  // namespace

void add_values(CodedRegions values, Mat<const float> weights, std::span<std::byte> scratch, Mat<float> out) {
  AXON_DCHECK(weights.rows == out.rows && weights.cols == tokens_of(values));
  if (weights.cols == 0) return;
  AXON_DCHECK(out.cols == values[0].head_dim && scratch.size() >= coded_scratch_bytes(out.cols));
  const coded::Kernels& kernels = coded::kernels(level());
  coded::Weights rounded[kRegionsAtOnce];
  for (std::size_t first = 0, t = 0; first < values.size(); first += kRegionsAtOnce) {
    const CodedRegions some = values.subspan(first, std::min(kRegionsAtOnce, values.size() - first));
    const Mat<const float> of_some = weights.cols_from(t, tokens_of(some));
    for (std::size_t r = 0; r < out.rows; r += coded::kRowsMax) {
      const std::size_t n = std::min(coded::kRowsMax, out.rows - r);
      kernels.weigh(some, of_some.rows_from(r, n), rounded);
      kernels.add(some, rounded, scratch.data(), out.rows_from(r, n));
    }
    t += of_some.cols;
  }
}

}  // namespace axon::cpu
