// Sums of outer products in registers: sum[i,c] += a[i,k] * b[k,c], where the lanes are columns c. No sum crosses
// lanes, so it is the same whatever rows and columns come with it. Included once per CPU level, so no #pragma once.

#if defined(AXON_KERNELS_CPU_OUTER_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef AXON_KERNELS_CPU_OUTER_TILE_INL_H_
#undef AXON_KERNELS_CPU_OUTER_TILE_INL_H_
#else
#define AXON_KERNELS_CPU_OUTER_TILE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>

HWY_BEFORE_NAMESPACE();
namespace axon::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 6 rows times 4 vectors need 32 registers, 6 times 2 need 16.
inline constexpr std::size_t kOuterRowsMax = 6;
inline constexpr std::size_t kOuterVectors = HWY_MAX_BYTES >= 64 || HWY_ARCH_ARM_A64 ? 4 : 2;

// Rows of a: row i starts at `row[i]`, and its next element is `step` further.
template <std::size_t kRows>
struct OuterRows {
  const float* row[kRows];
  std::size_t step;
};

// The sums of kRows rows and kVectors vectors from column c on. `b(k)` is row k of b. `begin(i, v)` gives what a sum
// starts from, `end(i, v, sum)` takes it.
template <std::size_t kRows, std::size_t kVectors, class D, class B, class Begin, class End>
HWY_INLINE void outer_tile(D d, const OuterRows<kRows>& a, const B& b, std::size_t depth, std::size_t c,
                           const Begin& begin, const End& end) {
  using V = hn::Vec<D>;
  const std::size_t n = hn::Lanes(d);
  V sum[kRows][kVectors];
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t v = 0; v < kVectors; ++v) sum[i][v] = begin(d, i, c + v * n);
  }
  for (std::size_t k = 0; k < depth; ++k) {
    const float* row = b(k) + c;
    V vectors[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) vectors[v] = hn::LoadU(d, row + v * n);
    for (std::size_t i = 0; i < kRows; ++i) {
      const V factor = hn::Set(d, a.row[i][k * a.step]);
      for (std::size_t v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(factor, vectors[v], sum[i][v]);
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t v = 0; v < kVectors; ++v) end(d, i, c + v * n, sum[i][v]);
  }
}

// Columns [0, cols), the last ones lane by lane.
template <std::size_t kRows, class B, class Begin, class End>
HWY_INLINE void outer_columns(const OuterRows<kRows>& a, const B& b, std::size_t depth, std::size_t cols,
                              const Begin& begin, const End& end) {
  const hn::CappedTag<float, 16> d;
  const std::size_t n = hn::Lanes(d);
  std::size_t c = 0;
  for (; c + kOuterVectors * n <= cols; c += kOuterVectors * n) {
    outer_tile<kRows, kOuterVectors>(d, a, b, depth, c, begin, end);
  }
  for (; c + n <= cols; c += n) outer_tile<kRows, 1>(d, a, b, depth, c, begin, end);
  for (; c < cols; ++c) outer_tile<kRows, 1>(hn::CappedTag<float, 1>(), a, b, depth, c, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace axon::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-level include guard
