#include "kernels/cpu/scan_backward.h"

#include <algorithm>
#include <type_traits>

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/scan_backward.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

#ifndef AXON_SCAN_BACKWARD
#define AXON_SCAN_BACKWARD
namespace axon::cpu {

// The states and decays of a block and a piece, 256 KiB for N = 16, stay in the second cache. A slice shares the sums
// of dbcdt, whose lanes are added up once for all of its blocks.
inline constexpr std::size_t kScanBlock = 64, kScanSlice = 256, kScanPiece = 32, kLanesMax = 16;

// What a slice works on. Blocks lie one after the other, each [N, kScanBlock].
struct ScanSlice {
  std::size_t first, count, states;  // channels [first, first + count) of everything
  float* a;                          // [blocks]
  float* dstate;                     // [blocks] the gradient of the states, on the way back
  float* borders;                    // [pieces, blocks] the states before each piece
  float* state;                      // [N, kScanBlock] on the way forward
  float* decays;                     // [kScanPiece, N, kScanBlock] exp(dt * a)
  float* kept;                       // [kScanPiece, N, kScanBlock] decay * state before
  float* steps;                      // [kScanPiece, kScanBlock] softplus, not clipped
  float* lane_sums;                  // [kScanPiece, 2N+1, kLanesMax] of dbcdt

  std::size_t block_size() const { return states * kScanBlock; }
  std::size_t blocks() const { return (count + kScanBlock - 1) / kScanBlock; }
  float* border(std::size_t piece, std::size_t block) const {
    return borders + (piece * blocks() + block) * block_size();
  }
};

// Where the way back reads and writes.
struct ScanGradients {
  Mat<const float> dy;
  Mat<float> dh, du, dz;
  float* dbcdt;  // [T, 2N+1] the slice's share
};

}  // namespace axon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

using cpu::kLanesMax;
using cpu::kScanBlock;
using cpu::kScanPiece;
using cpu::ScanGradients;
using cpu::ScanSlice;

template <class D>
HWY_INLINE hn::Vec<D> raw_step(D d, const ScanInput& in, std::size_t t, std::size_t e) {
  const float raw = in.bcdt.row_ptr(t)[in.bcdt.cols - 1];
  return hn::MulAdd(hn::Set(d, raw), hn::LoadU(d, in.dt_weight.data() + e), hn::LoadU(d, in.dt_bias.data() + e));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V clip_step(D d, V step) {
  return hn::Min(hn::Max(step, hn::Set(d, 1e-4f)), hn::Set(d, 100.0f));
}

// f(d, i, number of vectors) over the channels of a block, some vectors at a time: what they have in common is read
// once, and their chains overlap.
template <class F>
HWY_INLINE void for_block(std::size_t count, const F& f) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) f(d, i, std::integral_constant<std::size_t, 4>());
  for (; i + L <= count; i += L) f(d, i, std::integral_constant<std::size_t, 1>());
  for (; i < count; ++i) f(OneFloat(), i, std::integral_constant<std::size_t, 1>());
}

// Token t forward, channels first + i of the block at `first`: state becomes decay * state + dt u B. Row `row` of the
// piece keeps what the way back wants of it.
template <std::size_t kVectors, bool kKeep, class D>
HWY_INLINE void forward_step(D d, const ScanInput& in, const ScanSlice& s, std::size_t first, std::size_t i,
                             const float* a, float* HWY_RESTRICT state, std::size_t t, std::size_t row) {
  using V = hn::Vec<D>;
  const std::size_t L = hn::Lanes(d), N = s.states;
  const float* HWY_RESTRICT bcdt = in.bcdt.row_ptr(t);
  V dt2[kVectors], dt_u[kVectors];
  for (std::size_t r = 0; r < kVectors; ++r) {
    const std::size_t e = first + i + r * L;
    const V step = softplus(d, raw_step(d, in, t, e)), dt = clip_step(d, step);
    dt2[r] = hn::Mul(dt, hn::Set(d, 0x1.715476p0f));  // log2(e): exp(dt * a) = 2^(dt2 * a)
    dt_u[r] = hn::Mul(dt, hn::LoadU(d, in.u.row_ptr(t) + e));
    if (kKeep) hn::StoreU(step, d, s.steps + row * kScanBlock + i + r * L);
  }
  float* HWY_RESTRICT decays = s.decays + row * s.block_size();
  float* HWY_RESTRICT kepts = s.kept + row * s.block_size();
  for (std::size_t n = 0; n < N; ++n) {
    const V b = hn::Set(d, bcdt[n]);
    for (std::size_t r = 0; r < kVectors; ++r) {
      const std::size_t at = n * kScanBlock + i + r * L;
      const V decay = exp2_nonpositive(d, hn::Mul(dt2[r], hn::LoadU(d, a + at)));
      const V kept = hn::Mul(decay, hn::LoadU(d, state + at));
      if (kKeep) {
        hn::StoreU(decay, d, decays + at);
        hn::StoreU(kept, d, kepts + at);
      }
      hn::StoreU(hn::MulAdd(dt_u[r], b, kept), d, state + at);
    }
  }
}

