// int8 kernels for AVX2: rows of bytes against tokens, 32 columns an instruction. 4-bit rows and one token meet in
// place.

#include "kernels/cpu/int8_avx2.h"

#if defined(__x86_64__)

namespace axon::cpu::int8 {
namespace {

// How far ahead of the loads the codes are asked for at least, in bytes.
constexpr std::ptrdiff_t kAhead = 3072;
constexpr std::size_t kLongRow = 2560;  // bytes

AXON_AVX2_INLINE float sum_of(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

AXON_AVX2 void widen(DType dtype, const void* in, std::size_t first, std::size_t count, float* out) {
  const auto* p = static_cast<const unsigned char*>(in) + first * size_of(dtype);
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    __m256 v;
    if (dtype == DType::kF32) {
      v = _mm256_castsi256_ps(load(p + 4 * i));
    } else {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * i));
      v = dtype == DType::kF16 ? _mm256_cvtph_ps(half)
                               : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }
    _mm256_storeu_ps(out + i, v);
  }
  for (; i < count; ++i) out[i] = load_float(dtype, p, i);
}

// sum_g bw * sum: the part of a row that does not depend on the codes.
AXON_AVX2_INLINE float dot_biases(const float* bw, const float* sum, std::size_t groups) {
  __m256 total = _mm256_setzero_ps();
  std::size_t g = 0;
  for (; g + 8 <= groups; g += 8) total = _mm256_fmadd_ps(_mm256_loadu_ps(bw + g), _mm256_loadu_ps(sum + g), total);
  float tail = 0.0f;
  for (; g < groups; ++g) tail += bw[g] * sum[g];
  return sum_of(total) + tail;
}

// Eight sums of four products. Pairs are added in 16 bits: 2 * 127 * 127 fits, 2 * 255 * 127 does not, so codes of
// 8 bits go by as two nibbles.
template <bool kWide>
AXON_AVX2_INLINE __m256i dot_32(__m256i codes, __m256i q) {
  const __m256i one = _mm256_set1_epi16(1);
  if constexpr (!kWide) return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, q), one);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(codes, nibble), q);
  const __m256i high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble), q);
  return _mm256_add_epi32(_mm256_madd_epi16(low, one), _mm256_madd_epi16(high, _mm256_set1_epi16(16)));
}

template <bool kWide, std::size_t kGroup>
AXON_AVX2_INLINE __m256i dot_group(const std::uint8_t* codes, const std::int8_t* q) {
  __m256i dots = dot_32<kWide>(load(codes), load(q));
  for (std::size_t i = 32; i < kGroup; i += 32) {
    dots = _mm256_add_epi32(dots, dot_32<kWide>(load(codes + i), load(q + i)));
  }
  return dots;
}

template <bool kWide, std::size_t kGroup>
AXON_AVX2 float dot(const std::uint8_t* codes, const std::int8_t* q, std::size_t groups, const float* sw,
                    const float* bw, const float* sx, const float* sum) {
  __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  std::size_t g = 0;
  for (; g + 8 <= groups; g += 8) {
    alignas(32) float scale[8];
    _mm256_store_ps(scale, _mm256_mul_ps(_mm256_loadu_ps(sw + g), _mm256_loadu_ps(sx + g)));
    for (std::size_t i = 0; i < 8; ++i, codes += kGroup, q += kGroup) {
      for (std::size_t line = 0; line < kGroup; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead + line), _MM_HINT_T0);
      }
      const __m256 dots = _mm256_cvtepi32_ps(dot_group<kWide, kGroup>(codes, q));
      total[i % 2] = _mm256_fmadd_ps(dots, _mm256_broadcast_ss(scale + i), total[i % 2]);
    }
  }
  for (; g < groups; ++g, codes += kGroup, q += kGroup) {
    const __m256 dots = _mm256_cvtepi32_ps(dot_group<kWide, kGroup>(codes, q));
    total[0] = _mm256_fmadd_ps(dots, _mm256_set1_ps(sw[g] * sx[g]), total[0]);
  }
  return sum_of(_mm256_add_ps(total[0], total[1])) + dot_biases(bw, sum, groups);
}

template <bool kWide>
AXON_AVX2 float dot_row(const std::uint8_t* codes, const std::int8_t* q, std::size_t groups, std::size_t group_size,
                        const float* sw, const float* bw, const float* sx, const float* sum) {
  switch (group_size) {
    case 32: return dot<kWide, 32>(codes, q, groups, sw, bw, sx, sum);
    case 64: return dot<kWide, 64>(codes, q, groups, sw, bw, sx, sum);
    default: return dot<kWide, 128>(codes, q, groups, sw, bw, sx, sum);
  }
}

// 64 packed codes against 32 even and 32 odd columns: lane j holds columns [8 j, 8 j + 8).
AXON_AVX2_INLINE __m256i dot_nibbles(__m256i packed, const std::int8_t* q) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i low = _mm256_and_si256(packed, nibble);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble);
  const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low, load(q)), _mm256_maddubs_epi16(high, load(q + 32)));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// Rows [first, first + kRows) of 4-bit codes, for the only token.
