// int8 kernels for AVX2, several tokens: 16 rows of codes are unpacked once to a tile in which the lanes are rows, and
// the tile meets all tokens, four at a time. Each group of a token's activations is broadcast dword by dword, so no sum
// ever crosses lanes. Products are summed in 16 bits for as many columns as fit, and widened then: with codes of 4 bits
// an instruction to multiply and one to add do 32 products, as much as 16 bits of width can do.

#include "kernels/cpu/int8_avx2.h"

#if defined(__x86_64__)

namespace axon::cpu::int8 {
namespace {

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kTokensMax = 4;  // 2 * 4 sums, and 8 registers for operands

// How codes lie in a tile and how long their sums stay in 16 bits.
template <unsigned kBits>
struct Width {
  // Codes of 8 bits are two planes of nibbles: a pair of 255 * 127 does not fit 16 bits.
  static constexpr std::size_t kPlanes = kBits == 8 ? 2 : 1;
  static constexpr int kCodeMax = kBits == 8 ? 15 : (1 << kBits) - 1;
  // Dwords of codes whose pairs are added in 16 bits. 8 are a group of 32: longer runs would gain little.
  static constexpr std::size_t kRun = kBits == 6 ? 2 : kBits == 5 ? 4 : 8;
  static_assert(2 * kCodeMax * 127 * static_cast<int>(kRun) <= 32767);
};

// codes [groups][planes][group_size/4][16 rows][4 codes], each plane's in the order of q; scales and biases
// [groups][16 rows].
struct Tile {
  std::uint8_t* codes;
  float* scales;
  float* biases;
};

// v[i] lane j becomes v[j] lane i.
AXON_AVX2_INLINE void transpose(__m256i (&v)[8]) {
  __m256i t[8];
  AXON_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  AXON_UNROLL
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  AXON_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m256i low = v[i], high = v[i + 4];
    v[i] = _mm256_permute2x128_si256(low, high, 0x20);
    v[i + 4] = _mm256_permute2x128_si256(low, high, 0x31);
  }
}

// Row `lane` of the rows from `first` on; past the end the last row stands in, and is never stored.
AXON_AVX2_INLINE std::size_t row_of_lane(const Weight& w, std::size_t first, std::size_t lane) {
  return first + lane < w.rows ? first + lane : w.rows - 1;
}

// 32 codes of kBits bits as bytes. `in` has `bytes` bytes left, of which 4 * kBits are used.
template <unsigned kBits>
AXON_AVX2_INLINE __m256i spread_codes(const unsigned char* in, std::size_t bytes) {
  // Each 8 codes are kBits bytes: bring them to 8 bytes of their own, then halve three times, as spread() does.
  alignas(16) static constexpr auto kOwnBytes = [] {
    struct {
      std::uint8_t byte[16];
    } table{};
    for (unsigned i = 0; i < 16; ++i)
      table.byte[i] = static_cast<std::uint8_t>(i % 8 < kBits ? i / 8 * kBits + i % 8 : 128);
    return table;
  }();
  alignas(16) unsigned char end[32] = {};
  if (bytes < 2 * kBits + 16) in = static_cast<const unsigned char*>(std::memcpy(end, in, 4 * kBits));
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * kBits));
  const __m128i own = _mm_load_si128(reinterpret_cast<const __m128i*>(&kOwnBytes));
  __m256i v = _mm256_shuffle_epi8(_mm256_set_m128i(second, first), _mm256_broadcastsi128_si256(own));
  const __m256i four = _mm256_set1_epi64x((std::int64_t{1} << 4 * kBits) - 1);
  const __m256i two = _mm256_set1_epi32((1 << 2 * kBits) - 1);
  const __m256i one = _mm256_set1_epi16((1 << kBits) - 1);
  v = _mm256_or_si256(_mm256_and_si256(v, four), _mm256_slli_epi64(_mm256_srli_epi64(v, 4 * kBits), 32));
  v = _mm256_or_si256(_mm256_and_si256(v, two), _mm256_slli_epi32(_mm256_srli_epi32(v, 2 * kBits), 16));
  return _mm256_or_si256(_mm256_and_si256(v, one), _mm256_slli_epi16(_mm256_srli_epi16(v, kBits), 8));
}

