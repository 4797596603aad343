#include "kernels/cpu/attention_backward.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/small_product-inl.h"

#ifndef AXON_ATTENTION_BACKWARD_TILES
#define AXON_ATTENTION_BACKWARD_TILES
namespace axon::cpu {
namespace {

// A tile's weights and their gradients are 15 KiB each, a block's keys, values and their gradients 20 KiB each with
// heads of 80: any product has its operands in the nearest cache.
constexpr std::size_t kBlockKeys = 64;    // lanes of four vectors of 16
constexpr std::size_t kTileQueries = 60;  // a multiple of the product's 6 rows

// Elements from one token of a panel to the next: an odd number of cache lines, so that tokens do not share the lines'
// places in a cache.
constexpr std::size_t panel_stride(std::size_t head_dim) { return (round_up(head_dim, 16) / 16 | 1) * 16; }

// One head of the call, and the scratch of the thread that does it.
struct HeadBackward {
  Mat<const float> q, k, v, y, dy;  // [T, A]
  const float* log_sums;            // [T]
  Mat<float> dq, dk, dv;            // [T, A]
  std::size_t window;               // at most T

  float *q_panel, *dy_panel, *dq_panel;  // [T, A], rows `stride` apart; q times log2(e) / sqrt(A)
  std::size_t stride;
  float* log2_sums;  // [T]
  float* means;      // [T] dy.y
  float* k_rows;     // [64, A], rows `stride` apart; zeros past A
  float *kt, *vt;    // [A, 64] a block's keys and values; zeros where there are none
  float *dkt, *dvt;  // [A, 64]
  float* p;          // [60, 64] scores, then weights
  float* ds;         // [60, 64] dp, then ds
};

// Calls f(pointer to set, floats) for each part of the scratch.
template <class F>
void for_each_part(HeadBackward& head, std::size_t T, std::size_t A, const F& f) {
  head.stride = panel_stride(A);
  for (float** panel : {&head.q_panel, &head.dy_panel, &head.dq_panel}) f(*panel, T * head.stride);
  for (float** each : {&head.log2_sums, &head.means}) f(*each, round_up(T, 16));
  f(head.k_rows, kBlockKeys * head.stride);
  for (float** block : {&head.kt, &head.vt, &head.dkt, &head.dvt}) f(*block, A * kBlockKeys);
  for (float** tile : {&head.p, &head.ds}) f(*tile, kTileQueries * kBlockKeys);
}

std::size_t scratch_floats(std::size_t T, std::size_t A) {
  HeadBackward head{};
  std::size_t sum = 0;
  for_each_part(head, T, A, [&](float*, std::size_t floats) { sum += floats; });
  return sum;
}

}  // namespace
}  // namespace axon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

using cpu::HeadBackward;
using cpu::kBlockKeys;
using cpu::kTileQueries;
using V = hn::Vec<Floats>;

constexpr float kLog2E = 0x1.715476p0f, kLn2 = 0x1.62e43p-1f;

// What the queries bring, once for all keys. From here on dq may overwrite q and y.
void gather_queries(const HeadBackward& head) {
  const std::size_t T = head.q.rows, A = head.q.cols;
  const float scale = kLog2E / std::sqrt(static_cast<float>(A));  // the kernels raise 2
  for (std::size_t t = 0; t < T; ++t) {
    const float *q = head.q.row_ptr(t), *y = head.y.row_ptr(t), *dy = head.dy.row_ptr(t);
    float *q_to = head.q_panel + t * head.stride, *dy_to = head.dy_panel + t * head.stride;
    float mean = 0.0f;
    for_lanes(A, [&](auto d, std::size_t a) HWY_ATTR {
      const auto gradient = hn::LoadU(d, dy + a);
      hn::StoreU(hn::Mul(hn::LoadU(d, q + a), hn::Set(d, scale)), d, q_to + a);
      hn::StoreU(gradient, d, dy_to + a);
      mean += hn::GetLane(hn::SumOfLanes(d, hn::Mul(gradient, hn::LoadU(d, y + a))));
    });
    head.means[t] = mean;
    head.log2_sums[t] = head.log_sums[t] * kLog2E;
  }
  std::fill_n(head.dq_panel, T * head.stride, 0.0f);
}

// Keys [k0, k0 + count) and their values, and no gradients yet.
void gather_keys(const HeadBackward& head, std::size_t k0, std::size_t count) {
  const std::size_t A = head.k.cols;
  for (float* block : {head.kt, head.vt, head.dkt, head.dvt}) std::fill_n(block, A * kBlockKeys, 0.0f);
  std::fill_n(head.k_rows, kBlockKeys * head.stride, 0.0f);
  for (std::size_t j = 0; j < count; ++j) {
    const float *k = head.k.row_ptr(k0 + j), *v = head.v.row_ptr(k0 + j);
    for (std::size_t a = 0; a < A; ++a) {
      head.kt[a * kBlockKeys + j] = k[a];
      head.vt[a * kBlockKeys + j] = v[a];
    }
    std::copy_n(k, A, head.k_rows + j * head.stride);
  }
}

