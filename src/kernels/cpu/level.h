#pragma once
// Which instructions this process uses. One level for everything: Highway's kernels and those written by hand.

#include <string_view>
#include <vector>

#include "base/error.h"

namespace axon::cpu {

// In ascending order. kAvx2 is AVX2+FMA+F16C+BMI2, kAvx512 is F+BW+DQ+VL, kAvx512Vnni has VNNI, VBMI and GFNI as
// well (Ice Lake, Zen 4 and later), kNeonDot the dot product instructions.
enum class Level { kScalar, kSse4, kAvx2, kAvx512, kAvx512Vnni, kNeon, kNeonDot };

std::string_view name_of(Level level);  // "scalar", "sse4", "avx2", "avx512", "avx512vnni", "neon", "neondot"

// What this processor and its operating system can run, best last.
std::vector<Level> supported_levels();

// The level in use: the best one, or what force() or BIT_AXON_CPU said.
Level level();

// Whether code of this level may use the processor's dot products of bf16 pairs (AVX512-BF16: Cooper Lake, Zen 4 and
// later). Not a level of its own: nothing else depends on it.
bool has_bf16_dot(Level level);

// Uses `name` from here on; kInvalidArgument when it is unknown or this processor lacks it. Not while kernels run.
Status force(std::string_view name);
// Applies BIT_AXON_CPU when it is set.
Status force_from_environment();

}  // namespace axon::cpu