// 8 rows from `first` on to `out`, where one dword of codes a row lies every 4 * kTileRows bytes.
template <unsigned kBits>
AXON_AVX2_INLINE void unpack_8_rows(const Weight& w, std::size_t first, std::uint8_t* out) {
  // Codes of 4 and 8 bits stay packed through the transposition. Of each dword the low nibbles are a dword of the first
  // half of the group: of its even columns, or of the low plane; the high nibbles one of the second half.
  constexpr bool kNibbles = kBits == 4 || kBits == 8;
  constexpr std::size_t kStride = 4 * kTileRows;
  constexpr std::size_t kStep = kNibbles ? 32 : 4 * kBits;
  const std::size_t row_bytes = w.row_bytes();
  const std::size_t half = static_cast<std::size_t>(w.affine.group_size) * kBits / 32;
  const __m256i nibble = _mm256_set1_epi8(15);
  const unsigned char* row[8];
  for (std::size_t i = 0; i < 8; ++i) {
    row[i] = static_cast<const unsigned char*>(w.data) + row_of_lane(w, first, i) * row_bytes;
  }
  std::size_t in_half = 0;
  for (std::size_t at = 0; at < row_bytes; at += kStep) {
    const std::size_t left = row_bytes - at;
    __m256i v[8];
    AXON_UNROLL
    for (std::size_t i = 0; i < 8; ++i) {
      if constexpr (kNibbles) {
        v[i] = left >= 32 ? load(row[i] + at)
                          : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row[i] + at)));
      } else {
        v[i] = spread_codes<kBits>(row[i] + at, left);
      }
    }
    transpose(v);
    const std::size_t dwords = kNibbles && left < 32 ? left / 4 : 8;
    for (std::size_t i = 0; i < dwords; ++i, out += kStride) {
      auto* to = reinterpret_cast<__m256i*>(out);
      if constexpr (kNibbles) {
        _mm256_store_si256(to, _mm256_and_si256(v[i], nibble));
        to += half * kStride / sizeof(__m256i);
        _mm256_store_si256(to, _mm256_and_si256(_mm256_srli_epi16(v[i], 4), nibble));
        if (++in_half == half) {
          in_half = 0;
          out += half * kStride;
        }
      } else {
        _mm256_store_si256(to, v[i]);
      }
    }
  }
}

// Scales or biases of 8 rows as float32; those of one group lie kTileRows floats after those of the one before.
AXON_AVX2_INLINE void widen_8_rows(const Weight& w, const void* in, std::size_t first, float* out) {
  const std::size_t groups = w.groups();
  for (std::size_t g = 0; g < groups; g += 8) {
    const std::size_t count = groups - g < 8 ? groups - g : 8;
    __m256i v[8];
    AXON_UNROLL
    for (std::size_t i = 0; i < 8; ++i) {
      const std::size_t at = row_of_lane(w, first, i) * groups + g;
      v[i] = _mm256_castps_si256(load_scales(w.affine.scale_dtype, in, at, 8, w.rows * groups));
    }
    transpose(v);
    for (std::size_t i = 0; i < count; ++i) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + (g + i) * kTileRows), v[i]);
    }
  }
}

template <unsigned kBits>
AXON_AVX2 void fill(const Weight& w, std::size_t first, const Tile& tile) {
  for (std::size_t h = 0; h < 2; ++h) {
    const std::size_t row = first + 8 * h;
    unpack_8_rows<kBits>(w, row, tile.codes + 32 * h);
    widen_8_rows(w, w.affine.scales, row, tile.scales + 8 * h);
    widen_8_rows(w, w.affine.biases, row, tile.biases + 8 * h);
  }
}

