#include "kernels/cpu/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

void swiglu_row(const float* gate, const float* up, float* h, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(silu(d, hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, h + i);
  });
}

void swiglu_backward_row(const float* gate, const float* up, const float* dh, float* dgate, float* dup,
                         std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR {
    const auto g = hn::LoadU(d, gate + i), down = hn::LoadU(d, dh + i);
    auto value = g;
    const auto slope = silu_slope(d, g, value);
    const auto du = hn::Mul(down, value), dg = hn::Mul(hn::Mul(down, hn::LoadU(d, up + i)), slope);
    hn::StoreU(dg, d, dgate + i);
    hn::StoreU(du, d, dup + i);
  });
}

void exp_row(const float* x, float* y, std::size_t count) {
  for_lanes(count,
            [&](auto d, std::size_t i) HWY_ATTR { hn::StoreU(exp_nonpositive(d, hn::LoadU(d, x + i)), d, y + i); });
}
void sigmoid_row(const float* x, float* y, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { hn::StoreU(sigmoid(d, hn::LoadU(d, x + i)), d, y + i); });
}
void silu_row(const float* x, float* y, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { hn::StoreU(silu(d, hn::LoadU(d, x + i)), d, y + i); });
}
void softplus_row(const float* x, float* y, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { hn::StoreU(softplus(d, hn::LoadU(d, x + i)), d, y + i); });
}
void to_half_row(const float* x, std::uint16_t* y, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { store_half(d, hn::LoadU(d, x + i), y + i); });
}
void from_half_row(const std::uint16_t* x, float* y, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { hn::StoreU(load_half(d, x + i), d, y + i); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(swiglu_row);
HWY_EXPORT(swiglu_backward_row);
HWY_EXPORT(exp_row);
HWY_EXPORT(sigmoid_row);
HWY_EXPORT(silu_row);
HWY_EXPORT(softplus_row);
HWY_EXPORT(to_half_row);
HWY_EXPORT(from_half_row);

namespace cpu {

void swiglu(ThreadPool& pool, Mat<const float> gate, Mat<const float> up, Mat<float> h) {
  AXON_DCHECK(gate.rows == h.rows && up.rows == h.rows && gate.cols == h.cols && up.cols == h.cols);
  // 4 rows of 4096 take some 5 us: about as long as waking a thread.
  pool.split(h.rows, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(swiglu_row)(gate.row_ptr(t), up.row_ptr(t), h.row_ptr(t), h.cols);
    }
  });
}

void swiglu_backward(ThreadPool& pool, Mat<const float> gate, Mat<const float> up, Mat<const float> dh,
                     Mat<float> dgate, Mat<float> dup) {
  AXON_DCHECK(gate.rows == dh.rows && up.rows == dh.rows && dgate.rows == dh.rows && dup.rows == dh.rows);
  AXON_DCHECK(gate.cols == dh.cols && up.cols == dh.cols && dgate.cols == dh.cols && dup.cols == dh.cols);
  pool.split(dh.rows, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(swiglu_backward_row)
      (gate.row_ptr(t), up.row_ptr(t), dh.row_ptr(t), dgate.row_ptr(t), dup.row_ptr(t), dh.cols);
    }
  });
}

namespace elementwise {

void exp_nonpositive(std::span<const float> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(exp_row)(x.data(), y.data(), x.size());
}
void sigmoid(std::span<const float> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(sigmoid_row)(x.data(), y.data(), x.size());
}
void silu(std::span<const float> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(silu_row)(x.data(), y.data(), x.size());
}
void softplus(std::span<const float> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(softplus_row)(x.data(), y.data(), x.size());
}
void to_half(std::span<const float> x, std::span<std::uint16_t> y) {
  HWY_DYNAMIC_DISPATCH(to_half_row)(x.data(), y.data(), x.size());
}
void from_half(std::span<const std::uint16_t> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(from_half_row)(x.data(), y.data(), x.size());
}

}  // namespace elementwise
}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
