// Scales to factors and weights to bytes for AVX-512, equal to the portable ones to the bit.

#include "kernels/cpu/coded_avx512.h"

#if defined(__x86_64__)

namespace axon::cpu::coded {
namespace {

// x / d to the bit for 0 <= x <= 256 d, in a sixth of the time of a division: two steps of Newton's iteration with the
// rounded reciprocal give the rounded quotient (Markstein, IBM J. Res. Dev. 34, 1990), where nothing underflows.
class Divisor {
 public:
  AXON_AVX512 __attribute__((always_inline)) explicit Divisor(float d)
      : d_(_mm512_set1_ps(d)), reciprocal_(_mm512_set1_ps(1.0f / d)), exact_(d > 0x1p-70f && d < 0x1p70f) {}
  AXON_AVX512 __attribute__((always_inline)) __m512 divide(__m512 x) const {
    if (!exact_) return _mm512_div_ps(x, d_);
    __m512 q = _mm512_mul_ps(x, reciprocal_);
    q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, d_, x), reciprocal_, q);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(q, d_, x), reciprocal_, q);
  }

 private:
  __m512 d_, reciprocal_;
  bool exact_;
};

// As coded::weigh_row. kWhole: a tile's tokens; masked loads wait for the stores before them.
template <bool kWhole>
AXON_AVX512_INLINE void weigh_64(const float* factors, const float* weights, std::size_t tokens, std::uint8_t* bytes,
                                 float& unit) {
  constexpr std::size_t kVectors = turboquant::kTileTokens / 16;
  __m512 scaled[kVectors];
  __m512 largest = _mm512_setzero_ps();
  AXON_UNROLL
  for (std::size_t i = 0; i < kVectors; ++i) {
    if constexpr (kWhole) {
      scaled[i] = _mm512_mul_ps(_mm512_loadu_ps(weights + 16 * i), _mm512_loadu_ps(factors + 16 * i));
    } else {
      const __mmask16 mask = first_lanes(16 * i < tokens ? tokens - 16 * i : 0);
      scaled[i] =
          _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weights + 16 * i), _mm512_maskz_loadu_ps(mask, factors + 16 * i));
    }
    largest = _mm512_max_ps(largest, scaled[i]);
  }
  const float of_largest = _mm512_reduce_max_ps(largest) / 255.0f;
  unit = of_largest > 0 ? of_largest : 0.0f;
  const Divisor divisor(of_largest > 0 ? of_largest : 1.0f);  // else all are 0, or so small that they count as 0
  AXON_UNROLL
  for (std::size_t i = 0; i < kVectors; ++i) {
    // To nearest, halves away from zero: + 0.5 would round twice.
    const __m512 x = divisor.divide(scaled[i]);
    const __m512i whole = _mm512_cvttps_epi32(x);
    const __m512 rest = _mm512_sub_ps(x, _mm512_cvtepi32_ps(whole));
    const __mmask16 up = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(0.5f), _CMP_GE_OQ);
    const __m512i rounded = _mm512_mask_sub_epi32(whole, up, whole, _mm512_set1_epi32(-1));
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes + 16 * i), _mm512_cvtusepi32_epi8(rounded));
  }
}

}  // namespace

// Bytes: the low 5 bits name one of 32 steps within an octave, the others the octave, 4 being that of 1.
AXON_AVX512 void factors_avx512(turboquant::ScaleKind kind, const std::uint8_t* scales, float power, float step,
                                std::span<float> out) {
  struct Steps {
    alignas(64) float values[32];
  };
  static const Steps steps = [] {
    Steps all{};
    for (std::uint16_t i = 0; i < 32; ++i) {
      all.values[i] = turboquant::load_scale(turboquant::ScaleKind::kByte, static_cast<std::uint16_t>(128 + i), 0);
    }
    return all;
  }();
  for (std::size_t t = 0; t < out.size(); t += 16) {
    const __mmask16 mask = first_lanes(out.size() - t);
    __m512 scale;
    if (kind == turboquant::ScaleKind::kHalf) {
      scale = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, scales + 2 * t));
    } else {
      const __m512i b = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, scales + t));
      const __m512i of_step = _mm512_castps_si512(
          _mm512_permutex2var_ps(_mm512_load_ps(steps.values), b, _mm512_load_ps(steps.values + 16)));
      const __m512i octave = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_srli_epi32(b, 5), _mm512_set1_epi32(4)), 23);
      scale = _mm512_castsi512_ps(_mm512_maskz_add_epi32(_mm512_test_epi32_mask(b, b), of_step, octave));
    }
    const __m512 factor = _mm512_mul_ps(_mm512_mul_ps(scale, _mm512_set1_ps(power)), _mm512_set1_ps(step));
    if (out.size() - t >= 16) {  // masked stores are slow to be read again
      _mm512_storeu_ps(out.data() + t, factor);
    } else {
      _mm512_mask_storeu_ps(out.data() + t, mask, factor);
    }
  }
}

AXON_AVX512 void weigh_avx512(CodedRegions regions, Mat<const float> weights, Weights* out) {
  std::size_t first = 0;
  for (const CodedRegion& values : regions) {
    const std::size_t T = values.tokens();
    for (std::size_t r = 0; r < weights.rows; ++r) {
      const float* row = weights.row_ptr(r) + first;
      if (T == turboquant::kTileTokens) {
        weigh_64<true>(values.factors.data(), row, T, out->bytes[r], out->units[r]);
      } else {
        weigh_64<false>(values.factors.data(), row, T, out->bytes[r], out->units[r]);
      }
    }
    first += T;
    ++out;
  }
}

}  // namespace axon::cpu::coded

#endif
