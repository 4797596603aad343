#pragma once
// Encoding and decoding of one key or value vector of a head.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "quant/turboquant_rotation.h"
#include "quant/turboquant_tables.h"

namespace axon::turboquant {

// How the scale s of y ~ s c follows from the vector y and its coded values c.
enum class ScaleMode : std::uint8_t {
  kUnbiased,       // |y|^2 / <y, c>: E<q, s c> = <q, y>  (EDEN, arXiv 2105.08339)
  kNormCorrected,  // |y| / |c|
  kLeastSquares,   // <y, c> / |c|^2
};

struct Coder {
  Code code;
  ScaleMode mode = ScaleMode::kUnbiased;
  const Rotation* rotation = nullptr;  // null: vectors come already rotated
  std::span<const float> centre = {};  // [A] in the vectors' own basis, or empty

  // x [A], A as supports_head_dim asks. Writes code_bytes(code, A) bytes and returns s >= 0, at most 1.5 |y| / |c|.
  // A zero vector gives s = 0. Nothing is written and nothing returned if x holds a NaN or an infinity, or |x - centre|
  // passes 2^100.
  [[nodiscard]] std::optional<float> encode(std::span<const float> x, std::span<std::uint8_t> codes) const;
  // x [A] <- centre + R^T s c
  void decode(std::span<const std::uint8_t> codes, float scale, std::span<float> x) const;
};

// The int8 of each position: values [A], to be multiplied by codebook(code).step and the vector's scale.
void decode_codes(Code code, std::span<const std::uint8_t> codes, std::span<std::int8_t> values);

// Input of encode_trellis: x [A] <- y sqrt(A) / norm in 12 fraction bits, rounded to nearest and clamped to kMaxInput.
void to_trellis_input(std::span<const float> y, double norm, std::span<std::int16_t> x);

}  // namespace axon::turboquant
