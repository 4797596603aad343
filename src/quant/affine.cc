#include "quant/affine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace axon::affine {

Parameters fit_group(std::span<const float> w, int bits) {
  float w_max = -std::numeric_limits<float>::infinity();
  float w_min = std::numeric_limits<float>::infinity();
  for (const float v : w) {
    w_max = std::max(w_max, v);
    w_min = std::min(w_min, v);
  }
  const auto n = static_cast<float>((1 << bits) - 1);
  const bool negative_end = std::fabs(w_min) > std::fabs(w_max);
  float scale = std::max((w_max - w_min) / n, 1e-7f);
  if (!negative_end) scale = -scale;
  const float edge = negative_end ? w_min : w_max;
  const float q0 = std::nearbyint(edge / scale);
  if (q0 == 0.0f) return {scale, 0.0f};
  return {edge / q0, edge};
}

void encode_row(std::span<const float> w, int bits, int group_size, DType scale_dtype, std::byte* codes, void* scales,
                void* biases) {
  const auto group = static_cast<std::size_t>(group_size);
  AXON_CHECK(valid_bits(bits) && valid_group_size(group_size) && w.size() % group == 0);
  const auto n = static_cast<float>((1 << bits) - 1);
  auto* out = reinterpret_cast<unsigned char*>(codes);
  std::array<unsigned char, 128> code;
  for (std::size_t g = 0; g < w.size() / group; ++g) {
    const auto values = w.subspan(g * group, group);
    const Parameters p = fit_group(values, bits);
    for (std::size_t i = 0; i < group; ++i) {
      const float q = std::nearbyint((values[i] - p.bias) / p.scale);
      code[i] = static_cast<unsigned char>(std::min(std::max(q, 0.0f), n));
    }
    // A group is a whole number of bytes: 32 * bits / 8.
    unsigned buffer = 0;
    int filled = 0;
    for (std::size_t i = 0; i < group; ++i) {
      buffer |= static_cast<unsigned>(code[i]) << filled;
      filled += bits;
      while (filled >= 8) {
        *out++ = static_cast<unsigned char>(buffer);
        buffer >>= 8;
        filled -= 8;
      }
    }
    store_float(scale_dtype, scales, g, p.scale);
    store_float(scale_dtype, biases, g, p.bias);
  }
}

void decode_row(const Weight& w, std::size_t r, std::size_t first, std::span<float> out) {
  AXON_DCHECK(r < w.rows && first + out.size() <= w.cols);
  const auto* row = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  if (!w.quantised()) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = load_float(w.dtype, row, first + i);
    return;
  }
  const auto group = static_cast<std::size_t>(w.affine.group_size);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t g = r * w.groups() + (first + i) / group;
    const float scale = load_float(w.affine.scale_dtype, w.affine.scales, g);
    const float bias = load_float(w.affine.scale_dtype, w.affine.biases, g);
    out[i] = static_cast<float>(code_at(row, w.affine.bits, first + i)) * scale + bias;
  }
}

}  // namespace axon::affine
