#pragma once
// A block of the stack, of any kind: x += mixer(norm(x)); if (moe) x += moe(norm(x)).

#include <optional>
#include <variant>

#include "layers/moe.h"
#include "layers/ssm.h"
#include "layers/swa.h"

namespace axon {

struct BlockWeights {
  std::span<const float> input_norm;  // [D]
  std::variant<SsmWeights, SwaWeights> mixer;
  struct Ffn {
    std::span<const float> norm;  // [D]
    MoeWeights moe;
  };
  std::optional<Ffn> ffn;
};

// The numbers that a block's work depends on beside its weights.
struct BlockShape {
  SsmShape ssm;
  std::size_t heads, window, taps;  // H, W, K
  MoeShape moe;
  float eps;
  std::size_t hidden() const { return ssm.hidden; }
  // The widest input of any linear layer, and the most calls of linear_forward at once.
  std::size_t in_max() const;
  std::size_t calls_max() const;
};

// Mixer and MoE never run at once, so they share their bytes.
struct BlockScratch {
  Mat<float> normed;  // [T, D]
  LinearScratch linear;
  SsmScratch ssm;
  SwaScratch swa;
  MoeScratch moe;
  BlockScratch() = default;
  BlockScratch(Carver& carver, std::size_t tokens_max, const BlockShape& shape, const AdapterNeeds& needs = {});
};

// x [T, D], in place; `layer` selects the block's part of `state`.
void block_forward(Device& device, const BlockWeights& w, const BlockShape& shape, SequenceState& state,
                   std::size_t layer, const BlockScratch& scratch, Mat<float> x);

}  // namespace axon
