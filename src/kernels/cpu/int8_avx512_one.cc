// int8 kernels for AVX-512 with VNNI and VBMI, one token: the weights go by once, in place, as one long stream.

#include "kernels/cpu/int8_avx512.h"

#if defined(__x86_64__)

namespace axon::cpu::int8 {
namespace {

// The row of weights and the token that meet.
struct RowAndToken {
  const unsigned char* codes;
  const void* scales;
  const void* biases;
  std::size_t first_group;  // of the row, in scales and biases
  DType dtype;
  const std::int8_t* q;
  const float* sx;
  const float* sum;
};

// How far ahead of the loads the codes are asked for, in bytes. Measured: without, the rate is a third lower.
constexpr std::size_t kAhead = 3072;

template <unsigned kBits>
struct Block {
  // 4 bits: 64 bytes of codes against 64 even and 64 odd columns. Other widths: 64 codes against 64 columns.
  static constexpr std::size_t kCodes = kBits == 4 ? 128 : 64;
  static constexpr std::size_t kBytes = kCodes * kBits / 8;

  // Lane j of the result is the dot product of codes [j, j + 1) * kCodes / 16.
  AXON_AVX512_INLINE __m512i dot(const unsigned char* codes, std::size_t bytes, const std::int8_t* q) {
    if constexpr (kBits == 4) {
      const __m512i packed = _mm512_maskz_loadu_epi8(first_bytes(bytes), codes);
      const __m512i nibble = _mm512_set1_epi8(15);
      const __m512i low = _mm512_and_si512(packed, nibble);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble);
      const __m512i even = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, _mm512_load_si512(q));
      return _mm512_dpbusd_epi32(even, high, _mm512_load_si512(q + 64));
    } else {
      return _mm512_dpbusd_epi32(_mm512_setzero_si512(), load_codes<kBits>(codes, bytes), _mm512_load_si512(q));
    }
  }
};

// Lane j: the group of codes [j, j + 1) * kCodes / 16 of block b.
template <unsigned kBits, std::size_t kGroup>
AXON_AVX512_INLINE __m512i groups_of_block(std::size_t b) {
  constexpr int kStep = static_cast<int>(Block<kBits>::kCodes / 16);
  constexpr int kSize = static_cast<int>(kGroup);
  const __m512i lane = _mm512_setr_epi32(0, kStep / kSize, 2 * kStep / kSize, 3 * kStep / kSize, 4 * kStep / kSize,
                                         5 * kStep / kSize, 6 * kStep / kSize, 7 * kStep / kSize, 8 * kStep / kSize,
                                         9 * kStep / kSize, 10 * kStep / kSize, 11 * kStep / kSize, 12 * kStep / kSize,
                                         13 * kStep / kSize, 14 * kStep / kSize, 15 * kStep / kSize);
  return _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(b * Block<kBits>::kCodes / kGroup)));
}

template <unsigned kBits, std::size_t kGroup>
AXON_AVX512_INLINE float dot_row(const RowAndToken& row, std::size_t groups) {
  using B = Block<kBits>;
  constexpr std::size_t kBlocks = 16 * kGroup / B::kCodes;  // of 16 groups
  __m512 part[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  __m512 bias = _mm512_setzero_ps();
  const unsigned char* codes = row.codes;
  const std::int8_t* q = row.q;
  for (std::size_t g = 0; g < groups; g += 16) {
    const __mmask16 mask = first_lanes(groups - g);
    const __m512 sw = load_scales(row.dtype, row.scales, row.first_group + g, mask);
    const __m512 bw = load_scales(row.dtype, row.biases, row.first_group + g, mask);
    const __m512 scale = _mm512_mul_ps(sw, _mm512_load_ps(row.sx + g));
    bias = _mm512_fmadd_ps(bw, _mm512_load_ps(row.sum + g), bias);
    if (groups - g >= 16) {
      AXON_UNROLL
      for (std::size_t b = 0; b < kBlocks; ++b, codes += B::kBytes, q += B::kCodes) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
        const __m512 dots = _mm512_cvtepi32_ps(B::dot(codes, B::kBytes, q));
        const __m512 s = _mm512_permutexvar_ps(groups_of_block<kBits, kGroup>(b), scale);
        part[b % 2] = _mm512_fmadd_ps(dots, s, part[b % 2]);
      }
    } else {
      std::size_t bytes = (groups - g) * kGroup * kBits / 8;
      for (std::size_t b = 0; bytes != 0; ++b, codes += B::kBytes, q += B::kCodes) {
        const __m512 dots = _mm512_cvtepi32_ps(B::dot(codes, bytes, q));
        const __m512 s = _mm512_permutexvar_ps(groups_of_block<kBits, kGroup>(b), scale);
        part[b % 2] = _mm512_fmadd_ps(dots, s, part[b % 2]);
        bytes -= bytes < B::kBytes ? bytes : B::kBytes;
      }
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(part[0], part[1]), bias));
}

template <unsigned kBits, std::size_t kGroup>
AXON_AVX512 void rows_of_one(const Job& job, std::size_t begin, std::size_t end) {
  const Weight& w = job.weight;
  const std::size_t groups = w.groups();
  const std::size_t token = job.x_row(0);
  RowAndToken row;
  row.scales = w.affine.scales;
  row.biases = w.affine.biases;
  row.dtype = w.affine.scale_dtype;
  row.q = job.x.q + token * job.x.q_stride;
  row.sx = job.x.scale + token * job.x.group_stride;
  row.sum = job.x.sum + token * job.x.group_stride;
  for (std::size_t r = begin; r < end; ++r) {
    row.codes = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
    row.first_group = r * groups;
    const float value = dot_row<kBits, kGroup>(row, groups);
    float& y = job.y.data[r];
    y = job.add ? y + value : value;
  }
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