// Token t backward; `dstate` on entry and on return as seen from the states after and before it. Everything of a
// channel is read before its du and dz are written, which may lie where it was.
template <std::size_t kVectors, class D>
HWY_INLINE void backward_step(D d, const ScanInput& in, const ScanSlice& s, const ScanGradients& g, std::size_t first,
                              std::size_t i, const float* a, float* HWY_RESTRICT dstate, std::size_t t,
                              std::size_t row) {
  using V = hn::Vec<D>;
  const std::size_t L = hn::Lanes(d), N = s.states;
  const float* HWY_RESTRICT bcdt = in.bcdt.row_ptr(t);
  float* HWY_RESTRICT sums = s.lane_sums + row * (2 * N + 1) * kLanesMax;
  V dt_u[kVectors], dsum[kVectors], sum[kVectors], along_b[kVectors], along_a[kVectors];
  for (std::size_t r = 0; r < kVectors; ++r) {
    const std::size_t e = first + i + r * L;
    const V u = hn::LoadU(d, in.u.row_ptr(t) + e);
    dt_u[r] = hn::Mul(clip_step(d, hn::LoadU(d, s.steps + row * kScanBlock + i + r * L)), u);
    dsum[r] = hn::Mul(hn::LoadU(d, g.dy.row_ptr(t) + e), silu(d, hn::LoadU(d, in.z.row_ptr(t) + e)));
    sum[r] = hn::Mul(hn::LoadU(d, in.d.data() + e), u);
    along_b[r] = along_a[r] = hn::Zero(d);
  }
  const float* HWY_RESTRICT decays = s.decays + row * s.block_size();
  const float* HWY_RESTRICT kepts = s.kept + row * s.block_size();
  for (std::size_t n = 0; n < N; ++n) {
    const V b = hn::Set(d, bcdt[n]), c = hn::Set(d, bcdt[N + n]);
    V db = hn::LoadU(d, sums + n * kLanesMax), dc = hn::LoadU(d, sums + (N + n) * kLanesMax);
    for (std::size_t r = 0; r < kVectors; ++r) {
      const std::size_t at = n * kScanBlock + i + r * L;
      const V kept = hn::LoadU(d, kepts + at), state = hn::MulAdd(dt_u[r], b, kept);
      // y = (C . state + d u) silu(z)
      sum[r] = hn::MulAdd(c, state, sum[r]);
      dc = hn::MulAdd(dsum[r], state, dc);
      const V ds = hn::MulAdd(dsum[r], c, hn::LoadU(d, dstate + at));
      // state = exp(dt a) * before + dt u B
      db = hn::MulAdd(ds, dt_u[r], db);
      along_b[r] = hn::MulAdd(ds, b, along_b[r]);
      along_a[r] = hn::MulAdd(ds, hn::Mul(hn::LoadU(d, a + at), kept), along_a[r]);
      hn::StoreU(hn::Mul(ds, hn::LoadU(d, decays + at)), d, dstate + at);
    }
    hn::StoreU(db, d, sums + n * kLanesMax);
    hn::StoreU(dc, d, sums + (N + n) * kLanesMax);
  }
  V draw_sum = hn::LoadU(d, sums + 2 * N * kLanesMax);
  for (std::size_t r = 0; r < kVectors; ++r) {
    const std::size_t e = first + i + r * L;
    const V u = hn::LoadU(d, in.u.row_ptr(t) + e), step = hn::LoadU(d, s.steps + row * kScanBlock + i + r * L);
    // dt = clip(softplus(raw))
    const V ddt = hn::MulAdd(u, along_b[r], along_a[r]);
    const auto clipped = hn::Or(hn::Lt(step, hn::Set(d, 1e-4f)), hn::Gt(step, hn::Set(d, 100.0f)));
    const V draw = hn::IfThenZeroElse(clipped, hn::Mul(ddt, sigmoid(d, raw_step(d, in, t, e))));
    draw_sum = hn::MulAdd(draw, hn::LoadU(d, in.dt_weight.data() + e), draw_sum);
    V ignored;
    const V slope = silu_slope(d, hn::LoadU(d, in.z.row_ptr(t) + e), ignored);
    const V dz = hn::Mul(hn::Mul(hn::LoadU(d, g.dy.row_ptr(t) + e), slope), sum[r]);
    const V du = hn::MulAdd(dsum[r], hn::LoadU(d, in.d.data() + e), hn::Mul(clip_step(d, step), along_b[r]));
    hn::StoreU(du, d, g.du.row_ptr(t) + e);
    hn::StoreU(dz, d, g.dz.row_ptr(t) + e);
  }
  hn::StoreU(draw_sum, d, sums + 2 * N * kLanesMax);
}

