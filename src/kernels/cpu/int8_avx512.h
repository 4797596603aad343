// What the two AVX-512 files of the int8 kernels share: one for single tokens, one for many. Only they include it.
#pragma once
#if defined(__x86_64__)

// GCC 12 takes its own undefined registers in this header for a mistake (bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "kernels/cpu/int8_portable.h"

#define AXON_AVX512 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))
#define AXON_AVX512_INLINE static inline AXON_AVX512 __attribute__((always_inline, unused))
#if defined(__clang__)
#define AXON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AXON_UNROLL _Pragma("GCC unroll 16")
#endif

namespace axon::cpu::int8 {

// Rows [begin, end) for the only token.
AXON_AVX512 void avx512_rows_of_one(const Job& job, std::size_t begin, std::size_t end);

AXON_AVX512_INLINE __mmask16 first_lanes(std::size_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFFu : (1u << count) - 1u);
}
AXON_AVX512_INLINE __mmask64 first_bytes(std::size_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// Up to 16 scales or biases from `first` on, as float32; the other lanes are 0.
AXON_AVX512_INLINE __m512 load_scales(DType dtype, const void* in, std::size_t first, __mmask16 mask) {
  const auto* p = static_cast<const unsigned char*>(in);
  if (dtype == DType::kF32) return _mm512_maskz_loadu_ps(mask, p + 4 * first);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, p + 2 * first);
  if (dtype == DType::kF16) return _mm512_cvtph_ps(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// 64 codes of kBits bits as bytes. `in` has `bytes` bytes left, of which 8 * kBits are used at most.
template <unsigned kBits>
AXON_AVX512_INLINE __m512i load_codes(const unsigned char* in, std::size_t bytes) {
  if constexpr (kBits == 8) return _mm512_maskz_loadu_epi8(first_bytes(bytes), in);
  // Each group of 8 codes is kBits bytes: bring them to 8 bytes of their own, then cut out the fields.
  alignas(64) static constexpr auto kSpread = [] {
    struct {
      std::uint8_t byte[64];
    } table{};
    for (unsigned i = 0; i < 64; ++i) table.byte[i] = static_cast<std::uint8_t>((i / 8 * kBits + i % 8) % 64);
    return table;
  }();
  constexpr std::uint64_t kShifts = [] {
    std::uint64_t shifts = 0;
    for (unsigned i = 0; i < 8; ++i) shifts |= std::uint64_t{i * kBits} << (8 * i);
    return shifts;
  }();
  const std::size_t used = bytes < 8 * kBits ? bytes : 8 * kBits;
  const __m512i packed = _mm512_maskz_loadu_epi8(first_bytes(used), in);
  const __m512i spread = _mm512_permutexvar_epi8(_mm512_load_si512(&kSpread), packed);
  const __m512i fields = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(static_cast<long long>(kShifts)), spread);
  return _mm512_and_si512(fields, _mm512_set1_epi8(static_cast<char>((1u << kBits) - 1u)));
}

}  // namespace axon::cpu::int8

#endif
