// Products with codes for AVX2. Decoding is the portable one, two values a look-up: a table of 256 entries would be 8
// shuffles and their selections for 32 values. Only the products are written for it.

#include "kernels/cpu/coded_portable.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AXON_AVX2 __attribute__((target("avx2,f16c")))
#define AXON_AVX2_INLINE static inline AXON_AVX2 __attribute__((always_inline, unused))

namespace axon::cpu::coded {
namespace {

AXON_AVX2_INLINE __m256i load_32(const std::int8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
AXON_AVX2_INLINE __m128i load_16(const std::int8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

// No magnitude passes 127, so |k| fits u8, q takes k's sign, and two products fit 16 bits.
AXON_AVX2_INLINE __m256i dot_32(__m256i k, __m256i q) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(k), _mm256_sign_epi8(q, k));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

AXON_AVX2 inline std::int32_t dot(const std::int8_t* k, const std::int8_t* q, std::size_t A) {
  __m256i sums = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 32 <= A; i += 32) sums = _mm256_add_epi32(sums, dot_32(load_32(k + i), load_32(q + i)));
  if (i < A) {
    sums =
        _mm256_add_epi32(sums, dot_32(_mm256_zextsi128_si256(load_16(k + i)), _mm256_zextsi128_si256(load_16(q + i))));
  }
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
}

AXON_AVX2 void factors(turboquant::ScaleKind kind, const std::uint8_t* scales, float power, float step,
                       std::span<float> out) {
  if (kind == turboquant::ScaleKind::kByte) return factors_portable(kind, scales, power, step, out);
  std::size_t t = 0;
  for (; t + 8 <= out.size(); t += 8) {
    const __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + 2 * t)));
    const __m256 factor = _mm256_mul_ps(_mm256_mul_ps(scale, _mm256_set1_ps(power)), _mm256_set1_ps(step));
    _mm256_storeu_ps(out.data() + t, factor);
  }
  factors_portable(kind, scales + 2 * t, power, step, out.subspan(t));
}

AXON_AVX2 void score(CodedRegions keys, const Int8Queries& q, std::byte* scratch, Mat<float> scores) {
  score_by_dot(keys, q, scratch, scores, dot);
}

AXON_AVX2 void weigh(CodedRegions values, Mat<const float> weights, Weights* out) { weigh_rows(values, weights, out); }

// 16 elements over all tokens, two at a time. An odd last one meets itself with weight 0.
AXON_AVX2 inline void sum_16(const Rows& values, std::size_t first, std::size_t tokens, const std::uint8_t* weights,
                             std::int32_t* sums) {
  __m256i outer = _mm256_setzero_si256(), inner = outer;  // elements 0-3, 8-11; 4-7, 12-15
  for (std::size_t t = 0; t < tokens; t += 2) {
    const bool pair = t + 1 < tokens;
    const __m256i v0 = _mm256_cvtepi8_epi16(load_16(values.row(t) + first));
    const __m256i v1 = _mm256_cvtepi8_epi16(load_16(values.row(pair ? t + 1 : t) + first));
    const __m256i w = _mm256_set1_epi32(weights[t] | (pair ? weights[t + 1] : 0) << 16);
    outer = _mm256_add_epi32(outer, _mm256_madd_epi16(_mm256_unpacklo_epi16(v0, v1), w));
    inner = _mm256_add_epi32(inner, _mm256_madd_epi16(_mm256_unpackhi_epi16(v0, v1), w));
  }
  auto* out = reinterpret_cast<__m256i*>(sums);
  _mm256_store_si256(out, _mm256_permute2x128_si256(outer, inner, 0x20));
  _mm256_store_si256(out + 1, _mm256_permute2x128_si256(outer, inner, 0x31));
}

AXON_AVX2 void add(CodedRegions values, const Weights* weights, std::byte* scratch, Mat<float> out) {
  add_by_16(values, weights, scratch, out, sum_16);
}

}  // namespace

const Kernels kAvx2Kernels{factors, decode_to_mat, score, weigh, add};

}  // namespace axon::cpu::coded

#endif
