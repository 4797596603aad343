#include "kernels/cpu/coded_cache.h"

namespace axon::cpu {

using turboquant::TileOffsets;
using turboquant::TokenRun;

CodedHead::CodedHead(const turboquant::HeadView& head) : head_(head) {
  const TileOffsets tile = turboquant::tile_offsets(head.layout, head.head_dim);
  const TileOffsets tail = turboquant::tail_offsets(head.head_dim, head.plan.tail_tokens);
  keys_ = side_of(tile, tail, false);
  values_ = side_of(tile, tail, true);
}

CodedHead::Side CodedHead::side_of(const TileOffsets& tile, const TileOffsets& tail, bool values) const {
  const turboquant::HeadHeader& header = head_.header();
  const turboquant::Code code = values ? head_.layout.value : head_.layout.key;
  return {values ? tile.value_codes : tile.key_codes,
          values ? tile.value_scales : tile.key_scales,
          values ? tail.value_codes : tail.key_codes,
          values ? tail.value_scales : tail.key_scales,
          code,
          turboquant::code_bytes(code, head_.head_dim),
          values ? header.value_exponent : header.key_exponent};
}

CodedHead::Side CodedHead::in_tile(const Side& side, std::size_t tile) const {
  const std::size_t tokens = head_.plan.tokens_of_tile(tile);
  if (tokens == turboquant::kTileTokens) return side;
  const TileOffsets at = turboquant::tile_offsets(head_.layout, head_.head_dim, tokens);
  Side shorter = side;
  shorter.codes = &side == &values_ ? at.value_codes : at.key_codes;
  shorter.scales = &side == &values_ ? at.value_scales : at.key_scales;
  return shorter;
}

const std::uint8_t* CodedHead::codes_at(const Side& side, const TokenRun& run) const {
  if (run.in_tail) return head_.tail() + side.tail_codes + run.slot * head_.head_dim;
  return head_.tile(run.tile) + in_tile(side, run.tile).codes + run.slot * side.vector_bytes;
}

CodedRegion CodedHead::region(const Side& side, const TokenRun& run, std::span<float> factors) const {
  using turboquant::ScaleKind;
  const std::uint8_t* codes = codes_at(side, run);
  const std::span<float> of_run = factors.first(run.count);
  if (run.in_tail) {
    const std::size_t scales = side.tail_scales + run.slot * turboquant::scale_bytes(ScaleKind::kHalf);
    return region_at(std::nullopt, head_.head_dim, codes, ScaleKind::kHalf, head_.tail() + scales, 0, of_run);
  }
  const ScaleKind kind = head_.layout.scale;
  const std::size_t scales = in_tile(side, run.tile).scales + run.slot * turboquant::scale_bytes(kind);
  return region_at(side.code, head_.head_dim, codes, kind, head_.tile(run.tile) + scales, side.exponent, of_run);
}

CodedRegion CodedHead::keys(const TokenRun& run, std::span<float> factors) const { return region(keys_, run, factors); }
CodedRegion CodedHead::values(const TokenRun& run, std::span<float> factors) const {
  return region(values_, run, factors);
}
const std::uint8_t* CodedHead::keys_at(const TokenRun& run) const { return codes_at(keys_, run); }
const std::uint8_t* CodedHead::values_at(const TokenRun& run) const { return codes_at(values_, run); }

}  // namespace axon::cpu
