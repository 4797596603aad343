#include "kernels/cpu/matmul_float.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_float.cc"
#include <hwy/foreach_target.h>  // before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon::cpu {
namespace HWY_NAMESPACE {
namespace {

using Floats = DecodedFloats;
using V = hn::Vec<Floats>;

// Tokens that meet four rows at a time: 6 * 4 sums need 32 registers.
constexpr std::size_t kTileTokens = HWY_MAX_BYTES >= 64 || HWY_ARCH_ARM_A64 ? 6 : 3;
// Columns of a panel: as many of 6 tokens as the first cache holds. Sums cross lanes once a panel.
constexpr std::size_t kPanelCols = 1024;
// Rows of a panel that stay in the second cache while all tokens pass.
constexpr std::size_t kBlockRowsMax = 64;

// sums[i] = row i . x; rows lie `cols` apart. One row is a stream that the processor sees by itself (asked for 4 KiB
// ahead, bf16 is a seventh slower); of several, those that follow are asked for in the order in which they lie, into
// the second cache.
template <std::size_t kRows, class T>
HWY_INLINE void dots(const T* HWY_RESTRICT w, const float* HWY_RESTRICT x, std::size_t cols, float* sums) {
  constexpr std::size_t kChains = kRows >= 4 ? 1 : 4 / kRows;  // of a row: additions wait for each other four cycles
  const Floats d;
  const std::size_t n = hn::Lanes(d);
  V s[kRows][kChains];
  for (auto& row : s) {
    for (V& chain : row) chain = hn::Zero(d);
  }
  std::size_t k = 0;
  const auto* next = reinterpret_cast<const std::byte*>(w + kRows * cols);
  for (; k + kChains * n <= cols; k += kChains * n) {
    if constexpr (kRows > 1) {
      for (std::size_t at = 0; at < kRows * kChains * n * sizeof(T); at += 64) __builtin_prefetch(next + at, 0, 2);
      next += kRows * kChains * n * sizeof(T);
    }
    for (std::size_t c = 0; c < kChains; ++c) {
      const V xk = hn::LoadU(d, x + k + c * n);
      for (std::size_t i = 0; i < kRows; ++i) {
        s[i][c] = hn::MulAdd(load(d, w + i * cols + k + c * n), xk, s[i][c]);
      }
    }
  }
  for (; k + n <= cols; k += n) {
    const V xk = hn::LoadU(d, x + k);
    for (std::size_t i = 0; i < kRows; ++i) s[i][0] = hn::MulAdd(load(d, w + i * cols + k), xk, s[i][0]);
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    V total = s[i][0];
    for (std::size_t c = 1; c < kChains; ++c) total = hn::Add(total, s[i][c]);
    sums[i] = hn::GetLane(hn::SumOfLanes(d, total));
    for (std::size_t tail = k; tail < cols; ++tail) sums[i] += widen(w[i * cols + tail]) * x[tail];
  }
}

template <class T>
HWY_INLINE float dot(const T* HWY_RESTRICT w, const float* HWY_RESTRICT x, std::size_t cols) {
  float sum;
  dots<1>(w, x, cols, &sum);
  return sum;
}

void put(const Product& p, std::size_t t, std::size_t r, float sum, bool add) {
  float& y = p.y.data[t * p.y.stride + r];
  y = add ? y + sum : sum;
}

// `count` rows from `first_row` on, in columns [first_col, first_col + cols).
struct Block {
  const float* data;
  std::size_t stride, first_row, count, first_col, cols;
};

// kRows rows times kTokens tokens.
template <std::size_t kRows, std::size_t kTokens>
HWY_INLINE void tile(const Product& p, const Block& block, std::size_t i, std::size_t t, bool add) {
  const Floats d;
  const std::size_t cols = block.cols;
  const float* x[kTokens];
  const float* w[kRows];
  V sum[kRows][kTokens];
  for (std::size_t a = 0; a < kRows; ++a) {
    w[a] = block.data + (i + a) * block.stride;
    for (std::size_t b = 0; b < kTokens; ++b) sum[a][b] = hn::Zero(d);
  }
  for (std::size_t b = 0; b < kTokens; ++b) {
    x[b] = p.x.row_ptr(p.x_rows.empty() ? t + b : p.x_rows[t + b]) + block.first_col;
  }
  std::size_t k = 0;
  for (; k + hn::Lanes(d) <= cols; k += hn::Lanes(d)) {
    V wk[kRows];
    for (std::size_t a = 0; a < kRows; ++a) wk[a] = hn::LoadU(d, w[a] + k);
    for (std::size_t b = 0; b < kTokens; ++b) {
      const V xk = hn::LoadU(d, x[b] + k);
      for (std::size_t a = 0; a < kRows; ++a) sum[a][b] = hn::MulAdd(wk[a], xk, sum[a][b]);
    }
  }
  for (std::size_t b = 0; b < kTokens; ++b) {
    for (std::size_t a = 0; a < kRows; ++a) {
      float total = hn::GetLane(hn::SumOfLanes(d, sum[a][b]));
      for (std::size_t tail = k; tail < cols; ++tail) total += w[a][tail] * x[b][tail];
      put(p, t + b, block.first_row + i + a, total, add);
    }
  }
}

template <std::size_t kTokens>
void tiles(const Product& p, const Block& block, std::size_t t, bool add) {
  std::size_t i = 0;
  for (; i + 4 <= block.count; i += 4) tile<4, kTokens>(p, block, i, t, add);
  for (; i < block.count; ++i) tile<1, kTokens>(p, block, i, t, add);
}

// Where the block lies, or decoded.
Block block_of(const Weight& w, Range rows, std::size_t first_col, std::size_t cols, std::byte* scratch) {
  Block block{nullptr, w.cols, rows.begin, rows.end - rows.begin, first_col, cols};
  if (!w.quantised() && w.dtype == DType::kF32) {
    block.data = row_of<float>(w, rows.begin) + first_col;
    return block;
  }
  auto* out = reinterpret_cast<float*>(scratch);
  block.data = out;
  block.stride = round_up(cols, 16);
  auto* codes = reinterpret_cast<std::uint8_t*>(out + block.count * block.stride);
  for (std::size_t i = 0; i < block.count; ++i) {
    decode_part(w, rows.begin + i, first_col, cols, codes, out + i * block.stride);
  }
  return block;
}

void rows_of_many(const Product& p, Range rows, Range tokens, std::byte* scratch) {
  const std::size_t cols = p.weight.cols, padded = round_up(cols == 0 ? 1 : cols, 16);
  const std::size_t width = padded < kPanelCols ? padded : kPanelCols;
  const std::size_t room = kFloatBlockRows * padded / width / 4 * 4;
  const std::size_t most = room < kBlockRowsMax ? room : kBlockRowsMax;
  for (std::size_t r = rows.begin; r < rows.end; r += most) {
    const std::size_t last = rows.end - r < most ? rows.end : r + most;
    std::size_t k = 0;
    do {
      const std::size_t count = cols - k < width ? cols - k : width;
      const Block block = block_of(p.weight, {r, last}, k, count, scratch);
      const bool add = p.add || k != 0;
      std::size_t t = tokens.begin;
      for (; t + kTileTokens <= tokens.end; t += kTileTokens) tiles<kTileTokens>(p, block, t, add);
      for (; t < tokens.end; ++t) tiles<1>(p, block, t, add);
      k += count;
    } while (k < cols);
  }
}

// Where x is too long to stay in the first cache, rows share what is loaded of it.
constexpr std::size_t kLongX = 4096;

template <class T>
void rows_of_one(const Product& p, const float* x, std::size_t begin, std::size_t end) {
  std::size_t r = begin;
  if (p.weight.cols > kLongX) {
    for (float sums[4]; r + 4 <= end; r += 4) {
      dots<4>(row_of<T>(p.weight, r), x, p.weight.cols, sums);
      for (std::size_t i = 0; i < 4; ++i) put(p, 0, r + i, sums[i], p.add);
    }
  }
  for (; r < end; ++r) put(p, 0, r, dot(row_of<T>(p.weight, r), x, p.weight.cols), p.add);
}

void rows(const Product& p, Range range, Range tokens, std::byte* scratch) {
  const Weight& w = p.weight;
  if (p.y.rows > 1) return rows_of_many(p, range, tokens, scratch);
  const auto [begin, end] = range;
  const float* x = p.x.row_ptr(p.x_rows.empty() ? 0 : p.x_rows[0]);
  if (w.quantised()) {
    for (std::size_t r = begin; r < end; ++r) {
      put(p, 0, r, dot(block_of(w, {r, r + 1}, 0, w.cols, scratch).data, x, w.cols), p.add);
    }
  } else if (w.dtype == DType::kF32) {
    rows_of_one<float>(p, x, begin, end);
  } else if (w.dtype == DType::kF16) {
    rows_of_one<hwy::float16_t>(p, x, begin, end);
  } else {
    rows_of_one<hwy::bfloat16_t>(p, x, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon::cpu {

HWY_EXPORT(rows);

void float_rows(const Product& product, Range rows_wanted, Range tokens, std::byte* scratch) {
  HWY_DYNAMIC_DISPATCH(rows)(product, rows_wanted, tokens, scratch);
}

}  // namespace axon::cpu
#endif
