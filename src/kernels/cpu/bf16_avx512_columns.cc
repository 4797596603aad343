// W^T x for AVX512-BF16. A 32-bit lane is a column, and holds what two rows of W have there: a pair of values of x, in
// all lanes, meets 64 columns in four instructions. The way back is so made of the same dot products as the way there,
// and no sum crosses lanes. A panel of rows is decoded and paired once for all tokens.

#include "kernels/cpu/bf16_avx512.h"
#include "kernels/cpu/bf16_kernels.h"

#if defined(__x86_64__)

#include <algorithm>
#include <cstring>

namespace axon::cpu::bf16 {
namespace {

constexpr std::size_t kTokensMax = 6;    // 6 * 4 sums, 4 vectors of weights and one of x
constexpr std::size_t kVectorCols = 16;  // columns of a vector
constexpr std::size_t kTileCols = 64;    // four vectors
constexpr std::size_t kRowsAhead = 16;   // codes are asked for that many rows before they are decoded
static_assert(kUnitCols % kTileCols == 0 && kPanelRows % 2 == 0);

template <std::size_t kTokens>
struct Sums {
  __m512 of[kTokens][4];
};

// Where a tile's sums lie in y. By recursion for the reason that bf16_avx512.cc gives.
struct Target {
  float* y;  // of the first token and column
  std::size_t stride;
  __mmask16 mask[4];
};

template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void load(Sums<kTokens>& sums, const Target& to) {
  if constexpr (t < kTokens) {
    const float* y = to.y + t * to.stride;
    sums.of[t][0] = _mm512_maskz_loadu_ps(to.mask[0], y);
    sums.of[t][1] = _mm512_maskz_loadu_ps(to.mask[1], y + kVectorCols);
    sums.of[t][2] = _mm512_maskz_loadu_ps(to.mask[2], y + 2 * kVectorCols);
    sums.of[t][3] = _mm512_maskz_loadu_ps(to.mask[3], y + 3 * kVectorCols);
    load<t + 1>(sums, to);
  }
}
template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void clear(Sums<kTokens>& sums) {
  if constexpr (t < kTokens) {
    sums.of[t][0] = sums.of[t][1] = sums.of[t][2] = sums.of[t][3] = _mm512_setzero_ps();
    clear<t + 1>(sums);
  }
}
template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void store(const Sums<kTokens>& sums, const Target& to) {
  if constexpr (t < kTokens) {
    float* y = to.y + t * to.stride;
    _mm512_mask_storeu_ps(y, to.mask[0], sums.of[t][0]);
    _mm512_mask_storeu_ps(y + kVectorCols, to.mask[1], sums.of[t][1]);
    _mm512_mask_storeu_ps(y + 2 * kVectorCols, to.mask[2], sums.of[t][2]);
    _mm512_mask_storeu_ps(y + 3 * kVectorCols, to.mask[3], sums.of[t][3]);
    store<t + 1>(sums, to);
  }
}

template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void add_tokens(Sums<kTokens>& sums, const __m512i (&w)[4], const std::uint16_t* const (&x)[kTokens],
                                 std::size_t row) {
  if constexpr (t < kTokens) {
    int pair;
    __builtin_memcpy(&pair, x[t] + row, sizeof(pair));
    const __m512i token = _mm512_set1_epi32(pair);
    add_dots(sums.of[t][0], w[0], token);
    add_dots(sums.of[t][1], w[1], token);
    add_dots(sums.of[t][2], w[2], token);
    add_dots(sums.of[t][3], w[3], token);
    add_tokens<t + 1>(sums, w, x, row);
  }
}

// A panel of paired rows: those of 64 columns lie together, pair after pair.
struct Panel {
  const std::uint16_t* w;  // [cols/64, pairs, 64, 2]
  std::size_t first_row, pairs;
};

// Tokens [first_token, first_token + kTokens) in 64 columns.
template <std::size_t kTokens>
AXON_BF16 void multiply(const Job& job, const Panel& panel, std::size_t first_token, const std::uint16_t* w,
                        const Target& to, bool add) {
  const std::uint16_t* x[kTokens];
  AXON_UNROLL
  for (std::size_t t = 0; t < kTokens; ++t) x[t] = job.x_row(first_token + t) + panel.first_row;
  Sums<kTokens> sums;
  if (add) {
    load(sums, to);
  } else {
    clear(sums);
  }
  for (std::size_t row = 0; row < 2 * panel.pairs; row += 2, w += 2 * kTileCols) {
    const __m512i weights[4] = {_mm512_load_si512(w), _mm512_load_si512(w + kLanes), _mm512_load_si512(w + 2 * kLanes),
                                _mm512_load_si512(w + 3 * kLanes)};
    add_tokens(sums, weights, x, row);
  }
  store(sums, to);
}

// All tokens in columns [begin, begin + count).
AXON_BF16 void multiply_panel(const Job& job, const Panel& panel, std::size_t begin, std::size_t count, bool add) {
  constexpr decltype(&multiply<1>) kMultiply[kTokensMax] = {multiply<1>, multiply<2>, multiply<3>,
                                                            multiply<4>, multiply<5>, multiply<6>};
  const std::size_t tokens = job.y.rows, blocks = (tokens + kTokensMax - 1) / kTokensMax;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t first = tokens * b / blocks, last = tokens * (b + 1) / blocks;
    for (std::size_t c = 0; c < count; c += kTileCols) {
      Target to{job.y.row_ptr(first) + begin + c, job.y.stride, {}};
      for (std::size_t v = 0; v < 4; ++v) {
        const std::size_t at = std::min(c + v * kVectorCols, count);
        to.mask[v] = static_cast<__mmask16>(first_lanes(std::min(count - at, kVectorCols)));
      }
      kMultiply[last - first - 1](job, panel, first, panel.w + c * 2 * panel.pairs, to, add);
    }
  }
}

// Asks for the codes of columns [begin, begin + count) of row r. What lies past the end is not read.
AXON_BF16_INLINE void ask_for(const Weight& w, std::size_t r, std::size_t begin, std::size_t count) {
  const std::size_t bits = w.quantised() ? static_cast<std::size_t>(w.affine.bits) : 16;
  const auto row = reinterpret_cast<std::uintptr_t>(w.data) + r * w.row_bytes();
  const std::uintptr_t last = row + (begin + count) * bits / 8;
  for (std::uintptr_t at = (row + begin * bits / 8) & ~std::uintptr_t{63}; at < last; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
  }
}

// Rows [panel.first_row, last_row) in columns [begin, begin + count), paired; an odd last row is paired with zeros.
AXON_BF16 void pair_rows(const Weight& w, const Panel& panel, std::size_t last_row, std::size_t begin,
                         std::size_t count, std::uint16_t* out) {
  alignas(64) std::uint16_t upper[kUnitCols] = {}, lower[kUnitCols] = {};
  const __m512i even = _mm512_cvtepu16_epi32(_mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
  const __m512i first = _mm512_or_si512(even, _mm512_slli_epi32(_mm512_add_epi32(even, _mm512_set1_epi32(32)), 16));
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  for (std::size_t pair = 0; pair < panel.pairs; ++pair) {
    const std::size_t r = panel.first_row + 2 * pair;
    if (r + kRowsAhead + 1 < w.rows) {
      ask_for(w, r + kRowsAhead, begin, count);
      ask_for(w, r + kRowsAhead + 1, begin, count);
    }
    decode_row(w, r, begin, count, upper);
    if (r + 1 < last_row) {
      decode_row(w, r + 1, begin, count, lower);
    } else {
      std::memset(lower, 0, sizeof(lower));
    }
    for (std::size_t k = 0; k < count; k += kTileCols) {
      std::uint16_t* to = out + (k * panel.pairs + pair * kTileCols) * 2;
      AXON_UNROLL
      for (std::size_t i = 0; i < kTileCols; i += kLanes) {
        const __m512i a = _mm512_load_si512(upper + k + i), b = _mm512_load_si512(lower + k + i);
        _mm512_store_si512(to + 2 * i, _mm512_permutex2var_epi16(a, first, b));
        _mm512_store_si512(to + 2 * i + kLanes, _mm512_permutex2var_epi16(a, second, b));
      }
    }
  }
}

}  // namespace

AXON_BF16 void columns(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  auto* paired = reinterpret_cast<std::uint16_t*>(scratch);
  const std::size_t rows = job.weight.rows;
  for (std::size_t c = begin; c < end; c += kUnitCols) {
    const std::size_t count = std::min(end - c, kUnitCols);
    std::size_t r = 0;
    do {  // without rows, too: y is set
      const std::size_t last = std::min(r + kPanelRows, rows);
      const Panel panel{paired, r, (last - r + 1) / 2};
      pair_rows(job.weight, panel, last, c, count, paired);
      multiply_panel(job, panel, c, count, job.add || r != 0);
      r = last;
    } while (r < rows);
  }
}

}  // namespace axon::cpu::bf16

#endif
