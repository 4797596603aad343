#include "quant/affine.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace axon::affine {

namespace {

// Eight elements at a time, so that the compiler can keep a lane for each without reordering any float32 operation.
constexpr std::size_t kLanes = 8;
constexpr std::size_t kGroupMax = 128;

// clamp(rint((v - bias) / scale), 0, n). Clamped first, which is the same as the bounds are integers; then adding
// 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
void code_group(std::span<const float> w, Parameters p, float n, unsigned char* code) {
  for (std::size_t i = 0; i < w.size(); ++i) {
    float q = (w[i] - p.bias) / p.scale;
    q = q > 0.0f ? q : 0.0f;
    q = q < n ? q : n;
    code[i] = static_cast<unsigned char>(std::bit_cast<std::uint32_t>(q + 12582912.0f));
  }
}

// `count` codes (a multiple of 8) to count * kBits / 8 bytes: eight bytes move together in three steps.
template <unsigned kBits>
void pack_codes(const unsigned char* code, std::size_t count, unsigned char* out) {
  for (std::size_t i = 0; i < count; i += 8, out += kBits) {
    std::uint64_t x;
    std::memcpy(&x, code + i, 8);
    x = (x & 0x00FF00FF00FF00FFu) | (x & 0xFF00FF00FF00FF00u) >> (8 - kBits);
    x = (x & 0x0000FFFF0000FFFFu) | (x & 0xFFFF0000FFFF0000u) >> (16 - 2 * kBits);
    x = (x & 0x00000000FFFFFFFFu) | (x & 0xFFFFFFFF00000000u) >> (32 - 4 * kBits);
    std::memcpy(out, &x, kBits);
  }
}

void pack_codes(int bits, const unsigned char* code, std::size_t count, unsigned char* out) {
  switch (bits) {
    case 2: return pack_codes<2>(code, count, out);
    case 3: return pack_codes<3>(code, count, out);
    case 4: return pack_codes<4>(code, count, out);
    case 5: return pack_codes<5>(code, count, out);
    case 6: return pack_codes<6>(code, count, out);
    default: return pack_codes<8>(code, count, out);
  }
}

}  // namespace

Parameters fit_group(std::span<const float> w, int bits) {
  std::array<float, kLanes> most, least;
  most.fill(-std::numeric_limits<float>::infinity());
  least.fill(std::numeric_limits<float>::infinity());
  for (std::size_t i = 0; i < w.size(); i += kLanes) {
    const std::size_t lanes = std::min(kLanes, w.size() - i);
    for (std::size_t j = 0; j < lanes; ++j) {
      most[j] = most[j] < w[i + j] ? w[i + j] : most[j];
      least[j] = w[i + j] < least[j] ? w[i + j] : least[j];
    }
  }
  const float w_max = *std::max_element(most.begin(), most.end());
  const float w_min = *std::min_element(least.begin(), least.end());
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
  std::array<unsigned char, kGroupMax> code;
  for (std::size_t g = 0; g < w.size() / group; ++g) {
    const auto values = w.subspan(g * group, group);
    const Parameters p = fit_group(values, bits);
    code_group(values, p, n, code.data());
    pack_codes(bits, code.data(), group, out + g * group * static_cast<std::size_t>(bits) / 8);
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
