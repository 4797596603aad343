// bf16 kernels for AVX512-BF16. The lanes are columns, as the weights lie: 4 rows meet 6 tokens in 24 sums, and a sum
// crosses lanes once a panel of columns. 64 rows of a panel stay in the second cache while all tokens pass: where they
// lie if they are bf16, or decoded.

#include "kernels/cpu/bf16_avx512.h"
#include "kernels/cpu/bf16_kernels.h"

#if defined(__x86_64__)

#include <algorithm>

namespace axon::cpu::bf16 {
namespace {

constexpr std::size_t kTileRows = 4;  // 4 * 6 sums, 4 vectors of weights and one of activations
constexpr std::size_t kTokensMax = 6;
static_assert(kTileRows <= kRowsMin);

AXON_BF16_INLINE const std::uint16_t* row_of(const Weight& w, std::size_t r) {
  return static_cast<const std::uint16_t*>(w.data) + r * w.cols;
}

// Columns [begin, begin + 32 * steps + tail).
struct Panel {
  std::size_t begin, steps, tail;
};

// Rows of W in the columns of a panel: `first` and those after it, as bf16.
struct Rows {
  const std::uint16_t* data;
  std::size_t stride, first;

  const std::uint16_t* row(std::size_t r) const { return data + (r - first) * stride; }
};

// Weights that come next, asked for while these are multiplied: line by line of `rows` rows, `stride` elements apart.
struct Ahead {
  const std::uint16_t* at;
  std::size_t rows, stride;
};

// Of kTokens tokens and 4 rows. What goes through it does so by recursion, not in loops: GCC 12 keeps an array in
// registers for certain only where no index of it ever was a variable.
template <std::size_t kTokens>
struct Sums {
  __m512 of[kTokens][kTileRows];
};

template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void clear(Sums<kTokens>& sums) {
  if constexpr (t < kTokens) {
    sums.of[t][0] = sums.of[t][1] = sums.of[t][2] = sums.of[t][3] = _mm512_setzero_ps();
    clear<t + 1>(sums);
  }
}

template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void add_tokens(Sums<kTokens>& sums, const __m512i (&w)[kTileRows],
                                 const std::uint16_t* const (&x)[kTokens], std::size_t k) {
  if constexpr (t < kTokens) {
    const __m512i token = _mm512_load_si512(x[t] + k);
    add_dots(sums.of[t][0], w[0], token);
    add_dots(sums.of[t][1], w[1], token);
    add_dots(sums.of[t][2], w[2], token);
    add_dots(sums.of[t][3], w[3], token);
    add_tokens<t + 1>(sums, w, x, k);
  }
}

// 32 columns from k on.
template <std::size_t kTokens>
AXON_BF16_INLINE void step(Sums<kTokens>& sums, const std::uint16_t* const (&w)[kTileRows],
                           const std::uint16_t* const (&x)[kTokens], std::size_t k) {
  const __m512i weights[kTileRows] = {_mm512_loadu_si512(w[0] + k), _mm512_loadu_si512(w[1] + k),
                                      _mm512_loadu_si512(w[2] + k), _mm512_loadu_si512(w[3] + k)};
  add_tokens(sums, weights, x, k);
}
// The same; of the weights only the columns in `mask` are read.
template <std::size_t kTokens>
AXON_BF16_INLINE void last_step(Sums<kTokens>& sums, const std::uint16_t* const (&w)[kTileRows],
                                const std::uint16_t* const (&x)[kTokens], std::size_t k, __mmask32 mask) {
  const __m512i weights[kTileRows] = {
      _mm512_maskz_loadu_epi16(mask, w[0] + k), _mm512_maskz_loadu_epi16(mask, w[1] + k),
      _mm512_maskz_loadu_epi16(mask, w[2] + k), _mm512_maskz_loadu_epi16(mask, w[3] + k)};
  add_tokens(sums, weights, x, k);
}

// The sums of each of four vectors.
AXON_BF16_INLINE __m128 reduce(const __m512 (&v)[kTileRows]) {
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
  const __m512 e =
      _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)), _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
  const __m256 f = _mm256_add_ps(_mm512_castps512_ps256(e), _mm512_extractf32x8_ps(e, 1));
  return _mm_add_ps(_mm256_castps256_ps128(f), _mm256_extractf128_ps(f, 1));
}

