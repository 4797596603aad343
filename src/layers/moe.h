#pragma once
// Mixture of experts with a shared expert. Router scores are a softmax over all experts, not renormalised over the
// chosen; the shared expert has a sigmoid gate of its own. Tokens are grouped by expert, so an expert's weights are
// read once a call and no expert runs on padding.

#include <span>

#include "kernels/device.h"
#include "memory/arena.h"

namespace axon {

struct MoeWeights {
  Weight router;                            // [X, D]
  Weight gate_proj, up_proj;                // [X*F, D] stacked experts
  Weight down_proj;                         // [X*D, F]
  Weight shared_gate;                       // [1, D]
  Weight shared_gate_proj, shared_up_proj;  // [F, D]
  Weight shared_down_proj;                  // [D, F]
};

struct MoeShape {
  std::size_t hidden, experts, top_k, ffn;
};

struct MoeScratch {
  Mat<float> router;                 // [T, X]
  Mat<float> shared_gate;            // [T, 1]
  Mat<std::uint32_t> chosen;         // [T, top_k] expert of each choice
  Mat<float> scores;                 // [T, top_k]
  Mat<std::uint32_t> slots;          // [T, top_k] row of each choice among the grouped rows
  std::span<std::uint32_t> tokens;   // [T*top_k] token of each grouped row
  std::span<std::uint32_t> borders;  // [X+1] first grouped row of each expert
  Mat<float> gate, up;               // [T*top_k + T, F] routed rows, then the shared expert's
  Mat<float> out;                    // [T*top_k + T, D]
  std::span<Product> products;       // [2*X + 4]
  MoeScratch() = default;
  MoeScratch(Carver& carver, std::size_t tokens_max, const MoeShape& shape);
};

// residual += moe(x).   x, residual [T, D]
void moe_forward(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x,
                 const MoeScratch& scratch, Mat<float> residual);

}  // namespace axon
