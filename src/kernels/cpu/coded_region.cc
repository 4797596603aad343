#include "kernels/cpu/coded_region.h"

#include <bit>

#include "kernels/cpu/coded_kernels.h"

namespace axon::cpu {
namespace {

using turboquant::ScaleKind;

constexpr std::size_t kTilesAhead = 4;  // those before it may be in the same call, which reads their scales first
constexpr int kLeastExponent = -126, kLargestExponent = 127;  // of a float32 that has all its bits

void load_factors(ScaleKind kind, const std::uint8_t* scales, std::int32_t exponent, float step,
                  std::span<float> factors) {
  // A product with a power of two rounds no more than std::ldexp does.
  if (exponent >= kLeastExponent && exponent <= kLargestExponent) {
    return coded::kernels(level()).factors(kind, scales, std::bit_cast<float>((exponent + 127) << 23), step, factors);
  }
  for (std::size_t t = 0; t < factors.size(); ++t) {
    factors[t] = turboquant::load_scale(kind, turboquant::load_scale_bits(kind, scales, t), exponent) * step;
  }
}

CodedRegion with_next(CodedRegion region, std::size_t tile_bytes) {
  region.next = region.codes + kTilesAhead * tile_bytes;
  return region;
}

}  // namespace

CodedRegion region_at(std::optional<turboquant::Code> code, std::size_t head_dim, const std::uint8_t* codes,
                      ScaleKind kind, const std::uint8_t* scales, std::int32_t exponent, std::span<float> factors) {
  load_factors(kind, scales, exponent, code ? turboquant::codebook(*code).step : 1.0f, factors);
  return {code, head_dim, codes, factors};
}

CodedRegion coded_keys(const turboquant::TileView& tile, std::span<float> factors) {
  AXON_DCHECK(factors.size() <= tile.tokens && tile.tokens <= turboquant::kTileTokens);
  const auto at = turboquant::tile_offsets(tile.layout, tile.head_dim, tile.tokens);
  const std::uint8_t* bytes = tile.bytes.data();
  return with_next(region_at(tile.layout.key, tile.head_dim, bytes + at.key_codes, tile.layout.scale,
                             bytes + at.key_scales, tile.key_exponent, factors),
                   at.bytes);
}

CodedRegion coded_values(const turboquant::TileView& tile, std::span<float> factors) {
  AXON_DCHECK(factors.size() <= tile.tokens && tile.tokens <= turboquant::kTileTokens);
  const auto at = turboquant::tile_offsets(tile.layout, tile.head_dim, tile.tokens);
  const std::uint8_t* bytes = tile.bytes.data();
  return with_next(region_at(tile.layout.value, tile.head_dim, bytes + at.value_codes, tile.layout.scale,
                             bytes + at.value_scales, tile.value_exponent, factors),
                   at.bytes);
}

CodedRegion tail_keys(std::span<const std::uint8_t> tail, std::size_t head_dim, std::size_t room, std::size_t first,
                      std::span<float> factors) {
  AXON_DCHECK(first + factors.size() <= room);
  const auto at = turboquant::tail_offsets(head_dim, room);
  return region_at(std::nullopt, head_dim, tail.data() + at.key_codes + first * head_dim, ScaleKind::kHalf,
                   tail.data() + at.key_scales + 2 * first, 0, factors);
}

CodedRegion tail_values(std::span<const std::uint8_t> tail, std::size_t head_dim, std::size_t room, std::size_t first,
                        std::span<float> factors) {
  AXON_DCHECK(first + factors.size() <= room);
  const auto at = turboquant::tail_offsets(head_dim, room);
  return region_at(std::nullopt, head_dim, tail.data() + at.value_codes + first * head_dim, ScaleKind::kHalf,
                   tail.data() + at.value_scales + 2 * first, 0, factors);
}

std::size_t tokens_of(CodedRegions regions) {
  std::size_t sum = 0;
  for (const CodedRegion& region : regions) {
    AXON_DCHECK(region.head_dim == regions[0].head_dim && region.tokens() <= turboquant::kTileTokens);
    sum += region.tokens();
  }
  return sum;
}

void decode(const CodedRegion& region, Mat<std::int8_t> out) {
  AXON_DCHECK(out.rows == region.tokens() && out.cols == region.head_dim);
  if (region.tokens() != 0) coded::kernels(level()).decode(region, out);
}

}  // namespace axon::cpu
