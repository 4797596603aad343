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

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(rms_norm_rows);

namespace cpu {

void rms_norm(ThreadPool& pool, Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y) {
  AXON_DCHECK(x.rows == y.rows && x.cols == y.cols && weight.size() == x.cols);
  // 8 rows of 2560 take about as long as waking a thread.
  pool.split(x.rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    HWY_DYNAMIC_DISPATCH(rms_norm_rows)
    (x.rows_from(begin, end - begin), weight.data(), eps, y.rows_from(begin, end - begin));
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
