#pragma once
// Attention's scores on the codes of keys.

#include "kernels/cpu/coded_region.h"

namespace axon::cpu {

// q[r] ~ scales[r] * values[r]
struct Int8Queries {
  Mat<const std::int8_t> values;  // [R, A], rotated
  std::span<const float> scales;  // [R]
};

// values [R, A], scales [R] <- q [R, A]; as turboquant::quantise_query. Elements that are no number become 0.
void quantise_queries(Mat<const float> q, Mat<std::int8_t> values, std::span<float> scales);

// values [A] <- x / scale, returns the scale in half precision; as turboquant::Codec::to_tail asks.
std::uint16_t to_tail(std::span<const float> x, std::int8_t* values);

// scores [R, T] <- (float(sum) * factor_t) * query scale, T being the tokens of all regions: equal to turboquant::score
// to the bit. The keys are decoded once for every 16 rows. scratch: coded_scratch_bytes(A).
void score(CodedRegions keys, const Int8Queries& q, std::span<std::byte> scratch, Mat<float> scores);
inline void score(const CodedRegion& keys, const Int8Queries& q, std::span<std::byte> scratch, Mat<float> scores) {
  score(CodedRegions(&keys, 1), q, scratch, scores);
}

}  // namespace axon::cpu
