// Weights of any kind as float32. Included once per CPU level, so no #pragma once.

#if defined(AXON_KERNELS_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef AXON_KERNELS_CPU_DECODE_INL_H_
#undef AXON_KERNELS_CPU_DECODE_INL_H_
#else
#define AXON_KERNELS_CPU_DECODE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/int8_portable.h"
#include "tensor/weight.h"

HWY_BEFORE_NAMESPACE();
namespace axon::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using DecodedFloats = hn::CappedTag<float, 32>;  // divides every group

HWY_INLINE hn::Vec<DecodedFloats> load(DecodedFloats d, const float* p) { return hn::LoadU(d, p); }
template <class T>
HWY_INLINE hn::Vec<DecodedFloats> load(DecodedFloats d, const T* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, DecodedFloats>(), p));
}

HWY_INLINE float widen(float v) { return v; }
HWY_INLINE float widen(hwy::bfloat16_t v) { return bf16_to_float(v.bits); }
HWY_INLINE float widen(hwy::float16_t v) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, &v, 2);
  return f16_to_float(bits);
}

// Element [r, 0] of a matrix of T.
template <class T>
HWY_INLINE const T* row_of(const Weight& w, std::size_t r) {
  return static_cast<const T*>(w.data) + r * w.cols;
}

// Columns [first, first + count) of row r; `first` and `count` are multiples of 32, `codes` is a buffer of count bytes.
HWY_INLINE void decode_affine(const Weight& w, std::size_t r, std::size_t first, std::size_t count, std::uint8_t* codes,
                              float* HWY_RESTRICT out) {
  const DecodedFloats d;
  const hn::RebindToSigned<DecodedFloats> words;
  const hn::Rebind<std::uint8_t, DecodedFloats> bytes;
  const auto group = static_cast<std::size_t>(w.affine.group_size);
  const auto bits = static_cast<std::size_t>(w.affine.bits);
  const auto* row = static_cast<const unsigned char*>(w.data) + r * w.row_bytes() + first * bits / 8;
  const std::uint8_t* code = int8::bytes_of_row(row, w.affine.bits, count, codes);
  for (std::size_t k = 0; k < count;) {
    const std::size_t g = (first + k) / group, at = r * w.groups() + g;
    const std::size_t last = (g + 1) * group - first < count ? (g + 1) * group - first : count;
    const auto scale = hn::Set(d, load_float(w.affine.scale_dtype, w.affine.scales, at));
    const auto bias = hn::Set(d, load_float(w.affine.scale_dtype, w.affine.biases, at));
    for (; k < last; k += hn::Lanes(d)) {
      const auto value = hn::ConvertTo(d, hn::PromoteTo(words, hn::LoadU(bytes, code + k)));
      hn::StoreU(hn::MulAdd(value, scale, bias), d, out + k);
    }
  }
}

template <class T>
HWY_INLINE void widen_row(const T* HWY_RESTRICT in, std::size_t count, float* HWY_RESTRICT out) {
  const DecodedFloats d;
  std::size_t k = 0;
  for (; k + hn::Lanes(d) <= count; k += hn::Lanes(d)) {
    __builtin_prefetch(reinterpret_cast<const std::byte*>(in + k) + 3072);  // bytes
    hn::StoreU(load(d, in + k), d, out + k);
  }
  for (; k < count; ++k) out[k] = widen(in[k]);
}

// Columns [first, first + count) of row r, for every kind of Weight. Of quantised ones both are multiples of 32, and
// `codes` is a buffer of count bytes.
HWY_INLINE void decode_part(const Weight& w, std::size_t r, std::size_t first, std::size_t count, std::uint8_t* codes,
                            float* out) {
  if (w.quantised()) {
    decode_affine(w, r, first, count, codes, out);
  } else if (w.dtype == DType::kF32) {
    widen_row(row_of<float>(w, r) + first, count, out);
  } else if (w.dtype == DType::kF16) {
    widen_row(row_of<hwy::float16_t>(w, r) + first, count, out);
  } else {
    widen_row(row_of<hwy::bfloat16_t>(w, r) + first, count, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace axon::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-level include guard
