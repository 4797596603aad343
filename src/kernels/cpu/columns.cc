#include "kernels/cpu/columns.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/columns.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

void scale_row(const float* x, const float* scale, float* y, std::size_t count, bool add) {
  if (add) {
    for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR {
      hn::StoreU(hn::MulAdd(hn::LoadU(d, scale + i), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
    });
  } else {
    for_lanes(count, [&](auto d, std::size_t i)
                         HWY_ATTR { hn::StoreU(hn::Mul(hn::LoadU(d, scale + i), hn::LoadU(d, x + i)), d, y + i); });
  }
}

// kVectors vectors of columns, from column i on.
template <std::size_t kVectors, class D>
HWY_INLINE void add_dots(D d, Mat<const float> a, Mat<const float> b, std::size_t i, float* g) {
  using V = hn::Vec<D>;
  const std::size_t L = hn::Lanes(d);
  V sum[kVectors];
  for (std::size_t r = 0; r < kVectors; ++r) sum[r] = hn::LoadU(d, g + i + r * L);
  for (std::size_t t = 0; t < a.rows; ++t) {
    const float *left = a.row_ptr(t) + i, *right = b.row_ptr(t) + i;
    for (std::size_t r = 0; r < kVectors; ++r) {
      sum[r] = hn::MulAdd(hn::LoadU(d, left + r * L), hn::LoadU(d, right + r * L), sum[r]);
    }
  }
  for (std::size_t r = 0; r < kVectors; ++r) hn::StoreU(sum[r], d, g + i + r * L);
}

void add_dots_of_columns(Mat<const float> a, Mat<const float> b, float* g) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + 8 * L <= a.cols; i += 8 * L) add_dots<8>(d, a, b, i, g);
  for (; i + L <= a.cols; i += L) add_dots<1>(d, a, b, i, g);
  for (; i < a.cols; ++i) add_dots<1>(OneFloat(), a, b, i, g);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(scale_row);
HWY_EXPORT(add_dots_of_columns);

namespace cpu {

void scale_columns(ThreadPool& pool, Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add) {
  AXON_DCHECK(x.rows == y.rows && x.cols == y.cols && scale.size() == x.cols);
  // 8 rows of 2560 take about as long as waking a thread.
  pool.split(x.rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(scale_row)(x.row_ptr(t), scale.data(), y.row_ptr(t), x.cols, add);
    }
  });
}

void add_column_dots(ThreadPool& pool, Mat<const float> a, Mat<const float> b, std::span<float> g) {
  AXON_DCHECK(a.rows == b.rows && a.cols == b.cols && g.size() == a.cols);
  if (a.rows == 0) return;
  // Threads take columns, whole groups of 8 vectors; some 16 K products are worth a thread.
  constexpr std::size_t kColumns = 128;
  const std::size_t grain = std::max(kColumns, (16384 / a.rows + kColumns - 1) / kColumns * kColumns);
  pool.split(a.cols, grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    HWY_DYNAMIC_DISPATCH(add_dots_of_columns)
    (a.cols_from(begin, end - begin), b.cols_from(begin, end - begin), g.data() + begin);
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
