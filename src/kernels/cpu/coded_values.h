#pragma once
// Attention's sum of values on their codes.

#include "kernels/cpu/coded_region.h"

namespace axon::cpu {

// out [R, A] += weights [R, T] times the values, T being the tokens of all regions; weights >= 0. The products weight *
// factor are rounded to 255ths of the largest of each row and region: equal to turboquant::add_values_u8 of one region
// after the other. The values are decoded once for every 16 rows. scratch: coded_scratch_bytes(A).
void add_values(CodedRegions values, Mat<const float> weights, std::span<std::byte> scratch, Mat<float> out);
inline void add_values(const CodedRegion& values, Mat<const float> weights, std::span<std::byte> scratch,
                       Mat<float> out) {
  add_values(CodedRegions(&values, 1), weights, scratch, out);
}

}  // namespace axon::cpu
