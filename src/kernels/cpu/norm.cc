#include "kernels/cpu/norm.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

float sum_of_squares(const float* x, std::size_t count) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + L);
    const auto x2 = hn::LoadU(d, x + i + 2 * L), x3 = hn::LoadU(d, x + i + 3 * L);
    s0 = hn::MulAdd(x0, x0, s0);
    s1 = hn::MulAdd(x1, x1, s1);
    s2 = hn::MulAdd(x2, x2, s2);
    s3 = hn::MulAdd(x3, x3, s3);
  }
  float rest = 0.0f;
  for (; i < count; ++i) rest += x[i] * x[i];
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)))) + rest;
}

void rms_norm_rows(Mat<const float> x, const float* weight, float eps, Mat<float> y) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    const float* in = x.row_ptr(t);
    float* out = y.row_ptr(t);
    const float factor = 1.0f / std::sqrt(sum_of_squares(in, x.cols) / static_cast<float>(x.cols) + eps);
    for_lanes(x.cols, [&](auto d, std::size_t i) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, in + i), hn::Set(d, factor)), hn::LoadU(d, weight + i)), d, out + i);
    });
  }
}

struct RowSums {
  float squares, dot;  // sum of x^2, and of weight * dy * x
};
RowSums sums_of_row(const float* x, const float* weight, const float* dy, std::size_t count) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), d0 = hn::Zero(d), d1 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 2 * L <= count; i += 2 * L) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + L);
    s0 = hn::MulAdd(x0, x0, s0);
    s1 = hn::MulAdd(x1, x1, s1);
    d0 = hn::MulAdd(hn::Mul(hn::LoadU(d, weight + i), hn::LoadU(d, dy + i)), x0, d0);
    d1 = hn::MulAdd(hn::Mul(hn::LoadU(d, weight + i + L), hn::LoadU(d, dy + i + L)), x1, d1);
  }
  RowSums sums{hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1))), hn::GetLane(hn::SumOfLanes(d, hn::Add(d0, d1)))};
  for (; i < count; ++i) {
    sums.squares += x[i] * x[i];
    sums.dot += weight[i] * dy[i] * x[i];
  }
  return sums;
}

void rms_norm_backward_rows(Mat<const float> x, const float* weight, float eps, Mat<const float> dy, Mat<float> dx) {
  const auto cols = static_cast<float>(x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    const float *in = x.row_ptr(t), *down = dy.row_ptr(t);
    float* out = dx.row_ptr(t);
    const RowSums sums = sums_of_row(in, weight, down, x.cols);
    const float factor = 1.0f / std::sqrt(sums.squares / cols + eps);
    const float shared = factor * (sums.dot * factor / cols) * factor;
    for_lanes(x.cols, [&](auto d, std::size_t i) HWY_ATTR {
      const auto own = hn::Mul(hn::Mul(hn::Set(d, factor), hn::LoadU(d, weight + i)), hn::LoadU(d, down + i));
      const auto both = hn::NegMulAdd(hn::Set(d, shared), hn::LoadU(d, in + i), own);
      hn::StoreU(hn::Add(hn::LoadU(d, out + i), both), d, out + i);
    });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(rms_norm_rows);
HWY_EXPORT(rms_norm_backward_rows);

namespace cpu {

void rms_norm(ThreadPool& pool, Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y) {
  AXON_DCHECK(x.rows == y.rows && x.cols == y.cols && weight.size() == x.cols);
  // 8 rows of 2560 take about as long as waking a thread.
  pool.split(x.rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    HWY_DYNAMIC_DISPATCH(rms_norm_rows)
    (x.rows_from(begin, end - begin), weight.data(), eps, y.rows_from(begin, end - begin));
  });
}

void rms_norm_backward(ThreadPool& pool, Mat<const float> x, std::span<const float> weight, float eps,
                       Mat<const float> dy, Mat<float> dx) {
  AXON_DCHECK(x.rows == dx.rows && x.cols == dx.cols && weight.size() == x.cols);
  AXON_DCHECK(dy.rows == x.rows && dy.cols == x.cols);
  pool.split(x.rows, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    HWY_DYNAMIC_DISPATCH(rms_norm_backward_rows)
    (x.rows_from(begin, end - begin), weight.data(), eps, dy.rows_from(begin, end - begin),
     dx.rows_from(begin, end - begin));
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
