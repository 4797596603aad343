#include "kernels/cpu/coded_keys.h"

#include <algorithm>

#include "kernels/cpu/coded_portable.h"

namespace axon::cpu {

void quantise_queries(Mat<const float> q, Mat<std::int8_t> values, std::span<float> scales) {
  AXON_DCHECK(values.rows == q.rows && values.cols == q.cols && scales.size() == q.rows);
  for (std::size_t r = 0; r < q.rows; ++r) {
    const float* x = q.row_ptr(r);
    std::int8_t* out = values.row_ptr(r);
    const float scale = coded::largest_magnitude(x, q.cols) / 127.0f;
    scales[r] = scale;
    for (std::size_t i = 0; i < q.cols; ++i) {
      const float scaled = scale > 0 ? x[i] / scale : 0.0f;
      // Comparisons that a NaN fails: it becomes 0, and its scale NaN.
      const float bounded = scaled >= -127.0f ? (scaled <= 127.0f ? scaled : 127.0f) : (scaled < 0 ? -127.0f : 0.0f);
      out[i] = static_cast<std::int8_t>(coded::round_away(bounded));
    }
  }
}

void score(const CodedRegion& keys, const Int8Queries& q, std::span<std::byte> scratch, Mat<float> scores) {
  AXON_DCHECK(q.values.rows == scores.rows && q.values.cols == keys.head_dim && scores.cols == keys.tokens());
  AXON_DCHECK(keys.tokens() <= turboquant::kTileTokens && scratch.size() >= coded_scratch_bytes(keys.head_dim));
  if (keys.tokens() == 0) return;
  const coded::Kernels& kernels = coded::kernels(level());
  for (std::size_t r = 0; r < scores.rows; r += coded::kRowsMax) {
    const std::size_t n = std::min(coded::kRowsMax, scores.rows - r);
    kernels.score(keys, {q.values.rows_from(r, n), q.scales.subspan(r, n)}, scratch.data(), scores.rows_from(r, n));
  }
}

}  // namespace axon::cpu