// y (+)= the sums, in the rows of `mask`. y is that of the first token and row.
template <std::size_t t = 0, std::size_t kTokens>
AXON_BF16_INLINE void store(const Sums<kTokens>& sums, float* y, std::size_t stride, __mmask8 mask, bool add) {
  if constexpr (t < kTokens) {
    const __m128 old = add ? _mm_maskz_loadu_ps(mask, y) : _mm_setzero_ps();
    _mm_mask_storeu_ps(y, mask, _mm_add_ps(old, reduce(sums.of[t])));
    store<t + 1>(sums, y + stride, stride, mask, add);
  }
}

// 4 rows from `first_row` on times tokens [first_token, first_token + kTokens), for the columns of a panel. Where fewer
// than 4 are left, those before them come in once more, and only the new ones are stored.
template <std::size_t kTokens>
AXON_BF16 void multiply(const Job& job, const Panel& panel, const Rows& rows, std::size_t first_row,
                        std::size_t first_token, bool add, const Ahead& ahead) {
  const std::size_t row = std::min(first_row, job.weight.rows - kTileRows);
  const std::uint16_t* const w[kTileRows] = {rows.row(row), rows.row(row + 1), rows.row(row + 2), rows.row(row + 3)};
  const std::uint16_t* x[kTokens];
  AXON_UNROLL
  for (std::size_t t = 0; t < kTokens; ++t) x[t] = job.x_row(first_token + t) + panel.begin;
  Sums<kTokens> sums;
  clear(sums);
  const std::size_t whole = panel.steps * kLanes;
  if (ahead.rows == 0) {  // nearly always with many tokens: worth a loop without the question
    std::size_t k = 0;
    for (; k + 2 * kLanes <= whole; k += 2 * kLanes) {
      step(sums, w, x, k);
      step(sums, w, x, k + kLanes);
    }
    if (k < whole) step(sums, w, x, k);
  } else {
    for (std::size_t k = 0; k < whole; k += kLanes) {
      for (std::size_t i = 0; i < ahead.rows; ++i) _mm_prefetch(ahead.at + i * ahead.stride + k, _MM_HINT_T1);
      step(sums, w, x, k);
    }
  }
  if (panel.tail != 0) last_step(sums, w, x, whole, first_lanes(panel.tail));
  const auto mask = static_cast<__mmask8>(0xFu & (0xFu << (first_row - row)));
  store(sums, job.y.row_ptr(first_token) + row, job.y.stride, mask, add);
}

// All tokens meet rows [first, last) in one panel; meanwhile the rows [next, next_last) are asked for, from column
// `next_col` on.
struct Block {
  std::size_t first, last, next, next_last, next_col;
};

AXON_BF16 void multiply_block(const Job& job, const Panel& panel, const Rows& rows, const Block& block, bool add) {
  constexpr decltype(&multiply<1>) kMultiply[kTokensMax] = {multiply<1>, multiply<2>, multiply<3>,
                                                            multiply<4>, multiply<5>, multiply<6>};
  // Blocks of tokens of nearly the same size: one of 6 and one of 1 would cost more than 4 and 3.
  const std::size_t tokens = job.y.rows;
  const std::size_t token_blocks = (tokens + kTokensMax - 1) / kTokensMax;
  const std::size_t tiles = (block.last - block.first + kTileRows - 1) / kTileRows;
  const std::size_t turns = token_blocks * tiles, wanted = block.next_last - block.next;
  std::size_t turn = 0, asked = 0;
  for (std::size_t b = 0; b < token_blocks; ++b) {
    const std::size_t begin = tokens * b / token_blocks, end = tokens * (b + 1) / token_blocks;
    for (std::size_t r = block.first; r < block.last; r += kTileRows) {
      const std::size_t until = wanted * ++turn / turns;
      const Ahead ahead{row_of(job.weight, block.next + asked) + block.next_col, until - asked, job.weight.cols};
      kMultiply[end - begin - 1](job, panel, rows, r, begin, add, ahead);
      asked = until;
    }
  }
}

