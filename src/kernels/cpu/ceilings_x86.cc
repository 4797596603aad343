// Dot products of bytes and of bf16 out of registers: what Highway has no word for.

#include "kernels/cpu/ceilings_kernels.h"

#if defined(__x86_64__)

// GCC 12 takes its own undefined registers in this header for a mistake (bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#define AXON_SSE4 __attribute__((target("sse4.1")))
#define AXON_AVX2 __attribute__((target("avx2")))
#define AXON_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define AXON_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define AXON_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

// Arrays of registers stay in registers only while no index of theirs is a variable.
#if defined(__clang__)
#define AXON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AXON_UNROLL _Pragma("GCC unroll 32")
#endif

// Says that `v` may have changed: what is computed from it cannot be moved out of the loop, and sums that start from
// it are not all the same one.
#define AXON_TOUCH_XMM(v) asm volatile("" : "+x"(v))
#define AXON_TOUCH_ZMM(v) asm volatile("" : "+v"(v))

namespace axon::cpu::ceiling {
namespace {

// Bytes without an instruction of their own: pairs in 16 bits, pairs of those in 32, and a sum. Only the last, of one
// cycle, waits for the turn before: more sums would only spill.
constexpr std::size_t kSums = 4;
// Pairs that are added in 16 bits before they are widened: eight of codes of 4 bits fit.
constexpr std::size_t kRun = 8;
// Dot products wait for their own last result, five cycles or more, two a cycle. 12 measured 671 GOP/s a core, 14 701,
// 15 743 (its two a cycle); with 16 and more GCC 12 spills.
constexpr std::size_t kDotSums = 15;

template <std::size_t kLanes, class Integer>
std::uint64_t total_of(const Integer (&lanes)[kLanes]) {
  std::uint64_t total = 0;
  for (const Integer lane : lanes) total += static_cast<std::uint64_t>(lane);
  return total;
}

}  // namespace

AXON_SSE4 std::uint64_t int8_sse4() {
  __m128i codes = _mm_set1_epi8(1), ones = _mm_set1_epi16(1), sums[kSums];
  const __m128i q = codes;
  AXON_UNROLL
  for (auto& s : sums) {
    s = _mm_setzero_si128();
    AXON_TOUCH_XMM(s);
  }
  for (std::size_t i = 0; i < kTurns; ++i) {
    AXON_UNROLL
    for (auto& s : sums) {
      AXON_TOUCH_XMM(codes);
      s = _mm_add_epi32(s, _mm_madd_epi16(_mm_maddubs_epi16(codes, q), ones));
    }
  }
  std::int32_t lanes[4 * kSums];
  AXON_UNROLL
  for (std::size_t k = 0; k < kSums; ++k) _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes + 4 * k), sums[k]);
  return total_of(lanes);
}

AXON_AVX2 std::uint64_t int8_avx2() {
  __m256i codes = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1), sums[kSums];
  const __m256i q = codes;
  AXON_UNROLL
  for (auto& s : sums) {
    s = _mm256_setzero_si256();
    AXON_TOUCH_XMM(s);
  }
  for (std::size_t i = 0; i < kTurns / kRun; ++i) {
    __m256i pairs[kSums];
    AXON_UNROLL
    for (std::size_t k = 0; k < kRun * kSums; ++k) {
      __m256i& p = pairs[k % kSums];
      AXON_TOUCH_XMM(codes);
      const __m256i pair = _mm256_maddubs_epi16(codes, q);
      p = k < kSums ? pair : _mm256_add_epi16(p, pair);
      AXON_TOUCH_XMM(p);
    }
    AXON_UNROLL
    for (std::size_t k = 0; k < kSums; ++k) sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(pairs[k], ones));
  }
  std::int32_t lanes[8 * kSums];
  AXON_UNROLL
  for (std::size_t k = 0; k < kSums; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes + 8 * k), sums[k]);
  return total_of(lanes);
}

AXON_AVX512 std::uint64_t int8_avx512() {
  __m512i codes = _mm512_set1_epi8(1), ones = _mm512_set1_epi16(1), sums[kSums];
  const __m512i q = codes;
  AXON_UNROLL
  for (auto& s : sums) {
    s = _mm512_setzero_si512();
    AXON_TOUCH_ZMM(s);
  }
  for (std::size_t i = 0; i < kTurns / kRun; ++i) {
    __m512i pairs[kSums];
    AXON_UNROLL
    for (std::size_t k = 0; k < kRun * kSums; ++k) {
      __m512i& p = pairs[k % kSums];
      AXON_TOUCH_ZMM(codes);
      const __m512i pair = _mm512_maddubs_epi16(codes, q);
      p = k < kSums ? pair : _mm512_add_epi16(p, pair);
      AXON_TOUCH_ZMM(p);
    }
    AXON_UNROLL
    for (std::size_t k = 0; k < kSums; ++k) sums[k] = _mm512_add_epi32(sums[k], _mm512_madd_epi16(pairs[k], ones));
  }
  std::int32_t lanes[16 * kSums];
  AXON_UNROLL
  for (std::size_t k = 0; k < kSums; ++k) _mm512_storeu_si512(lanes + 16 * k, sums[k]);
  return total_of(lanes);
}

AXON_VNNI std::uint64_t int8_avx512vnni() {
  __m512i codes = _mm512_set1_epi8(1), sums[kDotSums];
  AXON_TOUCH_ZMM(codes);
  AXON_UNROLL
  for (auto& s : sums) {
    s = _mm512_setzero_si512();
    AXON_TOUCH_ZMM(s);
  }
  for (std::size_t i = 0; i < kTurns; ++i) {
    AXON_UNROLL
    for (auto& s : sums) s = _mm512_dpbusd_epi32(s, codes, codes);
  }
  std::int32_t lanes[16 * kDotSums];
  AXON_UNROLL
  for (std::size_t k = 0; k < kDotSums; ++k) _mm512_storeu_si512(lanes + 16 * k, sums[k]);
  return total_of(lanes);
}

AXON_BF16 std::uint64_t bf16_avx512() {
  __m512i ones = _mm512_set1_epi16(0x3F80);  // 1.0
  AXON_TOUCH_ZMM(ones);
  __m512 sums[kDotSums];
  AXON_UNROLL
  for (auto& s : sums) {
    s = _mm512_setzero_ps();
    AXON_TOUCH_ZMM(s);
  }
  for (std::size_t i = 0; i < kTurns; ++i) {
    AXON_UNROLL
    for (auto& s : sums) s = _mm512_dpbf16_ps(s, reinterpret_cast<__m512bh>(ones), reinterpret_cast<__m512bh>(ones));
  }
  float lanes[16 * kDotSums];
  AXON_UNROLL
  for (std::size_t k = 0; k < kDotSums; ++k) _mm512_storeu_ps(lanes + 16 * k, sums[k]);
  return total_of(lanes);
}

}  // namespace axon::cpu::ceiling

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif
