#include "kernels/cpu/outer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/outer.cc"
#include <hwy/foreach_target.h>  // before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/outer_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon::cpu {
namespace HWY_NAMESPACE {
namespace {

// All rows of g meet a strip of b that stays in the second cache: 64 columns of some thousand tokens.
constexpr std::size_t kStripCols = 64;

// Rows of b in a strip. Each is a piece of a row in memory, too short for the processor to see a stream, so that the
// first rows of g ask for the next strip.
template <bool kAsk>
struct Rows {
  const float* data;
  std::size_t stride;
  const std::uint32_t* index;  // null: row t is token t

  HWY_INLINE const float* operator()(std::size_t t) const {
    const float* row = data + (index == nullptr ? t : index[t]) * stride;
    if constexpr (kAsk) {
      for (std::size_t i = 0; i < kStripCols; i += 16) __builtin_prefetch(row + kStripCols + i, 0, 2);
    }
    return row;
  }
};

// kRows rows of g from i on, columns [begin, begin + cols).
template <std::size_t kRows, bool kAsk>
void add(const OuterProduct& p, std::size_t i, std::size_t begin, std::size_t cols) {
  OuterRows<kRows> a;
  a.step = p.a.stride;
  float* g[kRows];
  for (std::size_t j = 0; j < kRows; ++j) {
    a.row[j] = p.a.data + i + j;
    g[j] = p.g.row_ptr(i + j) + begin;
  }
  const Rows<kAsk> b{p.b.data + begin, p.b.stride, p.b_rows.empty() ? nullptr : p.b_rows.data()};
  outer_columns(
      a, b, p.a.rows, cols, [](auto d, std::size_t, std::size_t) HWY_ATTR { return hn::Zero(d); },
      [&](auto d, std::size_t j, std::size_t c, auto sum)
          HWY_ATTR { hn::StoreU(hn::MulAdd(hn::Set(d, p.factor), sum, hn::LoadU(d, g[j] + c)), d, g[j] + c); });
}

void columns(const OuterProduct& p, std::size_t begin, std::size_t end) {
  using Add = decltype(&add<1, true>);
  constexpr Add kAdd[kOuterRowsMax] = {add<1, false>, add<2, false>, add<3, false>,
                                       add<4, false>, add<5, false>, add<6, false>};
  constexpr Add kAddAndAsk[kOuterRowsMax] = {add<1, true>, add<2, true>, add<3, true>,
                                             add<4, true>, add<5, true>, add<6, true>};
  const std::size_t blocks = (p.g.rows + kOuterRowsMax - 1) / kOuterRowsMax;
  for (std::size_t c = begin; c < end; c += kStripCols) {
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::size_t first = p.g.rows * b / blocks, last = p.g.rows * (b + 1) / blocks;
      (b == 0 ? kAddAndAsk : kAdd)[last - first - 1](p, first, c, end - c < kStripCols ? end - c : kStripCols);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

namespace axon::cpu {
namespace {

HWY_EXPORT(columns);

constexpr std::size_t kUnitCols = 256;  // that a thread takes at a time

std::size_t units(const OuterProduct& p) {
  return p.a.rows == 0 || p.g.rows == 0 ? 0 : (p.g.cols + kUnitCols - 1) / kUnitCols;
}

}  // namespace

void add_outer(ThreadPool& pool, std::span<const OuterProduct> products) {
  std::size_t count = 0;
  for (const OuterProduct& p : products) {
    AXON_DCHECK(p.g.rows == p.a.cols && p.g.cols == p.b.cols);
    AXON_DCHECK((p.b_rows.empty() ? p.b.rows : p.b_rows.size()) == p.a.rows);
    count += units(p);
  }
  pool.share(count, std::size_t{1}, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::size_t first_unit = 0;
    for (const OuterProduct& p : products) {
      const std::size_t first = std::clamp(begin, first_unit, first_unit + units(p)) - first_unit;
      const std::size_t last = std::clamp(end, first_unit, first_unit + units(p)) - first_unit;
      first_unit += units(p);
      if (first < last) {
        HWY_DYNAMIC_DISPATCH(columns)(p, first * kUnitCols, std::min(last * kUnitCols, p.g.cols));
      }
    }
  });
}

}  // namespace axon::cpu
#endif
