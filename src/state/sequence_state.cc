#include "state/sequence_state.h"

#include <algorithm>

namespace axon {
namespace {

// What a head counts starts over. Tiles are saved whole, so a part not yet in use must not have the codes of before.
void forget(const turboquant::HeadView& head, std::uint64_t position) {
  const turboquant::HeadPlan& plan = head.plan;
  const std::size_t coded = std::min<std::uint64_t>(plan.left_tail(position), plan.coded_tokens);
  const std::size_t tiles = (coded + turboquant::kTileTokens - 1) / turboquant::kTileTokens;
  std::fill(head.bytes + plan.tiles_at, head.bytes + std::min(plan.tail_at, plan.offset_of_tile(tiles)),
            std::uint8_t{0});
  head.header() = {};
}

}  // namespace

KvCache SequenceState::carve_cache(const LayerStateShape& shape, const KvType& type, Carver& kv) {
  KvCache cache;
  cache.heads = shape.heads;
  cache.capacity = shape.capacity;
  cache.head_dim = shape.head_dim;
  if (type.layout == nullptr) {
    const std::size_t bytes = shape.heads * shape.capacity * shape.head_dim * size_of(type.dtype);
    cache.dtype = type.dtype;
    cache.k = kv.span<std::byte>(bytes).data();
    cache.v = kv.span<std::byte>(bytes).data();
    return cache;
  }
  cache.layout = type.layout;
  cache.head_plan = turboquant::plan_head(*type.layout, shape.head_dim, shape.capacity).value();
  cache.compressed = kv.mat<std::uint8_t>(shape.heads, cache.head_plan.bytes.count).data;
  if (type.layout->coded()) {
    const auto same = [&](const auto& rotation) { return rotation->head_dim() == shape.head_dim; };
    auto found = std::find_if(rotations_.begin(), rotations_.end(), same);
    if (found == rotations_.end()) {
      found = rotations_.insert(found, std::make_unique<const turboquant::Rotation>(shape.head_dim));
    }
    cache.rotation = found->get();
  }
  return cache;
}

void SequenceState::carve(std::span<const LayerStateShape> layers, const KvType& type, Carver& kv, Carver& h,
                          Carver& tail) {
  shapes_.assign(layers.begin(), layers.end());
  kv_type_ = type;
  for (const LayerStateShape& shape : layers) {
    Layer layer;
    if (shape.attention) {
      layer.kv = carve_cache(shape, type, kv);
    } else {
      layer.ssm.h = h.mat<float>(shape.state, shape.inner);
      layer.ssm.tail = tail.mat<float>(shape.taps - 1, shape.inner);
    }
    layers_.push_back(layer);
  }
}

Result<SequenceState> SequenceState::create(Ledger& ledger, std::span<const LayerStateShape> layers,
                                            const KvType& type) {
  SequenceState state;
  Bytes kv_size, h_size, tail_size;
  plan(layers, type, [&](std::string_view account, const Carver& carver) {
    (account == account::kKvCache ? kv_size : account == account::kSsmState ? h_size : tail_size) = carver.peak();
  });
  state.kv_arena_ = AXON_TRY(Arena::create(ledger, account::kKvCache, kv_size));
  state.h_arena_ = AXON_TRY(Arena::create(ledger, account::kSsmState, h_size));
  state.tail_arena_ = AXON_TRY(Arena::create(ledger, account::kConvState, tail_size));
  Carver kv = state.kv_arena_.carver(), h = state.h_arena_.carver(), tail = state.tail_arena_.carver();
  state.carve(layers, type, kv, h, tail);
  return state;
}

void SequenceState::reset() {
  // Float rings need no clearing: slots at or past the position are neither read nor saved.
  for (Layer& layer : layers_) {
    const auto clear = [](Mat<float> m) { std::fill_n(m.data, m.rows * m.cols, 0.0f); };
    if (layer.kv.layout != nullptr) {
      for (std::size_t h = 0; h < layer.kv.heads; ++h) forget(layer.kv.head(h), position_);
    }
    if (layer.ssm.h.data != nullptr) clear(layer.ssm.h);
    if (layer.ssm.tail.data != nullptr) clear(layer.ssm.tail);
  }
  position_ = 0;
}

}  // namespace axon
