#include "kernels/cpu/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/device.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

// NaN if there is one: a loss must not hide it.
float largest_of(const float* x, std::size_t count) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  float largest = x[0];
  bool has_nan = false;
  std::size_t i = 0;
  if (count >= 2 * L) {
    auto m0 = hn::LoadU(d, x), m1 = hn::LoadU(d, x + L);
    auto nan = hn::Or(hn::IsNaN(m0), hn::IsNaN(m1));
    for (i = 2 * L; i + 2 * L <= count; i += 2 * L) {
      const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + L);
      nan = hn::Or(nan, hn::Or(hn::IsNaN(x0), hn::IsNaN(x1)));
      m0 = hn::Max(m0, x0);
      m1 = hn::Max(m1, x1);
    }
    has_nan = !hn::AllFalse(d, nan);
    largest = hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
  }
  for (; i < count; ++i) {
    has_nan = has_nan || std::isnan(x[i]);
    largest = std::max(largest, x[i]);
  }
  return has_nan ? std::numeric_limits<float>::quiet_NaN() : largest;
}

// Of at most a stretch.
float sum_of_exp(const float* x, std::size_t count, float largest) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  const auto shift = hn::Set(d, largest);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 2 * L <= count; i += 2 * L) {
    s0 = hn::Add(s0, exp_nonpositive(d, hn::Sub(hn::LoadU(d, x + i), shift)));
    s1 = hn::Add(s1, exp_nonpositive(d, hn::Sub(hn::LoadU(d, x + i + L), shift)));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  const OneFloat one;
  for (; i < count; ++i) sum += hn::GetLane(exp_nonpositive(one, hn::Set(one, x[i] - largest)));
  return sum;
}

// log(sum_i exp(x_i)) = largest + log(sum). The sum is NaN where the row has NaN or positive infinity.
struct ExpSum {
  float largest;
  double sum;
};
ExpSum exp_sum_of(const float* x, std::size_t count) {
  constexpr std::size_t kStretch = 1024;
  const float largest = largest_of(x, count);
  if (!std::isfinite(largest)) return {largest, std::numeric_limits<double>::quiet_NaN()};
  double sum = 0.0;
  for (std::size_t i = 0; i < count; i += kStretch) {
    sum += double{sum_of_exp(x + i, std::min(kStretch, count - i), largest)};
  }
  return {largest, sum};
}

float loss_of_row(const float* logits, std::size_t count, std::uint32_t label) {
  const ExpSum exp_sum = exp_sum_of(logits, count);
  return static_cast<float>(double{exp_sum.largest} - double{logits[label]} + std::log(exp_sum.sum));
}

void row_backward(float* logits, std::size_t count, std::uint32_t label, float factor) {
  const ExpSum exp_sum = exp_sum_of(logits, count);
  const auto scale = static_cast<float>(1.0 / exp_sum.sum);
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR {
    const auto e = exp_nonpositive(d, hn::Sub(hn::LoadU(d, logits + i), hn::Set(d, exp_sum.largest)));
    hn::StoreU(hn::Mul(hn::Mul(e, hn::Set(d, scale)), hn::Set(d, factor)), d, logits + i);
  });
  logits[label] -= factor;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(loss_of_row);
HWY_EXPORT(row_backward);

namespace cpu {

void cross_entropy(ThreadPool& pool, Mat<const float> logits, std::span<const std::uint32_t> labels,
                   std::span<float> loss) {
  AXON_DCHECK(labels.size() == logits.rows && loss.size() == logits.rows);
  // Rows without a label, often a long run of them, cost nothing.
  pool.share(logits.rows, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      AXON_DCHECK(labels[t] == kNoLabel || labels[t] < logits.cols);
      loss[t] =
          labels[t] == kNoLabel ? 0.0f : HWY_DYNAMIC_DISPATCH(loss_of_row)(logits.row_ptr(t), logits.cols, labels[t]);
    }
  });
}

void cross_entropy_backward(ThreadPool& pool, Mat<float> logits, std::span<const std::uint32_t> labels,
                            std::span<const float> factors) {
  AXON_DCHECK(labels.size() == logits.rows && factors.size() == logits.rows);
  pool.share(logits.rows, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      AXON_DCHECK(labels[t] == kNoLabel || labels[t] < logits.cols);
      if (labels[t] == kNoLabel) {
        std::fill_n(logits.row_ptr(t), logits.cols, 0.0f);
      } else {
        HWY_DYNAMIC_DISPATCH(row_backward)(logits.row_ptr(t), logits.cols, labels[t], factors[t]);
      }
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
