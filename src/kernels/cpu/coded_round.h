#pragma once
// Rounding to int8 by a scale.

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace axon::cpu::coded {

// out <- x / scale, to nearest with halves away from zero, at most 127 in size. A NaN, and all if the scale is not
// above 0, becomes 0.
void round_to_int8(const float* x, std::size_t count, float scale, std::int8_t* out);

}  // namespace axon::cpu::coded
