// int8 kernels for AVX-512 with VNNI and VBMI, several tokens: 32 rows of codes are unpacked once to a tile in which
// the lanes are rows, and the tile meets all tokens, six at a time. Each group of a token's activations is broadcast
// dword by dword, so no sum ever crosses lanes.

#include "kernels/cpu/int8_avx512.h"

#if defined(__x86_64__)

namespace axon::cpu::int8 {
namespace {

constexpr std::size_t kTokensMax = 6;  // 2 * 6 integer and as many float sums, and 5 registers for operands

// kHalves * 16 rows. codes [cols/4][kHalves * 16 rows][4 codes]; scales and biases [groups][kHalves * 16 rows].
struct Tile {
  std::uint8_t* codes;
  float* scales;
  float* biases;
};

// v[i] lane j becomes v[j] lane i.
AXON_AVX512_INLINE void transpose(__m512i (&v)[16]) {
  __m512i t[16];
  AXON_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  AXON_UNROLL
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  AXON_UNROLL
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xDD);
    t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xDD);
  }
  AXON_UNROLL
  for (int i = 0; i < 8; ++i) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
  }
}

// Row `lane` of the 16 rows from `first` on; past the end the last row stands in, and is never stored.
AXON_AVX512_INLINE std::size_t row_of_lane(const Weight& w, std::size_t first, std::size_t lane) {
  return first + lane < w.rows ? first + lane : w.rows - 1;
}

// 16 rows from `first` on to `out`, where one dword a row lies every `stride` bytes.
template <unsigned kBits>
AXON_AVX512_INLINE void unpack_16_rows(const Weight& w, std::size_t first, std::uint8_t* out, std::size_t stride) {
  constexpr bool kNibbles = kBits == 4;  // stay packed through the transposition
  constexpr std::size_t kStep = kNibbles ? 64 : 8 * kBits;
  const std::size_t row_bytes = w.row_bytes();
  const std::size_t half = static_cast<std::size_t>(w.affine.group_size) / 8;  // dwords of evens in a group
  const __m512i nibble = _mm512_set1_epi8(15);
  std::size_t dword = 0;
  for (std::size_t at = 0; at < row_bytes; at += kStep) {
    const std::size_t left = row_bytes - at;
    __m512i v[16];
    AXON_UNROLL
    for (std::size_t i = 0; i < 16; ++i) {
      const auto* row = static_cast<const unsigned char*>(w.data) + row_of_lane(w, first, i) * row_bytes + at;
      v[i] = kNibbles ? _mm512_maskz_loadu_epi8(first_bytes(left), row) : load_codes<kBits>(row, left);
    }
    transpose(v);
    const std::size_t codes = left < kStep ? left * 8 / kBits : kStep * 8 / kBits;
    const std::size_t dwords = kNibbles ? codes / 8 : codes / 4;
    for (std::size_t i = 0; i < dwords; ++i, ++dword) {
      if constexpr (kNibbles) {
        std::uint8_t* low = out + (dword / half * 2 * half + dword % half) * stride;
        _mm512_store_si512(low, _mm512_and_si512(v[i], nibble));
        _mm512_store_si512(low + half * stride, _mm512_and_si512(_mm512_srli_epi16(v[i], 4), nibble));
      } else {
        _mm512_store_si512(out + dword * stride, v[i]);
      }
    }
  }
}

// Scales or biases of 16 rows as float32; those of one group lie `stride` floats after those of the one before.
AXON_AVX512_INLINE void widen_16_rows(const Weight& w, const void* in, std::size_t first, float* out,
                                      std::size_t stride) {
  const std::size_t groups = w.groups();
  for (std::size_t g = 0; g < groups; g += 16) {
    const std::size_t count = groups - g < 16 ? groups - g : 16;
    __m512i v[16];
    AXON_UNROLL
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t at = row_of_lane(w, first, i) * groups + g;
      v[i] = _mm512_castps_si512(load_scales(w.affine.scale_dtype, in, at, first_lanes(count)));
    }
    transpose(v);
    for (std::size_t i = 0; i < count; ++i) _mm512_store_si512(out + (g + i) * stride, v[i]);
  }
}