// Rows [first, last) in the columns of a panel: where they lie, or decoded.
AXON_BF16 Rows rows_in(const Panel& panel, const Weight& w, std::size_t first, std::size_t last, std::byte* scratch) {
  if (!w.quantised()) return {row_of(w, first) + panel.begin, w.cols, first};
  auto* out = reinterpret_cast<std::uint16_t*>(scratch);
  const std::size_t count = panel.steps * kLanes + panel.tail;
  for (std::size_t r = first; r < last; ++r) decode_row(w, r, panel.begin, count, out + (r - first) * stride(count));
  return {out, stride(count), first};
}

AXON_BF16 void rows_of_many(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  const std::size_t cols = job.weight.cols;
  const std::size_t panels = std::max<std::size_t>((cols + kPanelCols - 1) / kPanelCols, 1);
  const std::size_t width = round_up((cols + panels - 1) / panels, kLanes);
  for (std::size_t r = begin; r < end; r += kBlockRows) {
    const std::size_t last = std::min(r + kBlockRows, end);
    std::size_t first_col = 0;
    do {
      const std::size_t count = std::min(cols - first_col, width);
      const Panel panel{first_col, count / kLanes, count % kLanes};
      const Rows rows = rows_in(panel, job.weight, std::min(r, job.weight.rows - kTileRows), last, scratch);
      const bool more = first_col + count < cols;
      Block block =
          more ? Block{r, last, r, last, first_col + count} : Block{r, last, last, std::min(last + kBlockRows, end), 0};
      if (job.weight.quantised()) block.next_last = block.next;  // read only once, to be decoded
      multiply_block(job, panel, rows, block, job.add || first_col != 0);
      first_col += count;
    } while (first_col < cols);
  }
}

// How far ahead of the loads weights are asked for, in elements. They lie row after row, so this may be the next row.
constexpr std::size_t kAhead = 1536;

AXON_BF16 void rows_of_one(const Job& job, std::size_t begin, std::size_t end) {
  const std::size_t cols = job.weight.cols;
  const std::uint16_t* x = job.x_row(0);
  for (std::size_t r = begin; r < end; ++r) {
    const std::uint16_t* w = row_of(job.weight, r);
    __m512 sum[4];
    AXON_UNROLL
    for (auto& s : sum) s = _mm512_setzero_ps();
    std::size_t k = 0;
    for (; k + 4 * kLanes <= cols; k += 4 * kLanes) {
      AXON_UNROLL
      for (std::size_t i = 0; i < 4; ++i) {
        _mm_prefetch(w + k + kAhead + i * kLanes, _MM_HINT_T0);
        add_dots(sum[i], _mm512_loadu_si512(w + k + i * kLanes), _mm512_load_si512(x + k + i * kLanes));
      }
    }
    for (; k < cols; k += kLanes) {
      add_dots(sum[0], _mm512_maskz_loadu_epi16(first_lanes(cols - k), w + k), _mm512_load_si512(x + k));
    }
    const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
    float& y = job.y.data[r];
    const float value = _mm512_reduce_add_ps(all);
    y = job.add ? y + value : value;
  }
}

void rows(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  if (job.y.rows == 1 && !job.weight.quantised()) return rows_of_one(job, begin, end);
  rows_of_many(job, begin, end, scratch);
}

AXON_BF16 void round(const float* x, std::size_t cols, std::uint16_t* out) {
  const std::size_t padded = stride(cols);
  for (std::size_t k = 0; k < padded; k += 16) {
    const std::size_t left = cols - std::min(k, cols);
    const auto mask = static_cast<__mmask16>(first_lanes(std::min<std::size_t>(left, 16)));
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + k));
    __builtin_memcpy(out + k, &rounded, sizeof(rounded));
  }
}

constexpr Kernels kAvx512Kernels{round, rows, columns};

}  // namespace

const Kernels* kernels(Level level) { return has_bf16_dot(level) ? &kAvx512Kernels : nullptr; }

}  // namespace axon::cpu::bf16

#else

namespace axon::cpu::bf16 {

const Kernels* kernels(Level) { return nullptr; }

}  // namespace axon::cpu::bf16

#endif
