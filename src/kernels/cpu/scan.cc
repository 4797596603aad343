#include "kernels/cpu/scan.h"

#include <algorithm>

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/scan.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

// 128 channels: some cache lines of each row at a time, and for N = 16 states 16 KiB of scratch, which stay near.
#ifndef AXON_SCAN_BLOCK
#define AXON_SCAN_BLOCK
namespace axon::cpu {
inline constexpr std::size_t kScanChannels = 128;
}
#endif

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

using cpu::kScanChannels;

// Channels [first, first + count) of everything, count <= kScanChannels.
struct Block {
  std::size_t first, count, states;
  float* h;  // [N, .] the block's states
  std::size_t h_stride;
  const float* a;  // [N, .]
  std::size_t a_stride;
};

// One token, kVectors vectors of channels: what they have in common is read once, and their chains overlap.
template <std::size_t kVectors, class D>
HWY_INLINE void scan_step(D d, const ScanInput& in, const Block& block, std::size_t t, std::size_t i, float* y) {
  using V = hn::Vec<D>;
  const std::size_t L = hn::Lanes(d), e = block.first + i, N = block.states;
  const float* HWY_RESTRICT bcdt = in.bcdt.row_ptr(t);
  V dt2[kVectors], dt_u[kVectors], sum[kVectors];
  for (std::size_t r = 0; r < kVectors; ++r) {
    const V raw = hn::MulAdd(hn::Set(d, bcdt[2 * N]), hn::LoadU(d, in.dt_weight.data() + e + r * L),
                             hn::LoadU(d, in.dt_bias.data() + e + r * L));
    const V dt = hn::Min(hn::Max(softplus(d, raw), hn::Set(d, 1e-4f)), hn::Set(d, 100.0f));
    const V u = hn::LoadU(d, in.u.row_ptr(t) + e + r * L);
    dt2[r] = hn::Mul(dt, hn::Set(d, 0x1.715476p0f));  // log2(e): exp(dt * a) = 2^(dt2 * a)
    dt_u[r] = hn::Mul(dt, u);
    sum[r] = hn::Mul(hn::LoadU(d, in.d.data() + e + r * L), u);
  }
  float* HWY_RESTRICT h = block.h + i;
  const float* HWY_RESTRICT a = block.a + i;
  for (std::size_t n = 0; n < N; ++n, h += block.h_stride, a += block.a_stride) {
    const V b = hn::Set(d, bcdt[n]), c = hn::Set(d, bcdt[N + n]);
    for (std::size_t r = 0; r < kVectors; ++r) {
      const V decay = exp2_nonpositive(d, hn::Mul(dt2[r], hn::LoadU(d, a + r * L)));
      const V state = hn::MulAdd(decay, hn::LoadU(d, h + r * L), hn::Mul(dt_u[r], b));
      hn::StoreU(state, d, h + r * L);
      sum[r] = hn::MulAdd(c, state, sum[r]);
    }
  }
  for (std::size_t r = 0; r < kVectors; ++r) {
    const V gate = silu(d, hn::LoadU(d, in.z.row_ptr(t) + e + r * L));
    hn::StoreU(hn::Mul(sum[r], gate), d, y + e + r * L);
  }
}

void scan_token(const ScanInput& in, const Block& block, std::size_t t, float* y) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + 4 * L <= block.count; i += 4 * L) scan_step<4>(d, in, block, t, i, y);  // 4: 25 % faster than 1 or 2
  for (; i + L <= block.count; i += L) scan_step<1>(d, in, block, t, i, y);
  for (; i < block.count; ++i) scan_step<1>(OneFloat(), in, block, t, i, y);
}

void scan_block(const ScanInput& in, Mat<float> h, Mat<float> y, std::size_t first, std::size_t count, float* scratch) {
  const std::size_t N = h.rows;
  if (y.rows == 1) {  // nothing to keep near
    return scan_token(in, {first, count, N, h.data + first, h.stride, in.a.data + first, in.a.stride}, 0, y.row_ptr(0));
  }
  float* a = scratch + N * kScanChannels;
  for (std::size_t n = 0; n < N; ++n) {
    std::copy_n(h.row_ptr(n) + first, count, scratch + n * kScanChannels);
    std::copy_n(in.a.row_ptr(n) + first, count, a + n * kScanChannels);
  }
  const Block block{first, count, N, scratch, kScanChannels, a, kScanChannels};
  for (std::size_t t = 0; t < y.rows; ++t) {
    // Rows are pages apart, where the processor does not look ahead by itself.
    const std::size_t soon = std::min(t + 8, y.rows - 1);
    for (std::size_t i = 0; i < count; i += 16) {
      hwy::Prefetch(in.u.row_ptr(soon) + first + i);
      hwy::Prefetch(in.z.row_ptr(soon) + first + i);
      hwy::Prefetch(y.row_ptr(soon) + first + i);
    }
    scan_token(in, block, t, y.row_ptr(t));
  }
  for (std::size_t n = 0; n < N; ++n) std::copy_n(scratch + n * kScanChannels, count, h.row_ptr(n) + first);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(scan_block);

namespace cpu {

Scan::Scan(std::size_t states_max, std::size_t threads, Carver& carver)
    : states_max_(states_max), scratch_(carver.span<float>(threads * 2 * states_max * kScanChannels)) {}

void Scan::run(ThreadPool& pool, const ScanInput& in, Mat<float> h, Mat<float> y) const {
  const std::size_t N = h.rows, E = h.cols;
  AXON_DCHECK(N <= states_max_ && in.a.rows == N && in.a.cols == E && in.bcdt.cols == 2 * N + 1);
  AXON_DCHECK(in.u.rows == y.rows && in.z.rows == y.rows && in.bcdt.rows == y.rows);
  AXON_DCHECK(in.u.cols == E && in.z.cols == E && y.cols == E);
  AXON_DCHECK(in.dt_weight.size() == E && in.dt_bias.size() == E && in.d.size() == E);
  if (y.rows == 0) return;
  pool.split(E, kScanChannels, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    float* scratch = scratch_.data() + thread * 2 * states_max_ * kScanChannels;
    for (std::size_t e = begin; e < end; e += kScanChannels) {
      HWY_DYNAMIC_DISPATCH(scan_block)(in, h, y, e, std::min(kScanChannels, end - e), scratch);
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