template <std::size_t kGroup, std::size_t kRows>
AXON_AVX2_INLINE void dot_nibble_rows(const Job& job, std::size_t first, float* out) {
  const Weight& w = job.weight;
  const std::size_t groups = w.groups(), row_bytes = w.row_bytes(), token = job.x_row(0);
  const std::int8_t* q = job.x.q + token * job.x.q_stride;
  const float* sx = job.x.scale + token * job.x.group_stride;
  const float* sum = job.x.sum + token * job.x.group_stride;
  const unsigned char* codes = static_cast<const unsigned char*>(w.data) + first * row_bytes;
  // The rows after these are asked for in the order in which they lie, line by line.
  const unsigned char* next = codes + kRows * row_bytes;
  next += next - codes < kAhead ? kAhead - (next - codes) : 0;
  __m256 total[kRows];
  AXON_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) total[r] = _mm256_setzero_ps();
  for (std::size_t g = 0; g < groups; g += 8) {
    const std::size_t count = groups - g < 8 ? groups - g : 8;
    const __m256 group_sx = _mm256_loadu_ps(sx + g), group_sum = _mm256_loadu_ps(sum + g);
    alignas(32) float scale[kRows][8];
    AXON_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::size_t at = (first + r) * groups + g;
      const auto load_8 = [&](const void* in)
                              AXON_AVX2 { return load_scales(w.affine.scale_dtype, in, at, count, w.rows * groups); };
      _mm256_store_ps(scale[r], _mm256_mul_ps(load_8(w.affine.scales), group_sx));
      total[r] = _mm256_fmadd_ps(load_8(w.affine.biases), group_sum, total[r]);
    }
    for (std::size_t k = 0; k < count * kGroup; k += 64, codes += 32, q += 64) {
      for (std::size_t at = 0; at < kRows * 32; at += 64) _mm_prefetch(next + at, _MM_HINT_T0);
      next += kRows * 32;
      const bool whole = kGroup > 32 || count * kGroup - k >= 64;
      AXON_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) {
        const unsigned char* at = codes + r * row_bytes;
        const __m256i packed =
            whole ? load(at) : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
        const float* s = scale[r] + k / kGroup;
        const __m256 lane_scale =
            kGroup > 32 ? _mm256_broadcast_ss(s) : _mm256_set_m128(_mm_broadcast_ss(s + 1), _mm_broadcast_ss(s));
        total[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot_nibbles(packed, q)), lane_scale, total[r]);
      }
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) out[r] = sum_of(total[r]);
}

template <std::size_t kGroup, std::size_t kRows>
AXON_AVX2_INLINE std::size_t put_nibble_rows(const Job& job, std::size_t begin, std::size_t end) {
  float value[kRows];
  for (; begin + kRows <= end; begin += kRows) {
    dot_nibble_rows<kGroup, kRows>(job, begin, value);
    for (std::size_t i = 0; i < kRows; ++i) {
      float& y = job.y.data[begin + i];
      y = job.add ? y + value[i] : value[i];
    }
  }
  return begin;
}

template <std::size_t kGroup>
AXON_AVX2 void nibble_rows_of_one(const Job& job, std::size_t begin, std::size_t end) {
  // Of long rows fewer, so that those at work and those asked for stay in the first cache together.
  if (job.weight.row_bytes() <= kLongRow) begin = put_nibble_rows<kGroup, 4>(job, begin, end);
  begin = put_nibble_rows<kGroup, 2>(job, begin, end);
  put_nibble_rows<kGroup, 1>(job, begin, end);
}

void rows(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  if (job.y.rows != 1) return avx2_rows_of_many(job, begin, end, scratch);
  const int bits = job.weight.affine.bits;
  if (bits == 4) {
    switch (job.weight.affine.group_size) {
      case 32: return nibble_rows_of_one<32>(job, begin, end);
      case 64: return nibble_rows_of_one<64>(job, begin, end);
      default: return nibble_rows_of_one<128>(job, begin, end);
    }
  }
  rows_by_dot(job, begin, end, scratch, {widen, bits == 8 ? dot_row<true> : dot_row<false>});
}

std::size_t interleave(int bits, std::size_t group_size, std::size_t tokens) {
  if (bits != 4) return 0;
  return tokens == 1 ? 64 : group_size;
}

AXON_AVX2 void quantise(const float* x, std::size_t cols, std::size_t group_size, std::size_t span, std::int8_t* q,
                        float* scale, float* sum) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  for (std::size_t first = 0; first < cols; first += group_size, ++scale, ++sum) {
    __m256i most = _mm256_setzero_si256();
    for (std::size_t i = first; i < first + group_size; i += 8) {
      most = _mm256_max_epu32(most, _mm256_and_si256(load(x + i), magnitude));
    }
    __m128i half = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    half = _mm_max_epu32(half, _mm_unpackhi_epi64(half, half));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 1));
    const GroupScale s = scale_of_group(static_cast<std::uint32_t>(_mm_cvtsi128_si32(half)));
    const __m256 inverse = _mm256_set1_ps(s.inverse);
    __m256i total = _mm256_setzero_si256();
    for (std::size_t i = first; i < first + group_size; i += 8) {
      const __m256i code = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
      total = _mm256_add_epi32(total, code);
      const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(q + i), _mm_packs_epi16(words, words));
    }
    *scale = s.scale;
    // |total| < 2^24, so its eight parts add exactly as floats.
    *sum = s.scale * sum_of(_mm256_cvtepi32_ps(total));
  }
  const std::size_t groups = cols / group_size;
  finish_row(cols, group_size, span, q, scale - groups, sum - groups);
}

}  // namespace

const Kernels kAvx2Kernels{interleave, quantise, rows};

}  // namespace axon::cpu::int8

#endif
