#include "kernels/cpu/matmul_float.h"

#include "kernels/cpu/int8_portable.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_float.cc"
#include <hwy/foreach_target.h>  // before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace axon::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 32>;  // divides every group
using V = hn::Vec<Floats>;

// Tokens that meet four rows at a time: 4 * 4 sums need the 32 registers of AVX-512.
constexpr std::size_t kTileTokens = HWY_MAX_BYTES >= 64 ? 4 : 2;

HWY_INLINE V load(Floats d, const float* p) { return hn::LoadU(d, p); }
template <class T>
HWY_INLINE V load(Floats d, const T* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, Floats>(), p));
}

inline float widen(float v) { return v; }
inline float widen(hwy::bfloat16_t v) { return bf16_to_float(v.bits); }
inline float widen(hwy::float16_t v) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, &v, 2);
  return f16_to_float(bits);
}

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

// Row r of W, decoded to `out`; `codes` is a buffer of cols bytes.
void decode_affine(const Weight& w, std::size_t r, std::uint8_t* codes, float* HWY_RESTRICT out) {
  const Floats d;
  const hn::RebindToSigned<Floats> words;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto group = static_cast<std::size_t>(w.affine.group_size);
  const auto* row = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  const std::uint8_t* code = int8::bytes_of_row(row, w.affine.bits, w.cols, codes);
  for (std::size_t g = 0; g < w.groups(); ++g) {
    const std::size_t at = r * w.groups() + g;
    const V scale = hn::Set(d, load_float(w.affine.scale_dtype, w.affine.scales, at));
    const V bias = hn::Set(d, load_float(w.affine.scale_dtype, w.affine.biases, at));
    for (std::size_t k = g * group; k < (g + 1) * group; k += hn::Lanes(d)) {
      const V value = hn::ConvertTo(d, hn::PromoteTo(words, hn::LoadU(bytes, code + k)));
      hn::StoreU(hn::MulAdd(value, scale, bias), d, out + k);
    }
  }
}

template <class T>
void widen_row(const T* HWY_RESTRICT in, std::size_t cols, float* HWY_RESTRICT out) {
  const Floats d;
  std::size_t k = 0;
  for (; k + hn::Lanes(d) <= cols; k += hn::Lanes(d)) {
    __builtin_prefetch(reinterpret_cast<const std::byte*>(in + k) + 3072);  // bytes
    hn::StoreU(load(d, in + k), d, out + k);
  }
  for (; k < cols; ++k) out[k] = widen(in[k]);
}

// Element [r, 0] of a matrix of T.
template <class T>
const T* row_of(const Weight& w, std::size_t r) {
  return static_cast<const T*>(w.data) + r * w.cols;
}

// `count` rows from r on as float32, `stride` apart: where they lie, or decoded to `buffer`.
const float* decoded(const Weight& w, std::size_t r, std::size_t count, std::size_t stride, std::byte* scratch) {
  if (!w.quantised() && w.dtype == DType::kF32) return row_of<float>(w, r);
  auto* out = reinterpret_cast<float*>(scratch);
  auto* codes = reinterpret_cast<std::uint8_t*>(out + kFloatBlockRows * stride);
  for (std::size_t i = 0; i < count; ++i) {
    if (w.quantised()) {
      decode_affine(w, r + i, codes, out + i * stride);
    } else if (w.dtype == DType::kF16) {
      widen_row(row_of<hwy::float16_t>(w, r + i), w.cols, out + i * stride);
    } else {
      widen_row(row_of<hwy::bfloat16_t>(w, r + i), w.cols, out + i * stride);
    }
  }
  return out;
}

void put(const Product& p, std::size_t t, std::size_t r, float sum) {
  float& y = p.y.data[t * p.y.stride + r];
  y = p.add ? y + sum : sum;
}

struct Rows {
  const float* data;
  std::size_t stride;
  std::size_t first;
};