template <std::size_t kHalves>
AXON_AVX512 void fill(const Weight& w, std::size_t first, const Tile& tile) {
  for (std::size_t h = 0; h < kHalves; ++h) {
    const std::size_t row = first + 16 * h;
    std::uint8_t* codes = tile.codes + 64 * h;
    switch (w.affine.bits) {
      case 2: unpack_16_rows<2>(w, row, codes, 64 * kHalves); break;
      case 3: unpack_16_rows<3>(w, row, codes, 64 * kHalves); break;
      case 4: unpack_16_rows<4>(w, row, codes, 64 * kHalves); break;
      case 5: unpack_16_rows<5>(w, row, codes, 64 * kHalves); break;
      case 6: unpack_16_rows<6>(w, row, codes, 64 * kHalves); break;
      default: unpack_16_rows<8>(w, row, codes, 64 * kHalves); break;
    }
    widen_16_rows(w, w.affine.scales, row, tile.scales + 16 * h, 16 * kHalves);
    widen_16_rows(w, w.affine.biases, row, tile.biases + 16 * h, 16 * kHalves);
  }
}

// sum += codes * x, four by four. Not the intrinsic: around that, GCC 12 copies each sum to another register and back.
AXON_AVX512_INLINE void add_dots(__m512i& sum, __m512i codes, __m512i x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
}

// The codes of the next tile, asked for bit by bit while this one meets its tokens: read all at once they would come
// from 32 places with nothing else to do.
struct NextTile {
  const unsigned char* at;
  std::size_t lines_per_group;
};

// The tile times tokens [first_token, first_token + kTokens).
template <std::size_t kHalves, std::size_t kTokens>
AXON_AVX512 void multiply(const Job& job, const Tile& tile, std::size_t first_row, std::size_t first_token,
                          NextTile& next) {
  const std::size_t groups = job.weight.groups();
  const std::size_t dwords = static_cast<std::size_t>(job.weight.affine.group_size) / 4;
  const std::int8_t* q[kTokens];
  const float* sx[kTokens];
  const float* sum[kTokens];
  for (std::size_t t = 0; t < kTokens; ++t) {
    const std::size_t row = job.x_row(first_token + t);
    q[t] = job.x.q + row * job.x.q_stride;
    sx[t] = job.x.scale + row * job.x.group_stride;
    sum[t] = job.x.sum + row * job.x.group_stride;
  }
  __m512 y[kHalves][kTokens];
  AXON_UNROLL
  for (std::size_t i = 0; i < kHalves * kTokens; ++i) y[i / kTokens][i % kTokens] = _mm512_setzero_ps();
  const std::uint8_t* codes = tile.codes;
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t i = 0; i < next.lines_per_group; ++i, next.at += 64) _mm_prefetch(next.at, _MM_HINT_T1);
    __m512i dots[kHalves][kTokens];
    AXON_UNROLL
    for (std::size_t i = 0; i < kHalves * kTokens; ++i) dots[i / kTokens][i % kTokens] = _mm512_setzero_si512();
    for (std::size_t k = g * dwords; k < (g + 1) * dwords; ++k, codes += 64 * kHalves) {
      const __m512i low = _mm512_load_si512(codes);
      const __m512i high = kHalves == 2 ? _mm512_load_si512(codes + 64) : low;
      AXON_UNROLL
      for (std::size_t t = 0; t < kTokens; ++t) {
        std::int32_t four;
        __builtin_memcpy(&four, q[t] + 4 * k, 4);
        const __m512i x = _mm512_set1_epi32(four);
        add_dots(dots[0][t], low, x);
        if constexpr (kHalves == 2) add_dots(dots[1][t], high, x);
      }
    }
    AXON_UNROLL
    for (std::size_t h = 0; h < kHalves; ++h) {
      const __m512 sw = _mm512_load_ps(tile.scales + 16 * (g * kHalves + h));
      const __m512 bw = _mm512_load_ps(tile.biases + 16 * (g * kHalves + h));
      AXON_UNROLL
      for (std::size_t t = 0; t < kTokens; ++t) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[h][t]), sw);
        y[h][t] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(sx[t][g]), y[h][t]);
        y[h][t] = _mm512_fmadd_ps(bw, _mm512_set1_ps(sum[t][g]), y[h][t]);
      }
    }
  }
  for (std::size_t h = 0; h < kHalves; ++h) {
    const std::size_t row = first_row + 16 * h;
    if (row >= job.weight.rows) break;
    const __mmask16 mask = first_lanes(job.weight.rows - row);
    for (std::size_t t = 0; t < kTokens; ++t) {
      float* out = job.y.row_ptr(first_token + t) + row;
      const __m512 old = job.add ? _mm512_maskz_loadu_ps(mask, out) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(y[h][t], old));
    }
  }
}

