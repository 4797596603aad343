#include "kernels/cpu/coded_keys.h"

#include <algorithm>

#include "kernels/cpu/coded_portable.h"
#include "kernels/cpu/coded_round.h"
#include "tensor/dtype.h"

namespace axon::cpu {

std::uint16_t to_tail(std::span<const float> x, std::int8_t* values) {
  float unlike = 0;  // NaN if x holds one or an infinity
  for (const float v : x) unlike += v * 0.0f;
  const std::uint16_t half = float_to_f16(coded::largest_magnitude(x.data(), x.size()) / 127.0f);
  const bool fits = unlike == 0 && half < 0x7C00;
  coded::round_to_int8(x.data(), x.size(), fits ? f16_to_float(half) : 0.0f, values);
  return fits ? half : std::uint16_t{0x7E00};
}

void quantise_queries(Mat<const float> q, Mat<std::int8_t> values, std::span<float> scales) {
  AXON_DCHECK(values.rows == q.rows && values.cols == q.cols && scales.size() == q.rows);
  for (std::size_t r = 0; r < q.rows; ++r) {
    const float* x = q.row_ptr(r);
    const float scale = coded::largest_magnitude(x, q.cols) / 127.0f;
    scales[r] = scale;
    coded::round_to_int8(x, q.cols, scale, values.row_ptr(r));
  }
}

void score(CodedRegions keys, const Int8Queries& q, std::span<std::byte> scratch, Mat<float> scores) {
  AXON_DCHECK(q.values.rows == scores.rows && scores.cols == tokens_of(keys));
  if (scores.cols == 0) return;
  AXON_DCHECK(q.values.cols == keys[0].head_dim && scratch.size() >= coded_scratch_bytes(keys[0].head_dim));
  const coded::Kernels& kernels = coded::kernels(level());
  for (std::size_t r = 0; r < scores.rows; r += coded::kRowsMax) {
    const std::size_t n = std::min(coded::kRowsMax, scores.rows - r);
    kernels.score(keys, {q.values.rows_from(r, n), q.scales.subspan(r, n)}, scratch.data(), scores.rows_from(r, n));
  }
}

}  // namespace axon::cpu
