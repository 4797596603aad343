#pragma once
// Mixture of experts with a shared expert. Router scores are a softmax over all experts, not renormalised over the
// chosen; the shared expert has a sigmoid gate of its own. Tokens are grouped by expert, so an expert's weights are
// read once a call and no expert runs on padding.

#include <span>

#include "kernels/device.h"
#include "layers/linear.h"
#include "memory/arena.h"

namespace axon {

struct MoeWeights {
  Linear router;                            // [X, D]
  Linear gate_proj, up_proj;                // [X*F, D] stacked experts
  Linear down_proj;                         // [X*D, F]
  Linear shared_gate;                       // [1, D]
  Linear shared_gate_proj, shared_up_proj;  // [F, D]
  Linear shared_down_proj;                  // [D, F]
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
  Mat<float> act;                    // the same: silu(gate) * up; gate itself where there is no way back
  Mat<float> out;                    // [T*top_k + T, D]
  Mat<float> h_gate, h_up, h_down;   // [T*top_k + T, R]
  std::span<LinearCall> calls;       // [2*X + 4]
  MoeScratch() = default;
  MoeScratch(Carver& carver, std::size_t tokens_max, const MoeShape& shape, const AdapterNeeds& needs);
};

// residual += moe(x).   x, residual [T, D]
void moe_forward(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x,
                 const MoeScratch& scratch, const LinearScratch& linear, Mat<float> residual);
// The same up to the experts' outputs: all that the way back needs.
void moe_inside(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x,
                const MoeScratch& scratch, const LinearScratch& linear);

struct MoeBackScratch {
  Mat<float> dout;              // [T*top_k + T, D]; then the gradient of the rows that the experts took
  Mat<float> dact, dgate, dup;  // [T*top_k + T, F]
  Mat<float> dscores;           // [T, top_k]
  Mat<float> drouter;           // [T, X]
  Mat<float> dshared_gate;      // [T, 1]
  Mat<float> dh;                // [T*top_k + T, R]
  Mat<float> scaled;            // [T*top_k + T, max(D, F)], DoRA
  std::span<LinearBack> calls;  // [X + 1]
  MoeBackScratch() = default;
  MoeBackScratch(Carver& carver, std::size_t tokens_max, const MoeShape& shape, const AdapterNeeds& needs);
};

// Of moe_forward; which experts were chosen is not differentiated.
//   dy [T, D]: of residual   dx (=) [T, D]: of x alone
void moe_backward(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x,
                  const MoeScratch& saved, Mat<const float> dy, const MoeBackScratch& scratch,
                  const LinearScratch& linear, Mat<float> dx);

}  // namespace axon
