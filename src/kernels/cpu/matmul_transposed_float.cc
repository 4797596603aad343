#include "kernels/cpu/matmul_transposed_float.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_transposed_float.cc"
#include <hwy/foreach_target.h>  // before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/outer_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon::cpu {
namespace HWY_NAMESPACE {
namespace {

// Rows [first_row, first_row + rows) of W in columns [first_col, first_col + cols), as float32.
struct Panel {
  const float* data;
  std::size_t stride, first_row, rows, first_col, cols;

  const float* operator()(std::size_t k) const { return data + k * stride; }
};

// kTokens tokens from t on.
template <std::size_t kTokens>
void multiply(const Product& p, const Panel& panel, std::size_t t, bool add) {
  OuterRows<kTokens> x;
  x.step = 1;
  float* y[kTokens];
  for (std::size_t i = 0; i < kTokens; ++i) {
    x.row[i] = p.x.row_ptr(p.x_rows.empty() ? t + i : p.x_rows[t + i]) + panel.first_row;
    y[i] = p.y.row_ptr(t + i) + panel.first_col;
  }
  outer_columns(
      x, panel, panel.rows, panel.cols,
      [&](auto d, std::size_t i, std::size_t c) HWY_ATTR { return add ? hn::LoadU(d, y[i] + c) : hn::Zero(d); },
      [&](auto d, std::size_t i, std::size_t c, auto sum) HWY_ATTR { hn::StoreU(sum, d, y[i] + c); });
}

void multiply_panel(const Product& p, const Panel& panel, bool add) {
  constexpr decltype(&multiply<1>) kMultiply[kOuterRowsMax] = {multiply<1>, multiply<2>, multiply<3>,
                                                               multiply<4>, multiply<5>, multiply<6>};
  const std::size_t tokens = p.y.rows, blocks = (tokens + kOuterRowsMax - 1) / kOuterRowsMax;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t first = tokens * b / blocks, last = tokens * (b + 1) / blocks;
    kMultiply[last - first - 1](p, panel, first, add);
  }
}

// Rows of float32 that are few meet all tokens where they lie, in all columns at once: what is read and written then is
// y, row by row.
constexpr std::size_t kRowsInPlace = 64;

// One token with such rows is a matter of reading them: long streams, row after row, into y, which stays in the cache.
constexpr std::size_t kStreamCols = 2048;

void stream_rows(const Product& p, std::size_t begin, std::size_t end) {
  const hn::ScalableTag<float> d;
  const std::size_t n = hn::Lanes(d);
  const float* x = p.x.row_ptr(p.x_rows.empty() ? 0 : p.x_rows[0]);
  float* HWY_RESTRICT y = p.y.row_ptr(0);
  for (std::size_t first = begin; first < end; first += kStreamCols) {
    const std::size_t last = end - first < kStreamCols ? end : first + kStreamCols;
    for (std::size_t r = 0; r < p.weight.rows; ++r) {
      const float* HWY_RESTRICT w = row_of<float>(p.weight, r);
      const bool add = p.add || r != 0;
      const auto factor = hn::Set(d, x[r]);
      std::size_t c = first;
      for (; c + n <= last; c += n) {
        const auto old = add ? hn::LoadU(d, y + c) : hn::Zero(d);
        hn::StoreU(hn::MulAdd(hn::LoadU(d, w + c), factor, old), d, y + c);
      }
      for (; c < last; ++c) y[c] = (add ? y[c] : 0.0f) + w[c] * x[r];
    }
  }
}

void columns(const Product& p, std::size_t begin, std::size_t end, std::byte* scratch) {
  const Weight& w = p.weight;
  const bool in_place = !w.quantised() && w.dtype == DType::kF32 && w.rows <= kRowsInPlace;
  if (in_place && p.y.rows == 1 && w.rows != 0) return stream_rows(p, begin, end);
  if (in_place) {
    return multiply_panel(p, {row_of<float>(w, 0) + begin, w.cols, 0, w.rows, begin, end - begin}, p.add);
  }
  auto* out = reinterpret_cast<float*>(scratch);
  for (std::size_t c = begin; c < end; c += kFloatUnitCols) {
    const std::size_t cols = end - c < kFloatUnitCols ? end - c : kFloatUnitCols, stride = round_up(cols, 16);
    std::size_t r = 0;
    do {  // without rows, too: y is set
      const std::size_t rows = w.rows - r < kFloatPanelRows ? w.rows - r : kFloatPanelRows;
      auto* codes = reinterpret_cast<std::uint8_t*>(out + rows * stride);
      for (std::size_t i = 0; i < rows; ++i) decode_part(w, r + i, c, cols, codes, out + i * stride);
      multiply_panel(p, {out, stride, r, rows, c, cols}, p.add || r != 0);
      r += rows;
    } while (r < w.rows);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon::cpu {

HWY_EXPORT(columns);

void float_columns(const Product& product, std::size_t begin, std::size_t end, std::byte* scratch) {
  HWY_DYNAMIC_DISPATCH(columns)(product, begin, end, scratch);
}

}  // namespace axon::cpu
#endif