// The tile from row `first` on, and how it spreads over `blocks` passes of multiply(). Scales and biases are short and
// asked for at once.
AXON_AVX512 NextTile next_tile(const Weight& w, std::size_t first, std::size_t blocks) {
  if (first >= w.rows) return {static_cast<const unsigned char*>(w.data), 0};
  const std::size_t count = w.rows - first < 32 ? w.rows - first : 32;
  const std::size_t step = w.groups() * size_of(w.affine.scale_dtype);
  for (const void* all : {w.affine.scales, w.affine.biases}) {
    const char* at = static_cast<const char*>(all) + first * step;
    for (std::size_t i = 0; i < count * step; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
  }
  const std::size_t lines = count * w.row_bytes() / 64 + 1;
  return {static_cast<const unsigned char*>(w.data) + first * w.row_bytes(), lines / (w.groups() * blocks) + 1};
}

template <std::size_t kHalves>
AXON_AVX512 void rows_of_tile(const Job& job, std::size_t first, std::byte* scratch) {
  Tile tile;
  tile.scales = reinterpret_cast<float*>(scratch);
  tile.biases = tile.scales + 16 * kHalves * job.weight.groups();
  tile.codes = reinterpret_cast<std::uint8_t*>(tile.biases + 16 * kHalves * job.weight.groups());
  fill<kHalves>(job.weight, first, tile);
  constexpr decltype(&multiply<kHalves, 1>) kMultiply[kTokensMax] = {multiply<kHalves, 1>, multiply<kHalves, 2>,
                                                                     multiply<kHalves, 3>, multiply<kHalves, 4>,
                                                                     multiply<kHalves, 5>, multiply<kHalves, 6>};
  // Blocks of nearly the same size: one of 6 and one of 1 would cost more than 4 and 3.
  const std::size_t tokens = job.y.rows;
  const std::size_t blocks = (tokens + kTokensMax - 1) / kTokensMax;
  NextTile next = next_tile(job.weight, first + 32, blocks);
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t begin = tokens * b / blocks;
    kMultiply[tokens * (b + 1) / blocks - begin - 1](job, tile, first, begin, next);
  }
}

void rows(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  if (job.y.rows == 1) return avx512_rows_of_one(job, begin, end);
  for (std::size_t r = begin; r < end; r += 32) {
    if (end - r > 16) {
      rows_of_tile<2>(job, r, scratch);
    } else {
      rows_of_tile<1>(job, r, scratch);
    }
  }
}

std::size_t interleave(int bits, std::size_t group_size, std::size_t tokens) {
  if (bits != 4) return 0;
  return tokens == 1 ? 128 : group_size;
}

AXON_AVX512 void quantise(const float* x, std::size_t cols, std::size_t group_size, std::size_t span, std::int8_t* q,
                          float* scale, float* sum) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  for (std::size_t first = 0; first < cols; first += group_size, ++scale, ++sum) {
    __m512i most_bits = _mm512_setzero_si512();
    for (std::size_t i = first; i < first + group_size; i += 16) {
      most_bits = _mm512_max_epu32(most_bits, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
    }
    const GroupScale s = scale_of_group(_mm512_reduce_max_epu32(most_bits));
    const __m512 inverse = _mm512_set1_ps(s.inverse);
    __m512i total = _mm512_setzero_si512();
    for (std::size_t i = first; i < first + group_size; i += 16) {
      const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
      total = _mm512_add_epi32(total, code);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), _mm512_cvtepi32_epi8(code));
    }
    *scale = s.scale;
    *sum = s.scale * static_cast<float>(_mm512_reduce_add_epi32(total));
  }
  const std::size_t groups = cols / group_size;
  finish_row(cols, group_size, span, q, scale - groups, sum - groups);
}

}  // namespace

const Kernels kAvx512Kernels{interleave, quantise, rows};

}  // namespace axon::cpu::int8

#endif
