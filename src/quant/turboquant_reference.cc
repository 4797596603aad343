#include "quant/turboquant_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/turboquant_vector.h"
#include "tensor/dtype.h"

namespace axon::turboquant {
namespace {

struct Region {
  Code code;
  std::size_t codes_at, scales_at;
  std::int32_t exponent;
};

CodedVectors decode_region(const TileView& tile, const Region& region) {
  const std::size_t size = code_bytes(region.code, tile.head_dim);
  const float step = codebook(region.code).step;
  CodedVectors out{std::vector<std::int8_t>(tile.tokens * tile.head_dim), std::vector<float>(tile.tokens)};
  for (std::size_t t = 0; t < tile.tokens; ++t) {
    decode_codes(region.code, tile.bytes.subspan(region.codes_at + t * size, size),
                 {out.values.data() + t * tile.head_dim, tile.head_dim});
    const std::uint16_t bits = load_scale_bits(tile.layout.scale, tile.bytes.data() + region.scales_at, t);
    out.factors[t] = load_scale(tile.layout.scale, bits, region.exponent) * step;
  }
  return out;
}

// Rounds x / (largest magnitude / 127) to nearest, halves away from zero.
void to_int8(std::span<const float> x, float scale, std::span<std::int8_t> values) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float scaled = scale > 0 ? x[i] / scale : 0.0f;
    values[i] = static_cast<std::int8_t>(std::clamp(std::round(scaled), -127.0f, 127.0f));
  }
}

float largest_magnitude(std::span<const float> x) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::fabs(v));
  return largest;
}

}  // namespace

CodedVectors decode_keys(const TileView& tile) {
  const TileOffsets at = tile_offsets(tile.layout, tile.head_dim, tile.tokens);
  return decode_region(tile, {tile.layout.key, at.key_codes, at.key_scales, tile.key_exponent});
}

CodedVectors decode_values(const TileView& tile) {
  const TileOffsets at = tile_offsets(tile.layout, tile.head_dim, tile.tokens);
  return decode_region(tile, {tile.layout.value, at.value_codes, at.value_scales, tile.value_exponent});
}

void write_pair(const Layout& layout, std::size_t head_dim, std::size_t tokens, std::size_t slot, const CodedPair& pair,
                std::span<std::uint8_t> tile) {
  const TileOffsets at = tile_offsets(layout, head_dim, tokens);
  AXON_CHECK(slot < tokens && tile.size() >= at.bytes);
  AXON_CHECK(pair.key_codes.size() == code_bytes(layout.key, head_dim));
  AXON_CHECK(pair.value_codes.size() == code_bytes(layout.value, head_dim));
  std::copy(pair.key_codes.begin(), pair.key_codes.end(), tile.data() + at.key_codes + slot * pair.key_codes.size());
  std::copy(pair.value_codes.begin(), pair.value_codes.end(),
            tile.data() + at.value_codes + slot * pair.value_codes.size());
  store_scale_bits(layout.scale, pair.key_scale.bits, tile.data() + at.key_scales, slot);
  store_scale_bits(layout.scale, pair.value_scale.bits, tile.data() + at.value_scales, slot);
}

bool encode_tail(std::span<const float> x, std::span<std::int8_t> values, std::uint16_t& half_scale) {
  for (const float v : x) {
    if (!std::isfinite(v)) return false;
  }
  const std::uint16_t half = float_to_f16(largest_magnitude(x) / 127.0f);
  if (half >= 0x7C00) return false;
  half_scale = half;
  to_int8(x, f16_to_float(half), values);
  return true;
}

Int8Query quantise_query(std::span<const float> q) {
  Int8Query out{std::vector<std::int8_t>(q.size()), largest_magnitude(q) / 127.0f};
  to_int8(q, out.scale, out.values);
  return out;
}

void score(const CodedVectors& keys, std::span<const float> q, std::span<float> scores) {
  for (std::size_t t = 0; t < scores.size(); ++t) {
    const std::int8_t* k = keys.values.data() + t * q.size();
    double sum = 0;
    for (std::size_t i = 0; i < q.size(); ++i) sum += static_cast<double>(q[i]) * k[i];
    scores[t] = static_cast<float>(sum * static_cast<double>(keys.factors[t]));
  }
}

void score(const CodedVectors& keys, const Int8Query& q, std::span<float> scores) {
  for (std::size_t t = 0; t < scores.size(); ++t) {
    const std::int8_t* k = keys.values.data() + t * q.values.size();
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < q.values.size(); ++i) sum += q.values[i] * k[i];
    scores[t] = static_cast<float>(sum) * keys.factors[t] * q.scale;
  }
}

void add_values(const CodedVectors& values, std::span<const float> weights, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (std::size_t t = 0; t < weights.size(); ++t) {
      sum +=
          static_cast<double>(weights[t]) * static_cast<double>(values.factors[t]) * values.values[t * out.size() + i];
    }
    out[i] += static_cast<float>(sum);
  }
}

void add_values_u8(const CodedVectors& values, std::span<const float> weights, std::span<float> out) {
  std::vector<float> scaled(weights.size());
  for (std::size_t t = 0; t < weights.size(); ++t) scaled[t] = weights[t] * values.factors[t];
  const float unit = largest_magnitude(scaled) / 255.0f;
  if (!(unit > 0)) return;
  std::vector<std::int32_t> sums(out.size());
  for (std::size_t t = 0; t < weights.size(); ++t) {
    const auto w = static_cast<std::int32_t>(std::min(std::round(scaled[t] / unit), 255.0f));
    for (std::size_t i = 0; i < out.size(); ++i) sums[i] += w * values.values[t * out.size() + i];
  }
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += static_cast<float>(sums[i]) * unit;
}

}  // namespace axon::turboquant
