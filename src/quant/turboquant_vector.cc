#include "quant/turboquant_vector.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quant/turboquant_scalar.h"
#include "quant/turboquant_trellis.h"

namespace axon::turboquant {
namespace {

double scale_of(ScaleMode mode, double yy, double yc, double cc) {
  const double norm_corrected = std::sqrt(yy / cc);
  if (mode == ScaleMode::kNormCorrected) return norm_corrected;
  if (mode == ScaleMode::kLeastSquares) return std::max(yc, 0.0) / cc;
  const double limit = 1.5 * norm_corrected;
  return yc * limit > yy ? yy / yc : limit;
}

}  // namespace

void to_trellis_input(std::span<const float> y, double norm, std::span<std::int16_t> x) {
  const double to_fixed = std::sqrt(static_cast<double>(y.size())) * (1 << kInputFractionBits) / norm;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double scaled = static_cast<double>(y[i]) * to_fixed;
    const double bounded = std::clamp(scaled, -static_cast<double>(kMaxInput), static_cast<double>(kMaxInput));
    x[i] = static_cast<std::int16_t>(bounded < 0 ? bounded - 0.5 : bounded + 0.5);
  }
}

void decode_codes(Code code, std::span<const std::uint8_t> codes, std::span<std::int8_t> values) {
  std::array<std::uint8_t, kMaxHeadDim> indices;
  AXON_CHECK(supports_head_dim(values.size()) && codes.size() == code_bytes(code, values.size()));
  const std::span<std::uint8_t> used(indices.data(), values.size());
  is_trellis(code) ? read_windows(code, codes, used) : read_indices(code, codes, used);
  const std::span<const std::int8_t> table = codebook(code).values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = table[used[i]];
}

std::optional<float> Coder::encode(std::span<const float> x, std::span<std::uint8_t> codes) const {
  AXON_CHECK(supports_head_dim(x.size()) && codes.size() == code_bytes(code, x.size()));
  AXON_CHECK(centre.empty() || centre.size() == x.size());
  std::array<float, kMaxHeadDim> buffer;
  const std::span<float> y(buffer.data(), x.size());
  double yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = centre.empty() ? x[i] : x[i] - centre[i];
  for (const float v : y) yy += static_cast<double>(v) * static_cast<double>(v);
  constexpr double kLargestSquare = 0x1p200;  // the rotation's sums and the scale stay finite in float
  if (!(yy <= kLargestSquare)) return std::nullopt;
  if (yy == 0) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return 0.0f;
  }
  if (rotation != nullptr) rotation->apply(y);
  const double norm = std::sqrt(yy);
  if (is_trellis(code)) {
    std::array<std::int16_t, kMaxHeadDim> fixed;
    const std::span<std::int16_t> input(fixed.data(), x.size());
    to_trellis_input(y, norm, input);
    encode_trellis(code, input, codes);
  } else {
    std::array<float, kMaxHeadDim> unit;
    const auto to_unit = static_cast<float>(std::sqrt(static_cast<double>(x.size())) / norm);
    for (std::size_t i = 0; i < x.size(); ++i) unit[i] = y[i] * to_unit;
    encode_scalar(code, {unit.data(), x.size()}, codes);
  }

  std::array<std::int8_t, kMaxHeadDim> values;
  decode_codes(code, codes, {values.data(), x.size()});
  double yc = 0;
  std::int64_t cc = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    yc += static_cast<double>(y[i]) * values[i];
    cc += static_cast<std::int64_t>(values[i]) * values[i];
  }
  const auto step = static_cast<double>(codebook(code).step);
  if (cc == 0) return 0.0f;
  return static_cast<float>(scale_of(mode, yy, yc * step, static_cast<double>(cc) * step * step));
}

void Coder::decode(std::span<const std::uint8_t> codes, float scale, std::span<float> x) const {
  std::array<std::int8_t, kMaxHeadDim> values;
  decode_codes(code, codes, {values.data(), x.size()});
  const float unit = scale * codebook(code).step;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = unit * static_cast<float>(values[i]);
  if (rotation != nullptr) rotation->invert(x);
  for (std::size_t i = 0; i < centre.size(); ++i) x[i] += centre[i];
}

}  // namespace axon::turboquant