// The codes of the next tile, asked for bit by bit while this one meets its tokens: read all at once they would come
// from 16 places with nothing else to do.
struct NextTile {
  const unsigned char* at;
  std::size_t lines_per_group;
};

// Not the intrinsic: GCC 12 would turn each run of sums into a tree, with more products alive than there are registers.
AXON_AVX2_INLINE void add_pairs(__m256i& sum, __m256i pairs) { asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(pairs)); }

// kRun dwords of 16 rows of codes times 4 * kRun columns of each token: a lane of `sums` has the sum of two columns of
// every four.
template <std::size_t kRun, std::size_t kTokens>
AXON_AVX2_INLINE void dot_run(const std::uint8_t* codes, const std::int8_t* const (&q)[kTokens], std::size_t at,
                              __m256i (&sums)[2][kTokens]) {
  AXON_UNROLL
  for (std::size_t k = 0; k < kRun; ++k, codes += 4 * kTileRows) {
    const __m256i low = load(codes), high = load(codes + 32);
    AXON_UNROLL
    for (std::size_t t = 0; t < kTokens; ++t) {
      std::int32_t four;
      __builtin_memcpy(&four, q[t] + at + 4 * k, 4);
      const __m256i x = _mm256_set1_epi32(four);
      const __m256i a = _mm256_maddubs_epi16(low, x), b = _mm256_maddubs_epi16(high, x);
      if (k == 0) {
        sums[0][t] = a;
        sums[1][t] = b;
      } else {
        add_pairs(sums[0][t], a);
        add_pairs(sums[1][t], b);
      }
    }
  }
}

// The tile times tokens [first_token, first_token + kTokens).
template <unsigned kBits, std::size_t kTokens>
AXON_AVX2 void multiply(const Job& job, const Tile& tile, std::size_t first_row, std::size_t first_token,
                        NextTile& next) {
  constexpr std::size_t kRun = Width<kBits>::kRun;
  const std::size_t groups = job.weight.groups();
  const auto group_size = static_cast<std::size_t>(job.weight.affine.group_size);
  const std::int8_t* q[kTokens];
  const float* sx[kTokens];
  const float* sum[kTokens];
  for (std::size_t t = 0; t < kTokens; ++t) {
    const std::size_t row = job.x_row(first_token + t);
    q[t] = job.x.q + row * job.x.q_stride;
    sx[t] = job.x.scale + row * job.x.group_stride;
    sum[t] = job.x.sum + row * job.x.group_stride;
  }
  __m256 y[2][kTokens];
  AXON_UNROLL
  for (std::size_t i = 0; i < 2 * kTokens; ++i) y[i / kTokens][i % kTokens] = _mm256_setzero_ps();
  const std::uint8_t* codes = tile.codes;
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t i = 0; i < next.lines_per_group; ++i, next.at += 64) _mm_prefetch(next.at, _MM_HINT_T1);
    __m256i dots[2][kTokens];
    AXON_UNROLL
    for (std::size_t i = 0; i < 2 * kTokens; ++i) dots[i / kTokens][i % kTokens] = _mm256_setzero_si256();
    for (std::size_t plane = 0; plane < Width<kBits>::kPlanes; ++plane) {
      const __m256i unit = _mm256_set1_epi16(plane == 0 ? 1 : 16);
      for (std::size_t k = g * group_size; k < (g + 1) * group_size; k += 4 * kRun, codes += 4 * kRun * kTileRows) {
        __m256i sums[2][kTokens];
        dot_run<kRun, kTokens>(codes, q, k, sums);
        AXON_UNROLL
        for (std::size_t i = 0; i < 2 * kTokens; ++i) {
          __m256i& d = dots[i / kTokens][i % kTokens];
          d = _mm256_add_epi32(d, _mm256_madd_epi16(sums[i / kTokens][i % kTokens], unit));
        }
      }
    }
    AXON_UNROLL
    for (std::size_t h = 0; h < 2; ++h) {
      const __m256 sw = _mm256_load_ps(tile.scales + kTileRows * g + 8 * h);
      const __m256 bw = _mm256_load_ps(tile.biases + kTileRows * g + 8 * h);
      AXON_UNROLL
      for (std::size_t t = 0; t < kTokens; ++t) {
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[h][t]), sw);
        y[h][t] = _mm256_fmadd_ps(scaled, _mm256_broadcast_ss(sx[t] + g), y[h][t]);
        y[h][t] = _mm256_fmadd_ps(bw, _mm256_broadcast_ss(sum[t] + g), y[h][t]);
      }
    }
  }
  const std::size_t count = job.weight.rows - first_row < kTileRows ? job.weight.rows - first_row : kTileRows;
  for (std::size_t t = 0; t < kTokens; ++t) {
    alignas(32) float value[kTileRows];
    _mm256_store_ps(value, y[0][t]);
    _mm256_store_ps(value + 8, y[1][t]);
    float* out = job.y.row_ptr(first_token + t) + first_row;
    for (std::size_t r = 0; r < count; ++r) out[r] = job.add ? out[r] + value[r] : value[r];
  }
}

