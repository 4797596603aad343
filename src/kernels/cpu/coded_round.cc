#include "kernels/cpu/coded_round.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/coded_round.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

// Halves away from zero, as std::round: adding 0.5 would round twice.
void round_to_int8_at_level(const float* x, std::size_t count, float scale, std::int8_t* out) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR {
    const hn::Rebind<std::int32_t, decltype(d)> di;
    const hn::Rebind<std::int8_t, decltype(d)> d8;
    const auto scaled = hn::Div(hn::LoadU(d, x + i), hn::Set(d, scale));
    const auto number = hn::IfThenElseZero(hn::Eq(scaled, scaled), scaled);
    const auto bounded = hn::Min(hn::Max(number, hn::Set(d, -127.0f)), hn::Set(d, 127.0f));
    const auto whole = hn::ConvertTo(di, bounded);
    const auto rest = hn::Sub(bounded, hn::ConvertTo(d, whole));
    const auto one = hn::Set(d, 1.0f), half = hn::Set(d, 0.5f);
    const auto up = hn::IfThenElseZero(hn::Ge(rest, half), one);
    const auto down = hn::IfThenElseZero(hn::Le(rest, hn::Neg(half)), one);
    hn::StoreU(hn::DemoteTo(d8, hn::Add(whole, hn::ConvertTo(di, hn::Sub(up, down)))), d8, out + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(round_to_int8_at_level);

void cpu::coded::round_to_int8(const float* x, std::size_t count, float scale, std::int8_t* out) {
  if (scale > 0) {
    HWY_DYNAMIC_DISPATCH(round_to_int8_at_level)(x, count, scale, out);
  } else {
    std::fill_n(out, count, std::int8_t{0});
  }
}

}  // namespace axon
#endif  // HWY_ONCE