// Rows are pages apart, where the processor does not look ahead by itself.
HWY_INLINE void prefetch(Mat<const float> m, std::size_t t, std::size_t first, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 16) hwy::Prefetch(m.row_ptr(std::min(t, m.rows - 1)) + first + i);
}

// The states before each piece of a block but the first, which are there.
void forward_borders(const ScanInput& in, const ScanSlice& s, std::size_t block, std::size_t first, std::size_t count) {
  const std::size_t T = in.u.rows;
  const float* a = s.a + block * s.block_size();
  for (std::size_t piece = 0; (piece + 1) * kScanPiece < T; ++piece) {
    float* state = s.border(piece + 1, block);
    std::copy_n(s.border(piece, block), s.block_size(), state);
    for (std::size_t t = piece * kScanPiece; t < (piece + 1) * kScanPiece; ++t) {
      prefetch(in.u, t + 8, first, count);
      for_block(count, [&](auto d, std::size_t i, auto vectors)
                           HWY_ATTR { forward_step<vectors(), false>(d, in, s, first, i, a, state, t, 0); });
    }
  }
}

void block_backward(const ScanInput& in, const ScanSlice& s, const ScanGradients& g, std::size_t piece,
                    std::size_t block, std::size_t first, std::size_t count) {
  const std::size_t begin = piece * kScanPiece, end = std::min(begin + kScanPiece, in.u.rows);
  const float* a = s.a + block * s.block_size();
  float* dstate = s.dstate + block * s.block_size();
  std::copy_n(s.border(piece, block), s.block_size(), s.state);
  for (std::size_t t = begin; t < end; ++t) {
    for (const Mat<const float>& m : {in.z, g.dy, Mat<const float>(g.du), Mat<const float>(g.dz)}) {
      prefetch(m, t, first, count);
    }
    for_block(count, [&](auto d, std::size_t i, auto vectors)
                         HWY_ATTR { forward_step<vectors(), true>(d, in, s, first, i, a, s.state, t, t - begin); });
  }
  for (std::size_t t = end; t-- > begin;) {
    for_block(count, [&](auto d, std::size_t i, auto vectors)
                         HWY_ATTR { backward_step<vectors()>(d, in, s, g, first, i, a, dstate, t, t - begin); });
  }
}

void add_lanes(const float* lane_sums, std::size_t count, float* out) {
  const Floats d;
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, lane_sums + i * kLanesMax)));
  }
}

