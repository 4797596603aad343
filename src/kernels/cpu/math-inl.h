// Vector exp, sigmoid, SiLU and softplus, float16 conversion, and the loop over lanes with its remainder. Included once
// per CPU level, so no #pragma once. Relative error of the functions <= 2e-6 wherever the result is normal; a result
// below 2^-126 reads as something in (0, 2^-125).

#if defined(AXON_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef AXON_KERNELS_CPU_MATH_INL_H_
#undef AXON_KERNELS_CPU_MATH_INL_H_
#else
#define AXON_KERNELS_CPU_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

// Levels whose own float16 conversion rounds to nearest even. Highway 1.0.3 truncates on the others.
#undef AXON_NATIVE_HALF
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_TARGET == HWY_NEON
#define AXON_NATIVE_HALF 1
#else
#define AXON_NATIVE_HALF 0
#endif

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, which every level here has or lacks: so a stack buffer of 16 floats holds any vector.
using Floats = hn::CappedTag<float, 16>;
using OneFloat = hn::CappedTag<float, 1>;

// f(d, i) for i = 0, L, 2L, ... with full vectors, then one lane at a time. f must be HWY_ATTR.
template <class F>
HWY_INLINE void for_lanes(std::size_t count, const F& f) {
  const Floats d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) f(d, i);
  for (; i < count; ++i) f(OneFloat(), i);
}

// 2^(n + r), where `shifted` is 1.5 * 2^23 + n and |r| <= 1/2. The bits of n stand at the bottom of `shifted`, so that
// a shift takes them to the exponent. Polynomial: (2^r - 1) / r by Chebyshev, relative error of 2^r 2.0e-7; 2^0 is 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_parts(D d, V shifted, V r) {
  V p = hn::MulAdd(hn::Set(d, 0x1.5ec866p-10f), r, hn::Set(d, 0x1.3cbf6p-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.c6afeep-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.ebfa4cp-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.62e43p-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

inline constexpr float kRoundToInt = 0x1.8p23f;  // added to |v| < 2^22, the sum's last bit is worth 1

// 2^v for v <= 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_nonpositive(D d, V v) {
  v = hn::Max(v, hn::Set(d, -126.0f));
  const V shifted = hn::Add(v, hn::Set(d, kRoundToInt));
  return exp2_parts(d, shifted, hn::Sub(v, hn::Sub(shifted, hn::Set(d, kRoundToInt))));
}

// e^x for x <= 0. x is reduced with ln 2 in two parts, the first short enough for exact products without FMA.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp_nonpositive(D d, V x) {
  x = hn::Max(x, hn::Set(d, -87.0f));
  const V shifted = hn::MulAdd(x, hn::Set(d, 0x1.715476p0f), hn::Set(d, kRoundToInt));
  const V n = hn::Sub(shifted, hn::Set(d, kRoundToInt));
  V r = hn::NegMulAdd(n, hn::Set(d, 0x1.62e4p-1f), x);
  r = hn::NegMulAdd(n, hn::Set(d, 0x1.7f7d1cp-20f), r);
  return exp2_parts(d, shifted, hn::Mul(r, hn::Set(d, 0x1.715476p0f)));
}

// 1 / (1 + e^-x), through e^-|x| so that neither end overflows.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
  const V e = exp_nonpositive(d, hn::Neg(hn::Abs(x)));
  const V numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, hn::Set(d, 1.0f));
  return hn::Div(numerator, hn::Add(hn::Set(d, 1.0f), e));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V silu(D d, V x) {
  return hn::Mul(x, sigmoid(d, x));
}

