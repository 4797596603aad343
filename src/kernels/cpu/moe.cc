#include "kernels/cpu/moe.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/moe.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

void combine_row(Mat<const float> routed, const std::uint32_t* slots, const float* scores, std::size_t top_k,
                 const float* shared, float gate, Mat<float> x, std::size_t t) {
  float* out = x.row_ptr(t);
  for_lanes(x.cols, [&](auto d, std::size_t i) HWY_ATTR {
    auto sum = hn::Mul(hn::Set(d, gate), hn::LoadU(d, shared + i));
    for (std::size_t j = 0; j < top_k; ++j) {
      sum = hn::MulAdd(hn::Set(d, scores[j]), hn::LoadU(d, routed.row_ptr(slots[j]) + i), sum);
    }
    hn::StoreU(hn::Add(hn::LoadU(d, out + i), sum), d, out + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(combine_row);

namespace cpu {

void route(Mat<const float> logits, Mat<std::uint32_t> experts, Mat<float> scores) {
  AXON_DCHECK(experts.rows == logits.rows && scores.rows == logits.rows);
  AXON_DCHECK(scores.cols == experts.cols && experts.cols <= logits.cols);
  for (std::size_t t = 0; t < logits.rows; ++t) {
    const float* row = logits.row_ptr(t);
    const auto chosen = experts.row(t);
    // Insertion into the sorted list of the best so far. Strict comparison: of equals the lower expert stays in front.
    for (std::size_t x = 0, found = 0; x < logits.cols; ++x) {
      std::size_t place = found;
      while (place > 0 && row[x] > row[chosen[place - 1]]) --place;
      if (place == chosen.size()) continue;
      found = std::min(found + 1, chosen.size());
      for (std::size_t j = found - 1; j > place; --j) chosen[j] = chosen[j - 1];
      chosen[place] = static_cast<std::uint32_t>(x);
    }
    const float largest = *std::max_element(row, row + logits.cols);
    float sum = 0.0f;
    for (std::size_t x = 0; x < logits.cols; ++x) sum += std::exp(row[x] - largest);
    for (std::size_t j = 0; j < chosen.size(); ++j) scores.row(t)[j] = std::exp(row[chosen[j]] - largest) / sum;
  }
}

void combine(ThreadPool& pool, Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
             Mat<const float> shared, Mat<const float> shared_gate, Mat<float> x) {
  AXON_DCHECK(slots.rows == x.rows && scores.rows == x.rows && shared.rows == x.rows && shared_gate.rows == x.rows);
  AXON_DCHECK(slots.cols == scores.cols && shared.cols == x.cols && routed.cols == x.cols && shared_gate.cols == 1);
  // 8 rows of 2560 take about as long as waking a thread.
  pool.split(x.rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      const float gate = 1.0f / (1.0f + std::exp(-shared_gate.row_ptr(t)[0]));
      HWY_DYNAMIC_DISPATCH(combine_row)
      (routed, slots.row_ptr(t), scores.row_ptr(t), slots.cols, shared.row_ptr(t), gate, x, t);
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
