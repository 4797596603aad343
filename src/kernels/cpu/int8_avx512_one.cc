// int8 kernels for AVX-512 with VNNI and VBMI, one token: the weights go by once, in place, as one long stream.

#include "kernels/cpu/int8_avx512.h"

#if defined(__x86_64__)

namespace axon::cpu::int8 {
namespace {

// How far ahead of the loads the codes are asked for at least, in bytes. Into the second cache, which has room for more
// requests than the first: with several cores at work that is all the same, with one 10 to 15 % faster. At 8 bits the
// rows are long and little work, and the processor asks for them fast enough by itself.
constexpr std::ptrdiff_t kAhead = 8192;

// What a row of codes is made of.
template <unsigned kBits>
struct Block {
  // 4 bits: 64 bytes of codes against 64 even and 64 odd columns. Other widths: 64 codes against 64 columns.
  static constexpr std::size_t kCodes = kBits == 4 ? 128 : 64;
  static constexpr std::size_t kBytes = kCodes * kBits / 8;
  __m512i even, odd;  // the token's activations; odd: of 4 bits alone

  AXON_AVX512_INLINE Block load(const std::int8_t* q) {
    return {_mm512_load_si512(q), kBits == 4 ? _mm512_load_si512(q + 64) : _mm512_setzero_si512()};
  }
  // Lane j of the result is the dot product of codes [j, j + 1) * kCodes / 16. The row has `bytes` bytes left.
  AXON_AVX512_INLINE __m512i dot(const Block& q, const unsigned char* codes, std::size_t bytes) {
    if constexpr (kBits == 4) {
      const __m512i packed =
          bytes >= 64 ? _mm512_loadu_si512(codes) : _mm512_maskz_loadu_epi8(first_bytes(bytes), codes);
      const __m512i nibble = _mm512_set1_epi8(15);
      const __m512i low = _mm512_and_si512(packed, nibble);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble);
      return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), low, q.even), high, q.odd);
    } else {
      return _mm512_dpbusd_epi32(_mm512_setzero_si512(), load_codes<kBits>(codes, bytes), q.even);
    }
  }
};

// Lane j: the first of codes [j, j + 1) * kCodes / 16.
template <unsigned kBits>
AXON_AVX512_INLINE __m512i first_code_of_lanes() {
  constexpr int kStep = static_cast<int>(Block<kBits>::kCodes / 16);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_mullo_epi32(lane, _mm512_set1_epi32(kStep));
}

// One block of each row; they lie `row_bytes` apart and have `bytes` bytes left. scale: of 16 groups; lane j starts at
// their code lane_code[j], since a block may be less than a group.
template <unsigned kBits, std::size_t kGroup, std::size_t kRows>
AXON_AVX512_INLINE void add_block(const Block<kBits>& x, const unsigned char* codes, std::size_t row_bytes,
                                  std::size_t bytes, __m512i lane_code, const __m512 (&scale)[kRows],
                                  __m512 (&total)[kRows]) {
  const __m512i lane_group = _mm512_srli_epi32(lane_code, __builtin_ctz(kGroup));
  AXON_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) {
    const __m512 dots = _mm512_cvtepi32_ps(Block<kBits>::dot(x, codes + r * row_bytes, bytes));
    total[r] = _mm512_fmadd_ps(dots, _mm512_permutexvar_ps(lane_group, scale[r]), total[r]);
  }
}

