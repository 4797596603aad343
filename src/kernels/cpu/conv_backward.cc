#include "kernels/cpu/conv_backward.h"

#include <algorithm>

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/conv_backward.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

#ifndef AXON_CONV_BACKWARD
#define AXON_CONV_BACKWARD
namespace axon::cpu {

// Some channels of everything. input = tail's rows and then x's; token t's sum is of the inputs t .. t + K - 1.
struct ConvPart {
  Mat<const float> x, taps;
  const float* bias;
  Mat<const float> tail, du;
  Mat<float> carry, dx;
  Mat<float> ring;  // [K, .] row t % K: the gradient of token t's sum

  const float* input(std::size_t i) const { return i < tail.rows ? tail.row_ptr(i) : x.row_ptr(i - tail.rows); }
  float* dsum(std::size_t t) const { return ring.row_ptr(t % taps.rows); }
};

}  // namespace axon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

using cpu::ConvPart;

// What input i is wanted of: by the tokens of this call that are still in the ring, and by later calls.
template <class D>
HWY_INLINE hn::Vec<D> input_gradient(D d, const ConvPart& p, std::size_t i, std::size_t e) {
  const std::size_t K = p.taps.rows, T = p.x.rows;
  auto sum = i >= T ? hn::LoadU(d, p.carry.row_ptr(i - T) + e) : hn::Zero(d);
  for (std::size_t k = 0; k < K && k <= i; ++k) {
    if (i - k < T) sum = hn::MulAdd(hn::LoadU(d, p.taps.row_ptr(k) + e), hn::LoadU(d, p.dsum(i - k) + e), sum);
  }
  return sum;
}

void conv_row_backward(const ConvPart& p, std::size_t t) {
  const std::size_t K = p.taps.rows;
  for_lanes(p.x.cols, [&](auto d, std::size_t e) HWY_ATTR {
    auto sum = hn::LoadU(d, p.bias + e);
    for (std::size_t k = 0; k < K; ++k) {
      sum = hn::MulAdd(hn::LoadU(d, p.taps.row_ptr(k) + e), hn::LoadU(d, p.input(t + k) + e), sum);
    }
    const auto slope = silu_slope(d, sum, sum);
    hn::StoreU(hn::Mul(hn::LoadU(d, p.du.row_ptr(t) + e), slope), d, p.dsum(t) + e);
    hn::StoreU(input_gradient(d, p, t + K - 1, e), d, p.dx.row_ptr(t) + e);
  });
}

// Four taps, the usual number, unrolled; not for the first or last three tokens. Rows are pages apart, where the
// processor does not look ahead by itself.
void conv_row_backward_4(const ConvPart& p, std::size_t t) {
  const float *w0 = p.taps.row_ptr(0), *w1 = p.taps.row_ptr(1), *w2 = p.taps.row_ptr(2), *w3 = p.taps.row_ptr(3);
  const float *x0 = p.x.row_ptr(t - 3), *x1 = p.x.row_ptr(t - 2), *x2 = p.x.row_ptr(t - 1), *x3 = p.x.row_ptr(t);
  const float *d1 = p.dsum(t + 1), *d2 = p.dsum(t + 2), *d3 = p.dsum(t + 3), *du = p.du.row_ptr(t);
  float *d0 = p.dsum(t), *dx = p.dx.row_ptr(t);
  const std::size_t soon = t < 7 ? 0 : t - 7;
  for (std::size_t e = 0; e < p.x.cols; e += 16) {
    hwy::Prefetch(p.x.row_ptr(soon) + e);
    hwy::Prefetch(p.du.row_ptr(soon) + e);
    hwy::Prefetch(p.dx.row_ptr(soon) + e);
  }
  for_lanes(p.x.cols, [&](auto d, std::size_t e) HWY_ATTR {
    const auto taps0 = hn::LoadU(d, w0 + e), taps1 = hn::LoadU(d, w1 + e);
    const auto taps2 = hn::LoadU(d, w2 + e), taps3 = hn::LoadU(d, w3 + e);
    auto even = hn::MulAdd(taps0, hn::LoadU(d, x0 + e), hn::LoadU(d, p.bias + e));
    auto odd = hn::Mul(taps1, hn::LoadU(d, x1 + e));
    even = hn::MulAdd(taps2, hn::LoadU(d, x2 + e), even);
    odd = hn::MulAdd(taps3, hn::LoadU(d, x3 + e), odd);
    const auto slope = silu_slope(d, hn::Add(even, odd), even);
    const auto dsum = hn::Mul(hn::LoadU(d, du + e), slope);
    hn::StoreU(dsum, d, d0 + e);
    even = hn::MulAdd(taps0, hn::LoadU(d, d3 + e), hn::Mul(taps1, hn::LoadU(d, d2 + e)));
    odd = hn::MulAdd(taps2, hn::LoadU(d, d1 + e), hn::Mul(taps3, dsum));
    hn::StoreU(hn::Add(even, odd), d, dx + e);
  });
}

void conv_part_backward(const ConvPart& p) {
  const std::size_t K = p.taps.rows, T = p.x.rows;
  for (std::size_t t = T; t-- > 0;) {
    if (K == 4 && t >= 3 && t + 3 < T) {
      conv_row_backward_4(p, t);
    } else {
      conv_row_backward(p, t);
    }
  }
  for (std::size_t i = K - 1; i-- > 0;) {  // the last first: a call shorter than the tail takes from carry's front
    for_lanes(p.x.cols, [&](auto d, std::size_t e)
                            HWY_ATTR { hn::StoreU(input_gradient(d, p, i, e), d, p.carry.row_ptr(i) + e); });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(conv_part_backward);

namespace cpu {
namespace {

constexpr std::size_t kChannels = 256;  // of a part, so that its rows stay in the nearest cache

}  // namespace

ConvBackward::ConvBackward(std::size_t taps_max, std::size_t threads, Carver& carver)
    : taps_max_(taps_max), rings_(carver.mat<float>(threads, taps_max * kChannels)) {}

void ConvBackward::run(ThreadPool& pool, Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
                       Mat<const float> tail, Mat<const float> du, Mat<float> carry, Mat<float> dx) const {
  const std::size_t K = taps.rows, T = x.rows, E = x.cols;
  AXON_DCHECK(K >= 1 && K <= taps_max_ && tail.rows == K - 1 && carry.rows == K - 1 && du.rows == T && dx.rows == T);
  AXON_DCHECK(taps.cols == E && tail.cols == E && carry.cols == E && du.cols == E && dx.cols == E && bias.size() == E);
  if (T == 0) return;
  // Some 16 K outputs are worth a thread.
  const std::size_t grain = std::max(kChannels, (16384 / T + kChannels - 1) / kChannels * kChannels);
  pool.split(E, grain, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t e = begin; e < end; e += kChannels) {
      const std::size_t count = std::min(kChannels, end - e);
      HWY_DYNAMIC_DISPATCH(conv_part_backward)
      ({.x = x.cols_from(e, count),
        .taps = taps.cols_from(e, count),
        .bias = bias.data() + e,
        .tail = tail.cols_from(e, count),
        .du = du.cols_from(e, count),
        .carry = carry.cols_from(e, count),
        .dx = dx.cols_from(e, count),
        .ring = {rings_.row_ptr(thread), K, count, kChannels}});
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