// x s and its slope s + x s (1 - s), where s = sigmoid(x); 1 - s is as accurate as s is.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V silu_slope(D d, V x, V& silu) {
  const V e = exp_nonpositive(d, hn::Neg(hn::Abs(x)));
  const V most = hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e)), least = hn::Mul(e, most);
  const auto negative = hn::Lt(x, hn::Zero(d));
  const V s = hn::IfThenElse(negative, least, most);
  silu = hn::Mul(x, s);
  return hn::MulAdd(silu, hn::IfThenElse(negative, most, least), s);
}

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|). log1p(e) / e on [0, 1] by Chebyshev, relative error 9.2e-8.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V softplus(D d, V x) {
  const V e = exp_nonpositive(d, hn::Neg(hn::Abs(x)));
  V p = hn::MulAdd(hn::Set(d, 0.00512610236f), e, hn::Set(d, -0.0290740654f));
  p = hn::MulAdd(p, e, hn::Set(d, 0.0775160864f));
  p = hn::MulAdd(p, e, hn::Set(d, -0.136022478f));
  p = hn::MulAdd(p, e, hn::Set(d, 0.190768808f));
  p = hn::MulAdd(p, e, hn::Set(d, -0.248353988f));
  p = hn::MulAdd(p, e, hn::Set(d, 0.333181202f));
  p = hn::MulAdd(p, e, hn::Set(d, -0.499994457f));
  p = hn::MulAdd(p, e, hn::Set(d, 0.99999994f));
  return hn::MulAdd(p, e, hn::Max(x, hn::Zero(d)));
}

// Lanes(d) float16 values, given by their bits, as float32.
template <class D>
HWY_INLINE hn::Vec<D> load_half(D d, const std::uint16_t* bits) {
#if AXON_NATIVE_HALF
  const hn::Rebind<hwy::float16_t, D> dh;
  return hn::PromoteTo(d, hn::BitCast(dh, hn::LoadU(hn::Rebind<std::uint16_t, D>(), bits)));
#else
  const hn::Rebind<std::uint32_t, D> du;
  const auto half = hn::PromoteTo(du, hn::LoadU(hn::Rebind<std::uint16_t, D>(), bits));
  const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000u)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7FFFu)));
  // The product moves the exponent's bias and normalises subnormals, exactly. Infinity and NaN it would make finite.
  const auto scaled = hn::BitCast(du, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
  const auto special = hn::Ge(hn::BitCast(d, magnitude), hn::BitCast(d, hn::Set(du, 0x7C00u << 13)));
  const auto infinity = hn::IfThenElseZero(special, hn::BitCast(d, hn::Set(du, 0x7F800000u)));
  return hn::BitCast(d, hn::Or(hn::Or(scaled, sign), hn::BitCast(du, infinity)));
#endif
}

// Rounds to nearest even; overflow becomes infinity (as float_to_f16 in tensor/dtype.h).
template <class D>
HWY_INLINE void store_half([[maybe_unused]] D d, hn::Vec<D> value, std::uint16_t* bits) {
  const hn::Rebind<std::uint16_t, D> du16;
#if AXON_NATIVE_HALF
  hn::StoreU(hn::BitCast(du16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), value)), du16, bits);
#else
  const hn::RebindToSigned<D> di;
  const auto all = hn::BitCast(di, value);
  const auto magnitude = hn::And(all, hn::Set(di, 0x7FFFFFFF));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 1));
  const auto rounded = hn::Add(magnitude, hn::Add(hn::Set(di, 0xFFF), odd));
  const auto normal = hn::ShiftRight<13>(hn::Sub(rounded, hn::Set(di, 0x38000000)));
  // Added to 1/2, a subnormal's last bit, 2^-24, is the sum's last bit: the addition rounds.
  const auto half_plus = hn::BitCast(di, hn::Add(hn::BitCast(d, magnitude), hn::Set(d, 0.5f)));
  const auto subnormal = hn::Sub(half_plus, hn::Set(di, 0x3F000000));
  auto half = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x38800000)), subnormal, normal);
  half = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x477FEFFF)), hn::Set(di, 0x7C00), half);
  half = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7F800000)), hn::Set(di, 0x7E00), half);
  const auto sign =
      hn::And(hn::BitCast(di, hn::ShiftRight<16>(hn::BitCast(hn::RebindToUnsigned<D>(), value))), hn::Set(di, 0x8000));
  hn::StoreU(hn::DemoteTo(du16, hn::Or(half, sign)), du16, bits);
#endif
}

// The same word for either kind of element: what a cache holds, as float32.
template <class D>
HWY_INLINE hn::Vec<D> load_as_float(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load_as_float(D d, const std::uint16_t* p) {
  return load_half(d, p);
}

}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#endif  // per-level include guard
