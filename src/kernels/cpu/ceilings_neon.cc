// Dot products of bytes out of registers for aarch64: what Highway has no word for.

#include "kernels/cpu/ceilings_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__clang__)
#define AXON_DOTPROD __attribute__((target("dotprod")))
#else
#define AXON_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

// Says that `v` may have changed: what is computed from it cannot be moved out of the loop, and sums that start from
// it are not all the same one.
#define AXON_TOUCH(v) asm volatile("" : "+w"(v))

namespace axon::cpu::ceiling {
namespace {

constexpr std::size_t kSums = 16;  // four a cycle that each take four cycles

std::uint64_t total_of(const int32x4_t (&sums)[kSums]) {
  std::uint64_t total = 0;
  for (const int32x4_t& s : sums) total += static_cast<std::uint64_t>(vaddlvq_s32(s));
  return total;
}

}  // namespace

std::uint64_t int8_neon() {
  int8x16_t codes = vdupq_n_s8(1);
  const int8x16_t q = codes;
  int32x4_t sums[kSums];
  for (auto& s : sums) {
    s = vdupq_n_s32(0);
    AXON_TOUCH(s);
  }
  for (std::size_t i = 0; i < kTurns; ++i) {
    for (auto& s : sums) {
      AXON_TOUCH(codes);
      const int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(q));
      s = vpadalq_s16(s, vmlal_high_s8(low, codes, q));
    }
  }
  return total_of(sums);
}

AXON_DOTPROD std::uint64_t int8_neondot() {
  int8x16_t codes = vdupq_n_s8(1);
  AXON_TOUCH(codes);
  int32x4_t sums[kSums];
  for (auto& s : sums) {
    s = vdupq_n_s32(0);
    AXON_TOUCH(s);
  }
  for (std::size_t i = 0; i < kTurns; ++i) {
    for (auto& s : sums) s = vdotq_s32(s, codes, codes);
  }
  return total_of(sums);
}

}  // namespace axon::cpu::ceiling

#endif
