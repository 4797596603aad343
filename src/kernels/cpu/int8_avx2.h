// What the two AVX2 files of the int8 kernels share: one for single tokens, one for many. Only they include it.
#pragma once
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/cpu/int8_portable.h"

#define AXON_AVX2 __attribute__((target("avx2,fma,f16c,bmi2")))
#define AXON_AVX2_INLINE static inline AXON_AVX2 __attribute__((always_inline, unused))
#if defined(__clang__)
#define AXON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AXON_UNROLL _Pragma("GCC unroll 16")
#endif

namespace axon::cpu::int8 {

// Rows [begin, end) for two tokens and more.
AXON_AVX2 void avx2_rows_of_many(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch);

AXON_AVX2_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// Scales or biases [first, first + count) of all `in`, which has `size`, as float32; the lanes past 8 or count are 0.
AXON_AVX2_INLINE __m256 load_scales(DType dtype, const void* in, std::size_t first, std::size_t count,
                                    std::size_t size) {
  alignas(32) unsigned char end[32] = {};
  const std::size_t step = size_of(dtype);
  const auto* p = static_cast<const unsigned char*>(in) + first * step;
  if (size - first < 8) p = static_cast<const unsigned char*>(std::memcpy(end, p, (size - first) * step));
  __m256 v;
  if (dtype == DType::kF32) {
    v = _mm256_castsi256_ps(load(p));
  } else {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    v = dtype == DType::kF16 ? _mm256_cvtph_ps(half)
                             : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  if (count >= 8) return v;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane)));
}

}  // namespace axon::cpu::int8

#endif