// Scores and dp to p and ds, of `count` queries and `keys` keys. Key j is visible to query i iff 0 <= first + i - j <
// window; kMasked: some are not.
template <bool kMasked>
void weigh(const HeadBackward& head, std::size_t q0, std::size_t count, std::size_t keys, std::size_t first) {
  const Floats d;
  for (std::size_t i = 0; i < count; ++i) {
    const V log2_sum = hn::Set(d, head.log2_sums[q0 + i]), mean = hn::Set(d, head.means[q0 + i]);
    const std::size_t last = first + i;
    const V from = hn::Set(d, static_cast<float>(last + 1 - std::min(head.window, last + 1)));
    const V to = hn::Set(d, static_cast<float>(last));
    float *p = head.p + i * kBlockKeys, *ds = head.ds + i * kBlockKeys;
    for (std::size_t j = 0; j < keys; j += hn::Lanes(d)) {
      // A score above the sum of all, by rounding or because it is masked: the weight is no more than 1.
      V weight = exp2_nonpositive(d, hn::Min(hn::Sub(hn::LoadU(d, p + j), log2_sum), hn::Zero(d)));
      if constexpr (kMasked) {
        const V lane = hn::Iota(d, static_cast<float>(j));
        weight = hn::IfThenElseZero(hn::And(hn::Ge(lane, from), hn::Le(lane, to)), weight);
      }
      hn::StoreU(weight, d, p + j);
      hn::StoreU(hn::Mul(weight, hn::Sub(hn::LoadU(d, ds + j), mean)), d, ds + j);
    }
  }
}

// Queries [q0, q0 + count) against the block of keys from k0 on, of which `keys` are computed. q0 >= k0
void add_tile(const HeadBackward& head, std::size_t k0, std::size_t keys, std::size_t q0, std::size_t count) {
  const std::size_t A = head.q.cols, W = kBlockKeys, stride = head.stride;
  const float *q = head.q_panel + q0 * stride, *dy = head.dy_panel + q0 * stride;
  multiply({q, stride, 1, head.kt, W, head.p, W, count, keys, A, false});
  multiply({dy, stride, 1, head.vt, W, head.ds, W, count, keys, A, false});
  const std::size_t first = q0 - k0;
  if (first + 1 >= keys && first + count <= head.window) {
    weigh<false>(head, q0, count, keys, first);
  } else {
    weigh<true>(head, q0, count, keys, first);
  }
  multiply({dy, 1, stride, head.p, W, head.dvt, W, A, keys, count, true});
  multiply({q, 1, stride, head.ds, W, head.dkt, W, A, keys, count, true});
  multiply(
      {head.ds, W, 1, head.k_rows, stride, head.dq_panel + q0 * stride, stride, count, round_up(A, 16), keys, true});
}

void attend_backward_head(const HeadBackward& head) {
  const std::size_t T = head.q.rows, A = head.q.cols;
  gather_queries(head);
  for (std::size_t k0 = 0; k0 < T; k0 += kBlockKeys) {
    const std::size_t count = std::min(kBlockKeys, T - k0), end = std::min(T, k0 + count - 1 + head.window);
    gather_keys(head, k0, count);
    for (std::size_t q0 = k0; q0 < end; q0 += kTileQueries) {
      add_tile(head, k0, round_up(count, 16), q0, std::min(kTileQueries, end - q0));
    }
    for (std::size_t j = 0; j < count; ++j) {
      float *dk = head.dk.row_ptr(k0 + j), *dv = head.dv.row_ptr(k0 + j);
      for (std::size_t a = 0; a < A; ++a) {
        dk[a] = head.dkt[a * kBlockKeys + j] * kLn2;  // q came times log2(e) / sqrt(A)
        dv[a] = head.dvt[a * kBlockKeys + j];
      }
    }
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(A));
  for (std::size_t t = 0; t < T; ++t) {
    for_lanes(A, [&](auto d, std::size_t a) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::LoadU(d, head.dq_panel + t * head.stride + a), hn::Set(d, scale)), d,
                 head.dq.row_ptr(t) + a);
    });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon::cpu {

HWY_EXPORT(attend_backward_head);

AttentionBackward::AttentionBackward(std::size_t tokens_max, std::size_t head_dim_max, std::size_t threads,
                                     Carver& carver)
    : tokens_max_(tokens_max),
      head_dim_max_(head_dim_max),
      floats_(tokens_max == 0 ? 0 : round_up(scratch_floats(tokens_max, head_dim_max), 16)),
      scratch_(carver.span<float>(threads * floats_)) {}

void AttentionBackward::run(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v,
                            std::size_t heads, std::size_t window, Mat<const float> y, Mat<const float> log_sums,
                            Mat<const float> dy, Mat<float> dq, Mat<float> dk, Mat<float> dv) const {
  const std::size_t T = q.rows, A = q.cols / heads;
  AXON_DCHECK(T <= tokens_max_ && A <= head_dim_max_ && q.cols == heads * A && window >= 1);
  for ([[maybe_unused]] const Mat<const float>& m :
       {k, v, y, dy, Mat<const float>(dq), Mat<const float>(dk), Mat<const float>(dv)}) {
    AXON_DCHECK(m.rows == T && m.cols == q.cols);
  }
  AXON_DCHECK(log_sums.rows == heads && log_sums.cols == T);
  // Below some 16 K products, waking a thread takes longer than the work.
  const std::size_t grain = T * std::min(window, T) * A * heads < 16384 ? heads : 1;
  pool.share(heads, grain, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t h = begin; h < end; ++h) {
      const auto of = [&](auto m) { return m.cols_from(h * A, A); };
      HeadBackward head{};
      head.q = of(q), head.k = of(k), head.v = of(v), head.y = of(y), head.dy = of(dy);
      head.dq = of(dq), head.dk = of(dk), head.dv = of(dv);
      head.log_sums = log_sums.row_ptr(h);
      head.window = std::min(window, T);
      float* at = scratch_.data() + thread * floats_;
      for_each_part(head, T, A, [&](float*& part, std::size_t floats) {
        part = at;
        at += floats;
      });
      HWY_DYNAMIC_DISPATCH(attend_backward_head)(head);
    }
  });
}

}  // namespace axon::cpu
#endif  // HWY_ONCE
