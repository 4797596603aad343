// Products of float32 matrices that lie in the nearest caches. Included once per CPU level, so no #pragma once.

#if defined(AXON_KERNELS_CPU_SMALL_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef AXON_KERNELS_CPU_SMALL_PRODUCT_INL_H_
#undef AXON_KERNELS_CPU_SMALL_PRODUCT_INL_H_
#else
#define AXON_KERNELS_CPU_SMALL_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {

// out[m, n] (=, or += if `add`) sum_s left(m, s) * right[s, n]
struct SmallProduct {
  const float* left;  // element (m, s) is left[m * left_m + s * left_s]: a matrix or its transpose
  std::size_t left_m, left_s;
  const float* right;  // [S, N], rows right_stride apart
  std::size_t right_stride;
  float* out;  // [M, N], rows out_stride apart
  std::size_t out_stride;
  std::size_t M, N, S;  // N a multiple of 16
  bool add;
};

// Sums that registers hold beside a row of `right` and one broadcast element: kProductRows x 4 of 32 registers, or x 2
// of 16.
inline constexpr bool kManyRegisters = !HWY_ARCH_X86 || HWY_TARGET <= HWY_AVX3;
inline constexpr std::size_t kProductRows = 6;

template <std::size_t kRows, std::size_t kVectors>
HWY_INLINE void sum_tile(const SmallProduct& p, std::size_t m, std::size_t n) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  using V = hn::Vec<Floats>;
  const float* HWY_RESTRICT left = p.left + m * p.left_m;
  const float* HWY_RESTRICT right = p.right + n;
  float* HWY_RESTRICT out = p.out + m * p.out_stride + n;
  V sums[kRows][kVectors];
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      sums[r][v] = p.add ? hn::LoadU(d, out + r * p.out_stride + v * L) : hn::Zero(d);
    }
  }
  for (std::size_t s = 0; s < p.S; ++s) {
    V row[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, right + v * L);
    for (std::size_t r = 0; r < kRows; ++r) {
      const V element = hn::Set(d, left[r * p.left_m]);
      for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(element, row[v], sums[r][v]);
    }
    left += p.left_s;
    right += p.right_stride;
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, out + r * p.out_stride + v * L);
  }
}

// All rows of kVectors vectors of columns.
template <std::size_t kRows, std::size_t kVectors>
HWY_NOINLINE void sum_columns(const SmallProduct& p, std::size_t n) {
  std::size_t m = 0;
  for (; m + kRows <= p.M; m += kRows) sum_tile<kRows, kVectors>(p, m, n);
  for (; m + 2 <= p.M; m += 2) sum_tile<2, kVectors>(p, m, n);
  for (; m < p.M; ++m) sum_tile<1, kVectors>(p, m, n);
}

inline void multiply(const SmallProduct& p) {
  const std::size_t L = hn::Lanes(Floats()), vectors = p.N / L;
  std::size_t v = 0;
  if constexpr (kManyRegisters) {
    if (vectors % 4 == 1 && vectors > 1) {  // a head of 80 in vectors of 16: four and one would leave one alone
      sum_columns<5, 5>(p, 0);
      v = 5;
    }
    for (; v + 4 <= vectors; v += 4) sum_columns<kProductRows, 4>(p, v * L);
  }
  for (; v + 2 <= vectors; v += 2) sum_columns<kProductRows, 2>(p, v * L);
  for (; v < vectors; ++v) sum_columns<kProductRows, 1>(p, v * L);
}

}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#endif  // per-level include guard
