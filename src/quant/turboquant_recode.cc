#include "quant/turboquant_recode.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "quant/turboquant_rotation.h"
#include "quant/turboquant_scalar.h"
#include "quant/turboquant_trellis.h"
#include "quant/turboquant_vector.h"

namespace axon::turboquant {
namespace {

std::int32_t dot(std::span<const std::int8_t> a, std::span<const std::int8_t> b) {
  std::int32_t sum = 0;  // at most 1024 * 127^2
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::int32_t{a[i]} * std::int32_t{b[i]};
  return sum;
}

}  // namespace

float recode_unit(std::size_t head_dim, std::int32_t ii, int factor) {
  return static_cast<float>(std::sqrt(static_cast<double>(head_dim) / static_cast<double>(ii)) * factor);
}

float recode_scale(Code code, const RecodeSums& sums, float factor) {
  if (sums.ii == 0 || sums.cc == 0 || factor == 0) return 0.0f;
  const auto ii = static_cast<double>(sums.ii);
  const double limit = 1.5 * std::sqrt(ii / static_cast<double>(sums.cc));
  const double unbiased = sums.yc > 0 ? ii / static_cast<double>(sums.yc) : limit;
  const double scale =
      std::min(unbiased, limit) / static_cast<double>(codebook(code).step) * static_cast<double>(factor);
  return static_cast<float>(std::min(scale, static_cast<double>(std::numeric_limits<float>::max())));
}

float recode(Code code, std::span<const std::int8_t> values, float factor, std::span<std::uint8_t> codes) {
  const std::size_t A = values.size();
  AXON_CHECK(supports_head_dim(A) && codes.size() == code_bytes(code, A));
  AXON_CHECK(factor >= 0 && std::isfinite(factor));
  const std::int32_t ii = dot(values, values);
  if (ii == 0 || factor == 0) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return 0.0f;
  }
  if (is_trellis(code)) {
    std::array<std::int16_t, kMaxHeadDim> input;
    const std::span<std::int16_t> x(input.data(), A);
    recode_input(values, recode_unit(A, ii, 1 << kInputFractionBits), x);
    encode_trellis(code, x, codes);
  } else {
    std::array<float, kMaxHeadDim> x;
    const float unit = recode_unit(A, ii, 1);
    for (std::size_t i = 0; i < A; ++i) x[i] = static_cast<float>(values[i]) * unit;
    encode_scalar(code, {x.data(), A}, codes);
  }
  std::array<std::int8_t, kMaxHeadDim> buffer;
  const std::span<std::int8_t> coded(buffer.data(), A);
  decode_codes(code, codes, coded);
  return recode_scale(code, {ii, dot(values, coded), dot(coded, coded)}, factor);
}

}  // namespace axon::turboquant
