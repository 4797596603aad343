#pragma once
// Selective state space mixer (Mamba, arXiv 2312.00752, eq. 2 and 3) with one raw step size per token.

#include <span>

#include "kernels/device.h"
#include "layers/linear.h"
#include "memory/arena.h"
#include "state/sequence_state.h"

namespace axon {

struct SsmWeights {
  Linear in_proj;                    // [2E, D] convolution branch, then gate branch
  Mat<const float> conv_taps;        // [K, E]
  std::span<const float> conv_bias;  // [E]
  Linear x_proj;                     // [2N+1, E] B, C, raw dt
  std::span<const float> dt_weight;  // [E]
  std::span<const float> dt_bias;    // [E]
  Mat<const float> a;                // [N, E] = -exp(A_log), transposed
  std::span<const float> d;          // [E]
  Linear out_proj;                   // [D, E]
};

struct SsmShape {
  std::size_t hidden, inner, state;  // D, E, N
};

// Consecutive tokens of one sequence among the rows of a call. `fresh`: the sequence begins here, with nothing behind
// it.
struct Run {
  std::size_t first = 0, count = 0;
  bool fresh = false;
};

struct SsmScratch {
  Mat<float> xz;                // [T, 2E]
  Mat<float> u;                 // [T, E]
  Mat<float> bcdt;              // [T, 2N+1]
  Mat<float> y;                 // [T, E]; u itself where there is no way back
  Mat<float> h_in, h_x, h_out;  // [T, R]
  Mat<float> own;               // [T, D], DoRA
  SsmScratch() = default;
  SsmScratch(Carver& carver, std::size_t tokens, const SsmShape& shape, const AdapterNeeds& needs);
};

// residual += ssm(x), and `state` moves on through the runs.   x, residual [T, D]
void ssm_forward(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs, SsmState& state,
                 const SsmScratch& scratch, const LinearScratch& linear, Mat<float> residual);
// The same, leaving behind what ssm_backward needs, without out_proj's product. With DoRA on out_proj it needs that,
// too.
void ssm_again(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs, SsmState& state,
               const SsmScratch& scratch, const LinearScratch& linear);

struct SsmBackScratch {
  Mat<float> dy;      // [T, E]; then du
  Mat<float> dxz;     // [T, 2E]
  Mat<float> dbcdt;   // [T, 2N+1]
  Mat<float> dh;      // [T, R]
  Mat<float> scaled;  // [T, widest output], DoRA
  SsmBackScratch() = default;
  SsmBackScratch(Carver& carver, std::size_t tokens, const SsmShape& shape, const AdapterNeeds& needs);
};

// Of one call of ssm_forward whose runs began at `start`; `zero` is an empty state. `carry`: on entry what later tokens
// want of the state that the call left, on return what is wanted of `start`.
//   dy [T, D]: of residual   dx (=) [T, D]: of x alone
void ssm_backward(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs,
                  const SsmState& start, const SsmState& zero, const SsmScratch& saved, Mat<const float> dy,
                  SsmState& carry, const SsmBackScratch& scratch, const LinearScratch& linear, Mat<float> dx);

void clear(SsmState& state);
void copy(const SsmState& from, SsmState& to);

}  // namespace axon
