#include "kernels/cpu/conv.h"

#include <algorithm>
#include <cstring>

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/conv.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

// u[e] = silu(bias[e] + sum_k taps[k, e] * input[k][e]), where input is tail's last rows and then x's.
void conv_row(Mat<const float> x, Mat<const float> taps, const float* bias, Mat<const float> tail, std::size_t t,
              float* u) {
  const std::size_t K = taps.rows;
  for_lanes(x.cols, [&](auto d, std::size_t e) HWY_ATTR {
    auto sum = hn::LoadU(d, bias + e);
    for (std::size_t k = 0; k < K; ++k) {
      const float* row = t + k < K - 1 ? tail.row_ptr(t + k) : x.row_ptr(t + k - (K - 1));
      sum = hn::MulAdd(hn::LoadU(d, taps.row_ptr(k) + e), hn::LoadU(d, row + e), sum);
    }
    hn::StoreU(silu(d, sum), d, u + e);
  });
}

// Four taps, the usual number, unrolled. Rows are pages apart, where the processor does not look ahead by itself.
void conv_rows_4(Mat<const float> x, Mat<const float> taps, const float* bias, Mat<float> u) {
  const float *w0 = taps.row_ptr(0), *w1 = taps.row_ptr(1), *w2 = taps.row_ptr(2), *w3 = taps.row_ptr(3);
  for (std::size_t t = 3; t < x.rows; ++t) {
    const float *x0 = x.row_ptr(t - 3), *x1 = x.row_ptr(t - 2), *x2 = x.row_ptr(t - 1), *x3 = x.row_ptr(t);
    float* out = u.row_ptr(t);
    const std::size_t soon = std::min(t + 4, x.rows - 1);
    for (std::size_t e = 0; e < x.cols; e += 16) {
      hwy::Prefetch(x.row_ptr(soon) + e);
      hwy::Prefetch(u.row_ptr(soon) + e);
    }
    for_lanes(x.cols, [&](auto d, std::size_t e) HWY_ATTR {
      auto even = hn::MulAdd(hn::LoadU(d, w0 + e), hn::LoadU(d, x0 + e), hn::LoadU(d, bias + e));
      auto odd = hn::Mul(hn::LoadU(d, w1 + e), hn::LoadU(d, x1 + e));
      even = hn::MulAdd(hn::LoadU(d, w2 + e), hn::LoadU(d, x2 + e), even);
      odd = hn::MulAdd(hn::LoadU(d, w3 + e), hn::LoadU(d, x3 + e), odd);
      hn::StoreU(silu(d, hn::Add(even, odd)), d, out + e);
    });
  }
}

void conv_channels(Mat<const float> x, Mat<const float> taps, const float* bias, Mat<const float> tail, Mat<float> u) {
  const bool by_rows = taps.rows == 4 && x.rows > 3;
  for (std::size_t t = 0; t < (by_rows ? 3 : x.rows); ++t) conv_row(x, taps, bias, tail, t, u.row_ptr(t));
  if (by_rows) conv_rows_4(x, taps, bias, u);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(conv_channels);

namespace cpu {
namespace {

// The last rows of tail and x together; rows move towards the front, so none is overwritten before it is read.
void update_tail(Mat<const float> x, Mat<float> tail) {
  for (std::size_t i = 0; i < tail.rows; ++i) {
    const std::size_t from = i + x.rows;
    const float* row = from < tail.rows ? tail.row_ptr(from) : x.row_ptr(from - tail.rows);
    std::memcpy(tail.row_ptr(i), row, tail.cols * sizeof(float));
  }
}

}  // namespace

void conv_silu(ThreadPool& pool, Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
               Mat<float> tail, Mat<float> u) {
  AXON_DCHECK(taps.rows >= 1 && tail.rows == taps.rows - 1 && u.rows == x.rows);
  AXON_DCHECK(taps.cols == x.cols && tail.cols == x.cols && u.cols == x.cols && bias.size() == x.cols);
  if (x.rows == 0) return;
  // A piece is 256 channels, so that its rows stay in the nearest cache; some 16 K outputs are worth a thread.
  constexpr std::size_t kChannels = 256;
  const std::size_t grain = std::max(kChannels, (16384 / x.rows + kChannels - 1) / kChannels * kChannels);
  pool.split(x.cols, grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t e = begin; e < end; e += kChannels) {
      const std::size_t count = std::min(kChannels, end - e);
      const Mat<const float> part = x.cols_from(e, count);
      const Mat<float> part_tail = tail.cols_from(e, count);
      HWY_DYNAMIC_DISPATCH(conv_channels)
      (part, taps.cols_from(e, count), bias.data() + e, part_tail, u.cols_from(e, count));
      update_tail(part, part_tail);
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
