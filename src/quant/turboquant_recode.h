#pragma once
// Coding of what the tail holds: vectors that are already rotated, in int8 with one factor. All that decides a code is
// integer or a single rounding, so every CPU and compiler writes the same bytes and the same scale:
//   unit     float32 of sqrt(A / ii) * 4096, computed in double; ii the integer sum of squares of the values
//   trellis  encode_trellis of float(value) * unit, rounded to nearest with halves away from zero, |x| <= kMaxInput
//   scalar   encode_scalar of float(value) * float32(sqrt(A / ii))
//   scale    min(ii / yc, 1.5 * sqrt(ii / cc)), the second alone where yc <= 0; then / step * factor: in double, in
//            this order, no step of it a product plus a term. yc and cc are the integer sums of value * coded int8 and
//            of the coded int8 squared. It is the scale of ScaleMode::kUnbiased.

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/turboquant_tables.h"
#include "quant/turboquant_trellis.h"

namespace axon::turboquant {

// Codes y = factor * values: values [A] in -127..127, A as supports_head_dim asks; factor >= 0 and finite. Writes
// code_bytes(code, A) bytes and returns the scale s >= 0 of y ~ s c. A zero vector gives zero codes and 0.
float recode(Code code, std::span<const std::int8_t> values, float factor, std::span<std::uint8_t> codes);

// The parts of it, for twins.
struct RecodeSums {
  std::int32_t ii, yc, cc;
};
// sqrt(A / ii) * factor, rounded once to float32; ii > 0.
float recode_unit(std::size_t head_dim, std::int32_t ii, int factor);
// x [A] <- values * unit as above. Always inline, so that each level of a CPU compiles it for itself. Twice the product
// is truncated and then halved as an integer: adding a half to a product could be fused.
__attribute__((always_inline)) inline void recode_input(std::span<const std::int8_t> values, float unit,
                                                        std::span<std::int16_t> x) {
  constexpr auto kBound = static_cast<float>(2 * kMaxInput);
  const float twice = 2 * unit;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float scaled = static_cast<float>(values[i]) * twice;
    const float from_below = scaled < -kBound ? -kBound : scaled;
    const auto halves = static_cast<std::int32_t>(from_below > kBound ? kBound : from_below);
    const std::int32_t sign = halves < 0 ? -1 : 0;
    const std::int32_t magnitude = (((halves ^ sign) - sign) + 1) >> 1;
    x[i] = static_cast<std::int16_t>((magnitude ^ sign) - sign);
  }
}
float recode_scale(Code code, const RecodeSums& sums, float factor);

}  // namespace axon::turboquant
