// What the levels share for products with codes: decoding without special instructions, the rounding of weights, and
// the loops of levels that decode a region to scratch first. Only they include it.
#pragma once

#include <array>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "kernels/cpu/coded_kernels.h"

#define AXON_ALWAYS_INLINE inline __attribute__((always_inline))

namespace axon::cpu::coded {

static_assert(std::endian::native == std::endian::little, "streams are read as little-endian words");

// In plain C++. decode_portable: region -> out [T, A].
void factors_portable(turboquant::ScaleKind kind, const std::uint8_t* scales, float power, float step,
                      std::span<float> factors);
void decode_portable(const CodedRegion& region, std::int8_t* out, std::size_t stride);

// Rounds to nearest, halves away from zero, as std::round does; |x| < 2^31. Adding 0.5 would round twice.
AXON_ALWAYS_INLINE std::int32_t round_away(float x) {
  const auto whole = static_cast<std::int32_t>(x);
  const float rest = x - static_cast<float>(whole);
  return whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0);
}

// The largest magnitude of `count` floats. As integers magnitudes order like the floats, and such a loop becomes
// vectors where one over floats may not.
AXON_ALWAYS_INLINE float largest_magnitude(const float* x, std::size_t count) {
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::int32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7FFFFFFF;
    largest = bits > largest ? bits : largest;
  }
  return std::bit_cast<float>(largest);
}

AXON_ALWAYS_INLINE void weigh_row(const float* factors, const float* weights, std::size_t tokens, std::uint8_t* bytes,
                                  float& unit) {
  constexpr std::size_t kTokens = turboquant::kTileTokens;
  alignas(64) float scaled[kTokens];
  for (std::size_t t = 0; t < tokens; ++t) scaled[t] = weights[t] * factors[t];
  for (std::size_t t = tokens; t < kTokens; ++t) scaled[t] = 0;
  unit = largest_magnitude(scaled, kTokens) / 255.0f;
  if (!(unit > 0)) {
    unit = 0;
    std::memset(bytes, 0, kTokens);
    return;
  }
  for (std::size_t t = 0; t < kTokens; ++t) {
    const std::int32_t rounded = round_away(scaled[t] / unit);
    bytes[t] = static_cast<std::uint8_t>(rounded < 255 ? rounded : 255);
  }
}

AXON_ALWAYS_INLINE void weigh_rows(CodedRegions regions, Mat<const float> weights, Weights* out) {
  std::size_t first = 0;
  for (const CodedRegion& values : regions) {
    for (std::size_t r = 0; r < weights.rows; ++r) {
      weigh_row(values.factors.data(), weights.row_ptr(r) + first, values.tokens(), out->bytes[r], out->units[r]);
    }
    first += values.tokens();
    ++out;
  }
}

// y += sum * unit in two roundings: a compiler would make one of them where it has a fused instruction.
AXON_ALWAYS_INLINE void add_scaled(const std::int32_t* sums, float unit, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) {
    float product = static_cast<float>(sums[i]) * unit;
#if defined(__aarch64__)
    asm("" : "+w"(product));
#endif
    y[i] += product;
  }
}

// int8 of a whole region, decoded if need be.
struct Rows {
  const std::int8_t* data;
  std::size_t stride;
  const std::int8_t* row(std::size_t t) const { return data + t * stride; }
};
inline Rows decoded(const CodedRegion& region, std::byte* scratch) {
  if (!region.code) return {reinterpret_cast<const std::int8_t*>(region.codes), region.head_dim};
  auto* tile = reinterpret_cast<std::int8_t*>(scratch);
  decode_portable(region, tile, region.head_dim);
  return {tile, region.head_dim};
}

inline void decode_to_mat(const CodedRegion& region, Mat<std::int8_t> out) {
  decode_portable(region, out.data, out.stride);
}

// Kernels::score for such a level. Dot: int32 (const int8* k, const int8* q, size_t A).
template <class Dot>
AXON_ALWAYS_INLINE void score_by_dot(CodedRegions regions, const Int8Queries& q, std::byte* scratch, Mat<float> scores,
                                     Dot dot) {
  std::size_t first = 0;
  for (const CodedRegion& keys : regions) {
    const Rows k = decoded(keys, scratch);
    for (std::size_t r = 0; r < scores.rows; ++r) {
      const std::int8_t* row = q.values.row_ptr(r);
      float* out = scores.row_ptr(r) + first;
      for (std::size_t t = 0; t < keys.tokens(); ++t) {
        out[t] = static_cast<float>(dot(k.row(t), row, keys.head_dim)) * keys.factors[t] * q.scales[r];
      }
    }
    first += keys.tokens();
  }
}

// Kernels::add for such a level. Sum16: 16 sums over all tokens of weight * value.
//   void (const Rows& values, size_t first_element, size_t tokens, const uint8* weights, int32* sums)
template <class Sum16>
AXON_ALWAYS_INLINE void add_by_16(CodedRegions regions, const Weights* weights, std::byte* scratch, Mat<float> out,
                                  Sum16 sum_16) {
  for (const CodedRegion& values : regions) {
    const Rows v = decoded(values, scratch);
    for (std::size_t r = 0; r < out.rows; ++r) {
      for (std::size_t a = 0; a < values.head_dim; a += 16) {
        alignas(64) std::int32_t sums[16];
        sum_16(v, a, values.tokens(), weights->bytes[r], sums);
        add_scaled(sums, weights->units[r], 16, out.row_ptr(r) + a);
      }
    }
    ++weights;
  }
}

}  // namespace axon::cpu::coded