// Rows [first, first + kRows).
template <unsigned kBits, std::size_t kGroup, std::size_t kRows>
AXON_AVX512_INLINE void dot_rows(const Job& job, std::size_t first, float* out) {
  using B = Block<kBits>;
  const Weight& w = job.weight;
  const std::size_t groups = w.groups(), row_bytes = w.row_bytes(), token = job.x_row(0);
  const std::int8_t* q = job.x.q + token * job.x.q_stride;
  const float* sx = job.x.scale + token * job.x.group_stride;
  const float* sum = job.x.sum + token * job.x.group_stride;
  const unsigned char* codes = static_cast<const unsigned char*>(w.data) + first * row_bytes;
  // The rows after these are asked for in the order in which they lie, line by line.
  const unsigned char* next = codes + kRows * row_bytes;
  next += next - codes < kAhead ? kAhead - (next - codes) : 0;
  __m512 total[kRows], bias[kRows];
  AXON_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) total[r] = bias[r] = _mm512_setzero_ps();
  for (std::size_t g = 0; g < groups; g += 16) {
    const __mmask16 mask = first_lanes(groups - g);
    const __m512 group_sx = _mm512_load_ps(sx + g), group_sum = _mm512_load_ps(sum + g);
    __m512 scale[kRows];
    AXON_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::size_t at = (first + r) * groups + g;
      scale[r] = _mm512_mul_ps(load_scales(w.affine.scale_dtype, w.affine.scales, at, mask), group_sx);
      bias[r] = _mm512_fmadd_ps(load_scales(w.affine.scale_dtype, w.affine.biases, at, mask), group_sum, bias[r]);
    }
    std::size_t left = (groups - g < 16 ? groups - g : 16) * kGroup * kBits / 8;
    __m512i lane_code = first_code_of_lanes<kBits>();
    for (; left >= B::kBytes; left -= B::kBytes, codes += B::kBytes, q += B::kCodes) {
      if constexpr (kBits != 8) {
        for (std::size_t at = 0; at < kRows * B::kBytes; at += 64) _mm_prefetch(next + at, _MM_HINT_T1);
        next += kRows * B::kBytes;
      }
      add_block<kBits, kGroup, kRows>(B::load(q), codes, row_bytes, B::kBytes, lane_code, scale, total);
      lane_code = _mm512_add_epi32(lane_code, _mm512_set1_epi32(static_cast<int>(B::kCodes)));
    }
    // The last half of a block: codes and q go no further.
    if (left != 0) add_block<kBits, kGroup, kRows>(B::load(q), codes, row_bytes, left, lane_code, scale, total);
  }
  AXON_UNROLL
  for (std::size_t r = 0; r < kRows; ++r) out[r] = _mm512_reduce_add_ps(_mm512_add_ps(total[r], bias[r]));
}

template <unsigned kBits, std::size_t kGroup, std::size_t kRows>
AXON_AVX512_INLINE std::size_t put_rows(const Job& job, std::size_t begin, std::size_t end) {
  float value[kRows];
  for (; begin + kRows <= end; begin += kRows) {
    dot_rows<kBits, kGroup, kRows>(job, begin, value);
    for (std::size_t i = 0; i < kRows; ++i) {
      float& y = job.y.data[begin + i];
      y = job.add ? y + value[i] : value[i];
    }
  }
  return begin;
}

template <unsigned kBits, std::size_t kGroup>
AXON_AVX512 void rows_of_one(const Job& job, std::size_t begin, std::size_t end) {
  // Rows share what is loaded of x where unpacking codes is so much work that memory waits for it. Rows of 4 bits are
  // read 3 to 5 % slower by twos from memory that two cores share.
  if constexpr (kBits != 4 && kBits != 8) begin = put_rows<kBits, kGroup, 2>(job, begin, end);
  put_rows<kBits, kGroup, 1>(job, begin, end);
}

template <unsigned kBits>
AXON_AVX512 void rows_of_width(const Job& job, std::size_t begin, std::size_t end) {
  switch (job.weight.affine.group_size) {
    case 32: return rows_of_one<kBits, 32>(job, begin, end);
    case 64: return rows_of_one<kBits, 64>(job, begin, end);
    default: return rows_of_one<kBits, 128>(job, begin, end);
  }
}

}  // namespace

void avx512_rows_of_one(const Job& job, std::size_t begin, std::size_t end) {
  switch (job.weight.affine.bits) {
    case 2: return rows_of_width<2>(job, begin, end);
    case 3: return rows_of_width<3>(job, begin, end);
    case 4: return rows_of_width<4>(job, begin, end);
    case 5: return rows_of_width<5>(job, begin, end);
    case 6: return rows_of_width<6>(job, begin, end);
    default: return rows_of_width<8>(job, begin, end);
  }
}

}  // namespace axon::cpu::int8

#endif