// kRows rows times kTokens tokens.
template <std::size_t kRows, std::size_t kTokens>
HWY_INLINE void tile(const Product& p, const Rows& rows, std::size_t r, std::size_t t) {
  const Floats d;
  const std::size_t cols = p.weight.cols;
  const float* x[kTokens];
  const float* w[kRows];
  V sum[kRows][kTokens];
  for (std::size_t i = 0; i < kRows; ++i) {
    w[i] = rows.data + (r + i - rows.first) * rows.stride;
    for (std::size_t j = 0; j < kTokens; ++j) sum[i][j] = hn::Zero(d);
  }
  for (std::size_t j = 0; j < kTokens; ++j) x[j] = p.x.row_ptr(p.x_rows.empty() ? t + j : p.x_rows[t + j]);
  std::size_t k = 0;
  for (; k + hn::Lanes(d) <= cols; k += hn::Lanes(d)) {
    V wk[kRows];
    for (std::size_t i = 0; i < kRows; ++i) wk[i] = hn::LoadU(d, w[i] + k);
    for (std::size_t j = 0; j < kTokens; ++j) {
      const V xk = hn::LoadU(d, x[j] + k);
      for (std::size_t i = 0; i < kRows; ++i) sum[i][j] = hn::MulAdd(wk[i], xk, sum[i][j]);
    }
  }
  for (std::size_t j = 0; j < kTokens; ++j) {
    for (std::size_t i = 0; i < kRows; ++i) {
      float total = hn::GetLane(hn::SumOfLanes(d, sum[i][j]));
      for (std::size_t tail = k; tail < cols; ++tail) total += w[i][tail] * x[j][tail];
      put(p, t + j, r + i, total);
    }
  }
}

template <std::size_t kTokens>
HWY_INLINE void tiles(const Product& p, const Rows& rows, std::size_t count, std::size_t t) {
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) tile<4, kTokens>(p, rows, rows.first + i, t);
  for (; i < count; ++i) tile<1, kTokens>(p, rows, rows.first + i, t);
}

void rows_of_many(const Product& p, std::size_t begin, std::size_t end, std::byte* scratch) {
  const std::size_t tokens = p.x_rows.empty() ? p.x.rows : p.x_rows.size();
  const bool in_place = !p.weight.quantised() && p.weight.dtype == DType::kF32;
  const std::size_t stride = in_place ? p.weight.cols : round_up(p.weight.cols, 16);
  for (std::size_t r = begin; r < end; r += kFloatBlockRows) {
    const std::size_t count = end - r < kFloatBlockRows ? end - r : kFloatBlockRows;
    const Rows rows{decoded(p.weight, r, count, stride, scratch), stride, r};
    std::size_t t = 0;
    for (; t + kTileTokens <= tokens; t += kTileTokens) tiles<kTileTokens>(p, rows, count, t);
    for (; t < tokens; ++t) tiles<1>(p, rows, count, t);
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
      for (std::size_t i = 0; i < 4; ++i) put(p, 0, r + i, sums[i]);
    }
  }
  for (; r < end; ++r) put(p, 0, r, dot(row_of<T>(p.weight, r), x, p.weight.cols));
}

void rows(const Product& p, std::size_t begin, std::size_t end, std::byte* scratch) {
  const Weight& w = p.weight;
  if ((p.x_rows.empty() ? p.x.rows : p.x_rows.size()) > 1) return rows_of_many(p, begin, end, scratch);
  const float* x = p.x.row_ptr(p.x_rows.empty() ? 0 : p.x_rows[0]);
  if (w.quantised()) {
    for (std::size_t r = begin; r < end; ++r) {
      put(p, 0, r, dot(decoded(w, r, 1, round_up(w.cols, 16), scratch), x, w.cols));
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

void float_rows(const Product& product, std::size_t begin, std::size_t end, std::byte* scratch) {
  HWY_DYNAMIC_DISPATCH(rows)(product, begin, end, scratch);
}

}  // namespace axon::cpu
#endif
