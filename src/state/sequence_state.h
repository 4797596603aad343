#pragma once
// What one sequence remembers between calls: a ring of keys and values for each attention layer, a state and a
// convolution tail for each SSM layer. Its size does not depend on how many tokens have passed.

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/device.h"
#include "memory/arena.h"
#include "state/kv_type.h"

namespace axon {

// The memory of one layer, by shape. Exactly one of the two is used.
struct LayerStateShape {
  bool attention = false;
  std::size_t heads = 0, head_dim = 0, capacity = 0;  // attention: H, A, ring slots
  std::size_t inner = 0, state = 0, taps = 0;         // SSM: E, N, K
};

struct SsmState {
  Mat<float> h;     // [N, E]
  Mat<float> tail;  // [K-1, E]
};

class SequenceState {
 public:
  // Calls visit(account, carver) for each account; the carver has measured what create() will reserve. Every head_dim
  // is one that check_kv_type takes.
  template <class Visit>
  static void plan(std::span<const LayerStateShape> layers, const KvType& type, Visit&& visit) {
    SequenceState state;
    Carver kv, h, tail;
    state.carve(layers, type, kv, h, tail);
    visit(account::kKvCache, kv);
    visit(account::kSsmState, h);
    visit(account::kConvState, tail);
  }
  static Result<SequenceState> create(Ledger& ledger, std::span<const LayerStateShape> layers,
                                      const KvType& type);

  // The layer's part; the layer's kind must match.
  KvCache& kv(std::size_t layer) { return layers_[layer].kv; }
  SsmState& ssm(std::size_t layer) { return layers_[layer].ssm; }
  const KvCache& kv(std::size_t layer) const { return layers_[layer].kv; }
  const SsmState& ssm(std::size_t layer) const { return layers_[layer].ssm; }
  std::span<const LayerStateShape> shapes() const { return shapes_; }  // one a layer
  const KvType& kv_type() const { return kv_type_; }

  std::uint64_t position() const { return position_; }  // tokens that have passed
  void advance(std::size_t tokens) { position_ += tokens; }
  // Back to the empty sequence.
  void reset();

 private:
  struct Layer {
    KvCache kv;
    SsmState ssm;
  };
  void carve(std::span<const LayerStateShape> layers, const KvType& type, Carver& kv, Carver& h, Carver& tail);
  KvCache carve_cache(const LayerStateShape& shape, const KvType& type, Carver& kv);

  Arena kv_arena_, h_arena_, tail_arena_;
  std::vector<LayerStateShape> shapes_;
  KvType kv_type_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<const turboquant::Rotation>> rotations_;  // one a head_dim
  std::uint64_t position_ = 0;
};

}  // namespace axon
