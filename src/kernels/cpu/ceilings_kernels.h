#pragma once
// The loops behind CeilingProbe: what every CPU level has to offer. Those of multiply-adds work on ones, so that the
// sums in the registers are the number of multiply-adds that were done, which they return.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/level.h"

namespace axon::cpu::ceiling {

// A batch of kTurns is about 10 microseconds: clocks between batches cost nothing, and deadlines are kept. No lane may
// count past 2^24, where float32 stops.
inline constexpr std::size_t kTurns = 4096;

// All return the multiply-adds of kTurns turns.
struct Kernels {
  std::uint64_t (*int8)();
  std::uint64_t (*bf16)();  // null without the instruction
  std::uint64_t (*fp32)();
};

Kernels kernels(Level level);

// The sum of the 64-bit words of `bytes` bytes, a multiple of CeilingProbe::kReadStep. `way` < CeilingProbe::kReadWays.
std::uint64_t read(std::size_t way, const std::byte* memory, std::size_t bytes);
extern const char* const kReadWayNames[CeilingProbe::kReadWays];
std::uint64_t fp32();

std::uint64_t int8_scalar();
#if defined(__x86_64__)
std::uint64_t int8_sse4();
std::uint64_t int8_avx2();
std::uint64_t int8_avx512();
std::uint64_t int8_avx512vnni();
std::uint64_t bf16_avx512();
#elif defined(__aarch64__)
std::uint64_t int8_neon();
std::uint64_t int8_neondot();
#endif

}  // namespace axon::cpu::ceiling
