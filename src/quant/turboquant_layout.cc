#include "quant/turboquant_layout.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/random.h"

namespace axon::turboquant {
namespace {

constexpr std::array<Layout, 4> kLayouts = {{
    {"tq4", Code::kTrellis4, Code::kTrellis4, ScaleKind::kHalf, 40, "trellis codes, keys and values 4 bits"},
    {"tq3.5", Code::kTrellis3p5, Code::kTrellis3, ScaleKind::kHalf, 32, "trellis codes, keys 3.5 and values 3 bits"},
    {"tq3", Code::kTrellis3, Code::kTrellis2, ScaleKind::kByte, 40, "trellis codes, keys 3 and values 2 bits"},
    {"lm3", Code::kScalar3, Code::kScalar2, ScaleKind::kByte, 40, "the paper's scalar codes, keys 3 and values 2 bits"},
}};

constexpr Layout kInt8 = {"q8", Code::kScalar4, Code::kScalar4, ScaleKind::kHalf, kMaxWindow,
                         "int8 with a half-precision scale for each vector"};

TileOffsets place(std::size_t key_codes, std::size_t value_codes, std::size_t scales) {
  TileOffsets at{};
  at.key_scales = round_up(key_codes, kLineBytes);
  at.value_codes = at.key_scales + round_up(scales, kLineBytes);
  at.value_scales = at.value_codes + round_up(value_codes, kLineBytes);
  at.bytes = at.value_scales + round_up(scales, kLineBytes);
  return at;
}

class Hash {
 public:
  void add(std::uint64_t value) { state_ = mix64(state_ ^ mix64(value + 0x9E3779B97F4A7C15ull)); }
  void add(const Codebook& book) {
    for (const std::int8_t v : book.values) add(static_cast<std::uint8_t>(v));
    add(std::bit_cast<std::uint32_t>(book.step));
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = hash64("turboquant 1");
};

}  // namespace

std::span<const Layout> layouts() { return kLayouts; }

const Layout& int8_layout() { return kInt8; }

const Layout* find_layout(std::string_view name) {
  if (name == kInt8.name) return &kInt8;
  const auto* it = std::find_if(kLayouts.begin(), kLayouts.end(), [&](const Layout& l) { return l.name == name; });
  return it == kLayouts.end() ? nullptr : it;
}

std::size_t pair_bytes(const Layout& layout, std::size_t head_dim) {
  return code_bytes(layout.key, head_dim) + code_bytes(layout.value, head_dim) + 2 * scale_bytes(layout.scale);
}

TileOffsets tile_offsets(const Layout& layout, std::size_t head_dim, std::size_t tokens) {
  return place(tokens * code_bytes(layout.key, head_dim), tokens * code_bytes(layout.value, head_dim),
               tokens * scale_bytes(layout.scale));
}

TileOffsets tail_offsets(std::size_t head_dim, std::size_t tokens) {
  return place(tokens * head_dim, tokens * head_dim, tokens * scale_bytes(ScaleKind::kHalf));
}

std::size_t HeadPlan::tokens_of_tile(std::size_t i) const {
  return std::min(kTileTokens, coded_tokens - i * kTileTokens);
}

std::uint64_t HeadPlan::left_tail(std::uint64_t passed) const {
  const std::uint64_t beyond = passed - std::min<std::uint64_t>(passed, tail_tokens);
  return coded_tokens == 0 ? beyond : round_up(beyond, kFlushTokens);
}

TokenRun HeadPlan::run_from(std::uint64_t p, std::uint64_t passed) const {
  AXON_DCHECK(p < passed);
  const std::uint64_t border = left_tail(passed);
  if (p >= border) {
    const std::size_t slot = p % tail_tokens;
    return {true, 0, slot, std::min<std::size_t>({passed - p, tail_tokens - slot, kTileTokens})};
  }
  AXON_DCHECK(border - p <= coded_tokens);
  const std::size_t slot = p % coded_tokens, tile = slot / kTileTokens, first = slot % kTileTokens;
  return {false, tile, first, std::min<std::size_t>(border - p, tokens_of_tile(tile) - first)};
}

Result<HeadPlan> plan_head(const Layout& layout, std::size_t head_dim, std::uint64_t window) {
  AXON_TRY(check_head_dim(head_dim));
  if (window == 0 || window > kMaxWindow) {
    return make_error(ErrorCode::kInvalidArgument, "a KV window of {} tokens cannot be held: it must be 1 to {}",
                      window, kMaxWindow);
  }
  HeadPlan plan{};
  plan.tail_tokens = std::min<std::size_t>(layout.tail_tokens, round_up(window, kFlushTokens));
  if (window > layout.tail_tokens) {
    // After a flush and the append that asked for it, the tail holds tail_tokens - kFlushTokens + 1.
    plan.coded_tokens = round_up(window - (layout.tail_tokens - kFlushTokens + 1), kFlushTokens);
  }
  plan.tiles = (plan.coded_tokens + kTileTokens - 1) / kTileTokens;
  plan.tile_bytes = tile_offsets(layout, head_dim).bytes;
  plan.tiles_at = sizeof(HeadHeader);
  plan.tail_at = plan.tiles_at;
  if (plan.tiles > 0) {
    plan.tail_at =
        plan.offset_of_tile(plan.tiles - 1) + tile_offsets(layout, head_dim, plan.tokens_of_tile(plan.tiles - 1)).bytes;
  }
  plan.bytes = {plan.tail_at + tail_offsets(head_dim, plan.tail_tokens).bytes};
  return plan;
}

std::uint64_t codebook_id(const Layout& layout, std::size_t head_dim) {
  Hash hash;
  hash.add(head_dim);
  for (const Code code : {layout.key, layout.value}) {
    hash.add(static_cast<std::uint64_t>(code));
    hash.add(codebook(code));
  }
  hash.add(static_cast<std::uint64_t>(layout.scale));
  for (std::uint16_t b = 0; b < 256; ++b) hash.add(std::bit_cast<std::uint32_t>(load_scale(ScaleKind::kByte, b, 0)));
  const Rotation rotation(head_dim);
  for (const float sign : rotation.signs()) hash.add(sign < 0 ? 1 : 0);
  for (const std::size_t n : {layout.tail_tokens, kTileTokens, kFlushTokens}) hash.add(n);
  return hash.value();
}

}  // namespace axon::turboquant