// The tile from row `first` on, and how it spreads over `blocks` passes of multiply(). Scales and biases are short and
// asked for at once.
AXON_AVX2 NextTile next_tile(const Weight& w, std::size_t first, std::size_t blocks) {
  if (first >= w.rows) return {static_cast<const unsigned char*>(w.data), 0};
  const std::size_t count = w.rows - first < kTileRows ? w.rows - first : kTileRows;
  const std::size_t step = w.groups() * size_of(w.affine.scale_dtype);
  for (const void* all : {w.affine.scales, w.affine.biases}) {
    const char* at = static_cast<const char*>(all) + first * step;
    for (std::size_t i = 0; i < count * step; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
  }
  const std::size_t lines = count * w.row_bytes() / 64 + 1;
  return {static_cast<const unsigned char*>(w.data) + first * w.row_bytes(), lines / (w.groups() * blocks) + 1};
}

template <unsigned kBits>
AXON_AVX2 void rows_of_width(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  // Of one token and of none there is no block: kTokensMax + 1 tokens are blocks of 3 and 2.
  constexpr decltype(&multiply<kBits, 2>) kMultiply[] = {multiply<kBits, 2>, multiply<kBits, 3>, multiply<kBits, 4>};
  Tile tile;
  tile.scales = reinterpret_cast<float*>(scratch);
  tile.biases = tile.scales + kTileRows * job.weight.groups();
  tile.codes = reinterpret_cast<std::uint8_t*>(tile.biases + kTileRows * job.weight.groups());
  // Blocks of nearly the same size: one of 4 and one of 1 would cost more than 3 and 2.
  const std::size_t tokens = job.y.rows;
  const std::size_t blocks = (tokens + kTokensMax - 1) / kTokensMax;
  for (std::size_t r = begin; r < end; r += kTileRows) {
    fill<kBits>(job.weight, r, tile);
    NextTile next = next_tile(job.weight, r + kTileRows, blocks);
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::size_t first = tokens * b / blocks;
      kMultiply[tokens * (b + 1) / blocks - first - 2](job, tile, r, first, next);
    }
  }
}

}  // namespace

void avx2_rows_of_many(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  switch (job.weight.affine.bits) {
    case 2: return rows_of_width<2>(job, begin, end, scratch);
    case 3: return rows_of_width<3>(job, begin, end, scratch);
    case 4: return rows_of_width<4>(job, begin, end, scratch);
    case 5: return rows_of_width<5>(job, begin, end, scratch);
    case 6: return rows_of_width<6>(job, begin, end, scratch);
    default: return rows_of_width<8>(job, begin, end, scratch);
  }
}

}  // namespace axon::cpu::int8

#endif
