#pragma once
// Affine groups: the quantisation that MLX and mlx-lm write (mx.quantize, mode "affine"; spec section 3).
//   value = code * scale + bias, one scale and bias for `group_size` consecutive columns.
// Codes are packed least significant bit first into little-endian bytes, without gaps: code i of a row starts at bit
// i * bits. The functions here are scalar and obviously right: they judge the kernels.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "tensor/dtype.h"
#include "tensor/weight.h"

namespace axon::affine {

inline constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
inline constexpr int kGroupSizes[] = {32, 64, 128};
constexpr bool valid_bits(int bits) { return bits >= 2 && bits <= 8 && bits != 7; }
constexpr bool valid_group_size(int g) { return g == 32 || g == 64 || g == 128; }

struct Parameters {
  float scale, bias;
};

// Scale and bias of one group, before they are rounded to the scale dtype. The end of larger magnitude is hit exactly
// and 0 is always representable. Ties between the ends count as positive, so the scale is then negative.
Parameters fit_group(std::span<const float> w, int bits);

// Encodes w (cols values, a multiple of group_size): `codes` gets cols*bits/8 bytes, scales and biases cols/group_size
// values of scale_dtype. Codes are chosen with the unrounded parameters, as MLX does.
void encode_row(std::span<const float> w, int bits, int group_size, DType scale_dtype, std::byte* codes, void* scales,
                void* biases);

// Code `i` of a packed row.
inline unsigned code_at(const void* row, int bits, std::size_t i) {
  const auto* p = static_cast<const unsigned char*>(row);
  const std::size_t bit = i * static_cast<std::size_t>(bits);
  unsigned word = p[bit / 8];
  if (bit % 8 + static_cast<unsigned>(bits) > 8) word |= static_cast<unsigned>(p[bit / 8 + 1]) << 8;
  return (word >> (bit % 8)) & ((1u << bits) - 1u);
}

// Row r, columns [first, first + out.size()) as float32, for every kind of Weight.
void decode_row(const Weight& w, std::size_t r, std::size_t first, std::span<float> out);

}  // namespace axon::affine
