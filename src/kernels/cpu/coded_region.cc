#include "kernels/cpu/coded_region.h"

#include <bit>

#include "kernels/cpu/coded_kernels.h"

namespace axon::cpu {
namespace {

using turboquant::ScaleKind;

constexpr std::size_t kTilesAhead = 4;  // those before it may be in the same call, which reads their scales first
constexpr int kLeastExponent = -126, kLargestExponent = 127;  // of a float32 that has all its bits

struct Place {
  std::size_t tile_bytes;
  turboquant::Code code;
  std::size_t codes, scales;
  std::int32_t exponent;
};
CodedRegion region_of(const turboquant::TileView& tile, const Place& at, std::span<float> factors) {
  AXON_DCHECK(factors.size() <= tile.tokens && tile.tokens <= turboquant::kTileTokens);
  load_factors(tile.layout.scale, tile.bytes.data() + at.scales, at.exponent, turboquant::codebook(at.code).step,
               factors);
  const std::uint8_t* codes = tile.bytes.data() + at.codes;
  return {at.code, tile.head_dim, codes, factors, codes + kTilesAhead * at.tile_bytes};
}

CodedRegion tail_of(const std::uint8_t* values, const std::uint8_t* scales, std::size_t head_dim, std::size_t first,
                    std::span<float> factors) {
  load_factors(ScaleKind::kHalf, scales + 2 * first, 0, 1.0f, factors);
  return {std::nullopt, head_dim, values + first * head_dim, factors, nullptr};
}

}  // namespace

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

CodedRegion coded_keys(const turboquant::TileView& tile, std::span<float> factors) {
  const auto at = turboquant::tile_offsets(tile.layout, tile.head_dim, tile.tokens);
  return region_of(tile, {at.bytes, tile.layout.key, at.key_codes, at.key_scales, tile.key_exponent}, factors);
}

CodedRegion coded_values(const turboquant::TileView& tile, std::span<float> factors) {
  const auto at = turboquant::tile_offsets(tile.layout, tile.head_dim, tile.tokens);
  return region_of(tile, {at.bytes, tile.layout.value, at.value_codes, at.value_scales, tile.value_exponent}, factors);
}

CodedRegion tail_keys(std::span<const std::uint8_t> tail, std::size_t head_dim, std::size_t room, std::size_t first,
                      std::span<float> factors) {
  AXON_DCHECK(first + factors.size() <= room);
  const auto at = turboquant::tail_offsets(head_dim, room);
  return tail_of(tail.data() + at.key_codes, tail.data() + at.key_scales, head_dim, first, factors);
}

CodedRegion tail_values(std::span<const std::uint8_t> tail, std::size_t head_dim, std::size_t room, std::size_t first,
                        std::span<float> factors) {
  AXON_DCHECK(first + factors.size() <= room);
  const auto at = turboquant::tail_offsets(head_dim, room);
  return tail_of(tail.data() + at.value_codes, tail.data() + at.value_scales, head_dim, first, factors);
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
