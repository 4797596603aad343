#include "state/sequence_state.h"

#include <algorithm>

namespace axon {

void SequenceState::carve(std::span<const LayerStateShape> layers, DType kv_dtype, Carver& kv, Carver& h,
                          Carver& tail) {
  for (const LayerStateShape& shape : layers) {
    Layer layer;
    if (shape.attention) {
      const std::size_t elements = shape.heads * shape.capacity * shape.head_dim;
      layer.kv = {.dtype = kv_dtype,
                  .k = kv.span<std::byte>(elements * size_of(kv_dtype)).data(),
                  .v = kv.span<std::byte>(elements * size_of(kv_dtype)).data(),
                  .heads = shape.heads,
                  .capacity = shape.capacity,
                  .head_dim = shape.head_dim};
    } else {
      layer.ssm.h = h.mat<float>(shape.state, shape.inner);
      layer.ssm.tail = tail.mat<float>(shape.taps - 1, shape.inner);
    }
    layers_.push_back(layer);
  }
}

Result<SequenceState> SequenceState::create(Ledger& ledger, std::span<const LayerStateShape> layers, DType kv_dtype) {
  SequenceState state;
  Bytes kv_size, h_size, tail_size;
  plan(layers, kv_dtype, [&](std::string_view account, const Carver& carver) {
    (account == account::kKvCache ? kv_size : account == account::kSsmState ? h_size : tail_size) = carver.peak();
  });
  state.kv_arena_ = AXON_TRY(Arena::create(ledger, account::kKvCache, kv_size));
  state.h_arena_ = AXON_TRY(Arena::create(ledger, account::kSsmState, h_size));
  state.tail_arena_ = AXON_TRY(Arena::create(ledger, account::kConvState, tail_size));
  Carver kv = state.kv_arena_.carver(), h = state.h_arena_.carver(), tail = state.tail_arena_.carver();
  state.carve(layers, kv_dtype, kv, h, tail);
  return state;
}

void SequenceState::reset() {
  // The ring needs no clearing: slots at or past the position are never read.
  for (Layer& layer : layers_) {
    const auto clear = [](Mat<float> m) { std::fill_n(m.data, m.rows * m.cols, 0.0f); };
    if (layer.ssm.h.data != nullptr) clear(layer.ssm.h);
    if (layer.ssm.tail.data != nullptr) clear(layer.ssm.tail);
  }
  position_ = 0;
}

}  // namespace axon
