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

// y = factor * dy; returns x . dy. y may be x.
float dot_and_scale(const float* x, const float* dy, float factor, float* y, std::size_t count) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  const auto f = hn::Set(d, factor);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    const auto d0 = hn::LoadU(d, dy + i), d1 = hn::LoadU(d, dy + i + L);
    const auto d2 = hn::LoadU(d, dy + i + 2 * L), d3 = hn::LoadU(d, dy + i + 3 * L);
    s0 = hn::MulAdd(hn::LoadU(d, x + i), d0, s0);
    s1 = hn::MulAdd(hn::LoadU(d, x + i + L), d1, s1);
    s2 = hn::MulAdd(hn::LoadU(d, x + i + 2 * L), d2, s2);
    s3 = hn::MulAdd(hn::LoadU(d, x + i + 3 * L), d3, s3);
    hn::StoreU(hn::Mul(f, d0), d, y + i);
    hn::StoreU(hn::Mul(f, d1), d, y + i + L);
    hn::StoreU(hn::Mul(f, d2), d, y + i + 2 * L);
    hn::StoreU(hn::Mul(f, d3), d, y + i + 3 * L);
  }
  float rest = 0.0f;
  for (; i < count; ++i) {
    rest += x[i] * dy[i];
    y[i] = factor * dy[i];
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)))) + rest;
}

void add_rows_row(Mat<const float> rows, const std::uint32_t* slots, std::size_t top_k, float* x) {
  for_lanes(rows.cols, [&](auto d, std::size_t i) HWY_ATTR {
    auto sum = hn::LoadU(d, x + i);
    for (std::size_t j = 0; j < top_k; ++j) sum = hn::Add(sum, hn::LoadU(d, rows.row_ptr(slots[j]) + i));
    hn::StoreU(sum, d, x + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(combine_row);
HWY_EXPORT(dot_and_scale);
HWY_EXPORT(add_rows_row);

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

void route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                    Mat<float> dlogits) {
  AXON_DCHECK(experts.rows == logits.rows && dscores.rows == logits.rows && dlogits.rows == logits.rows);
  AXON_DCHECK(dscores.cols == experts.cols && dlogits.cols == logits.cols);
  for (std::size_t t = 0; t < logits.rows; ++t) {
    const float* row = logits.row_ptr(t);
    const auto chosen = experts.row(t);
    const auto down = dscores.row(t);
    const float largest = *std::max_element(row, row + logits.cols);
    float sum = 0.0f, mean = 0.0f;
    for (std::size_t x = 0; x < logits.cols; ++x) sum += std::exp(row[x] - largest);
    for (std::size_t j = 0; j < chosen.size(); ++j) mean += std::exp(row[chosen[j]] - largest) / sum * down[j];
    for (std::size_t x = 0; x < logits.cols; ++x) {
      float dp = 0.0f;
      for (std::size_t j = 0; j < chosen.size(); ++j) dp += chosen[j] == x ? down[j] : 0.0f;
      dlogits.row_ptr(t)[x] = std::exp(row[x] - largest) / sum * (dp - mean);
    }
  }
}

void combine_backward(ThreadPool& pool, Mat<const float> routed, Mat<const std::uint32_t> slots,
                      Mat<const float> scores, Mat<const float> shared, Mat<const float> shared_gate,
                      Mat<const float> dy, Mat<float> drouted, Mat<float> dscores, Mat<float> dshared,
                      Mat<float> dshared_gate) {
  const std::size_t T = dy.rows, D = dy.cols;
  AXON_DCHECK(slots.rows == T && scores.rows == T && shared.rows == T && shared_gate.rows == T && dscores.rows == T);
  AXON_DCHECK(dshared.rows == T && dshared_gate.rows == T && shared_gate.cols == 1 && dshared_gate.cols == 1);
  AXON_DCHECK(slots.cols == scores.cols && slots.cols == dscores.cols && drouted.rows == routed.rows);
  AXON_DCHECK(routed.cols == D && shared.cols == D && drouted.cols == D && dshared.cols == D);
  pool.split(T, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      const float* down = dy.row_ptr(t);
      for (std::size_t j = 0; j < slots.cols; ++j) {
        const std::size_t slot = slots.row_ptr(t)[j];
        dscores.row_ptr(t)[j] = HWY_DYNAMIC_DISPATCH(dot_and_scale)(routed.row_ptr(slot), down, scores.row_ptr(t)[j],
                                                                    drouted.row_ptr(slot), D);
      }
      const float raw = shared_gate.row_ptr(t)[0];
      const float gate = 1.0f / (1.0f + std::exp(-raw)), rest = 1.0f / (1.0f + std::exp(raw));
      const float dot = HWY_DYNAMIC_DISPATCH(dot_and_scale)(shared.row_ptr(t), down, gate, dshared.row_ptr(t), D);
      dshared_gate.row_ptr(t)[0] = dot * gate * rest;
    }
  });
}

void add_rows(ThreadPool& pool, Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) {
  AXON_DCHECK(slots.rows == x.rows && rows.cols == x.cols);
  pool.split(x.rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(add_rows_row)(rows, slots.row_ptr(t), slots.cols, x.row_ptr(t));
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