void scan_slice_backward(const ScanInput& in, Mat<const float> h, const ScanSlice& s, const ScanGradients& g) {
  const std::size_t T = in.u.rows, N = s.states, sums = 2 * N + 1;
  const auto each_block = [&](auto f) {
    for (std::size_t block = 0; block < s.blocks(); ++block) {
      const std::size_t from = block * kScanBlock;
      f(block, s.first + from, std::min(kScanBlock, s.count - from));
    }
  };
  each_block([&](std::size_t block, std::size_t first, std::size_t count) {
    for (std::size_t n = 0; n < N; ++n) {
      const std::size_t at = block * s.block_size() + n * kScanBlock;
      std::copy_n(in.a.row_ptr(n) + first, count, s.a + at);
      std::copy_n(g.dh.row_ptr(n) + first, count, s.dstate + at);
      std::copy_n(h.row_ptr(n) + first, count, s.borders + at);
    }
    forward_borders(in, s, block, first, count);
  });
  for (std::size_t piece = (T + kScanPiece - 1) / kScanPiece; piece-- > 0;) {
    const std::size_t begin = piece * kScanPiece, tokens = std::min(kScanPiece, T - begin);
    std::fill_n(s.lane_sums, tokens * sums * kLanesMax, 0.0f);
    each_block([&](std::size_t block, std::size_t first, std::size_t count) {
      block_backward(in, s, g, piece, block, first, count);
    });
    add_lanes(s.lane_sums, tokens * sums, g.dbcdt + begin * sums);
  }
  each_block([&](std::size_t block, std::size_t first, std::size_t count) {
    for (std::size_t n = 0; n < N; ++n) {
      std::copy_n(s.dstate + block * s.block_size() + n * kScanBlock, count, g.dh.row_ptr(n) + first);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(scan_slice_backward);

namespace cpu {
namespace {

std::size_t pieces_of(std::size_t tokens) { return (tokens + kScanPiece - 1) / kScanPiece; }
std::size_t slices_of(std::size_t channels) { return (channels + kScanSlice - 1) / kScanSlice; }

}  // namespace

ScanBackward::ScanBackward(const ScanBackwardLimits& limits, std::size_t threads, Carver& carver) : limits_(limits) {
  if (limits.tokens_max == 0) return;
  const std::size_t slice = limits.states_max * kScanSlice, block = limits.states_max * kScanBlock;
  const std::size_t sums = 2 * limits.states_max + 1;
  a_ = carver.mat<float>(threads, slice);
  dstate_ = carver.mat<float>(threads, slice);
  borders_ = carver.mat<float>(threads, pieces_of(limits.tokens_max) * slice);
  state_ = carver.mat<float>(threads, block);
  decays_ = carver.mat<float>(threads, kScanPiece * block);
  kept_ = carver.mat<float>(threads, kScanPiece * block);
  steps_ = carver.mat<float>(threads, kScanPiece * kScanBlock);
  lane_sums_ = carver.mat<float>(threads, kScanPiece * sums * kLanesMax);
  slice_sums_ = carver.mat<float>(slices_of(limits.channels_max), limits.tokens_max * sums);
}

void ScanBackward::run(ThreadPool& pool, const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh,
                       Mat<float> du, Mat<float> dz, Mat<float> dbcdt) const {
  const std::size_t T = dy.rows, N = h.rows, E = h.cols;
  AXON_DCHECK(N <= limits_.states_max && T <= limits_.tokens_max && E <= limits_.channels_max);
  AXON_DCHECK(in.a.rows == N && in.a.cols == E && in.bcdt.rows == T && in.bcdt.cols == 2 * N + 1);
  AXON_DCHECK(in.u.rows == T && in.u.cols == E && in.z.rows == T && in.z.cols == E && dy.cols == E);
  AXON_DCHECK(in.dt_weight.size() == E && in.dt_bias.size() == E && in.d.size() == E);
  AXON_DCHECK(dh.rows == N && dh.cols == E && du.rows == T && du.cols == E && dz.rows == T && dz.cols == E);
  AXON_DCHECK(dbcdt.rows == T && dbcdt.cols == 2 * N + 1);
  if (T == 0) return;
  pool.split(E, kScanSlice, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t e = begin; e < end; e += kScanSlice) {
      const ScanSlice slice{.first = e,
                            .count = std::min(kScanSlice, end - e),
                            .states = N,
                            .a = a_.row_ptr(thread),
                            .dstate = dstate_.row_ptr(thread),
                            .borders = borders_.row_ptr(thread),
                            .state = state_.row_ptr(thread),
                            .decays = decays_.row_ptr(thread),
                            .kept = kept_.row_ptr(thread),
                            .steps = steps_.row_ptr(thread),
                            .lane_sums = lane_sums_.row_ptr(thread)};
      const ScanGradients gradients{dy, dh, du, dz, slice_sums_.row_ptr(e / kScanSlice)};
      HWY_DYNAMIC_DISPATCH(scan_slice_backward)(in, h, slice, gradients);
    }
  });
  pool.split(T, 64, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      std::fill_n(dbcdt.row_ptr(t), dbcdt.cols, 0.0f);
      for (std::size_t slice = 0; slice < slices_of(E); ++slice) {
        const float* share = slice_sums_.row_ptr(slice) + t * dbcdt.cols;
        for (std::size_t i = 0; i < dbcdt.cols; ++i) dbcdt.row_ptr(t)[i] += share[i];
      }
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
