#pragma once
// The scale stored with each coded vector, in a byte or in half precision, both around a power of two that the vectors
// of a head share.

#include <cstddef>
#include <cstdint>

namespace axon::turboquant {

enum class ScaleKind : std::uint8_t { kByte, kHalf };
constexpr std::size_t scale_bytes(ScaleKind kind) { return kind == ScaleKind::kByte ? 1 : 2; }

struct StoredScale {
  std::uint16_t bits = 0;  // a byte: only the low 8
  bool saturated = false;  // out of range: the nearest that there is was stored
};

// scale >= 0 and finite.
// Byte: 0 is zero, b is 2^(exponent + (b - 128) / 32), -127 / 32 to 127 / 32 octaves, within 1.1 %. What is below the
// range becomes the nearer of zero and the least.
// Half: scale / 2^exponent.
StoredScale store_scale(ScaleKind kind, float scale, int exponent);
float load_scale(ScaleKind kind, std::uint16_t bits, int exponent);

// Scale t of those that lie one after another, little-endian.
inline std::uint16_t load_scale_bits(ScaleKind kind, const std::uint8_t* scales, std::size_t t) {
  if (kind == ScaleKind::kByte) return scales[t];
  return static_cast<std::uint16_t>(scales[2 * t] | scales[2 * t + 1] << 8);
}
inline void store_scale_bits(ScaleKind kind, std::uint16_t bits, std::uint8_t* scales, std::size_t t) {
  if (kind == ScaleKind::kByte) {
    scales[t] = static_cast<std::uint8_t>(bits);
  } else {
    scales[2 * t] = static_cast<std::uint8_t>(bits);
    scales[2 * t + 1] = static_cast<std::uint8_t>(bits >> 8);
  }
}

// The shared exponent for vectors with scales near `typical`: its nearest power of two. 0 for 0.
int scale_exponent(float typical);

}  // namespace axon::turboquant
