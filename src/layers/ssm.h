#pragma once
// Selective state space mixer (Mamba, arXiv 2312.00752, eq. 2 and 3) with one raw step size per token.

#include <span>

#include "kernels/device.h"
#include "memory/arena.h"
#include "state/sequence_state.h"

namespace axon {

struct SsmWeights {
  Weight in_proj;                    // [2E, D] convolution branch, then gate branch
  Mat<const float> conv_taps;        // [K, E]
  std::span<const float> conv_bias;  // [E]
  Weight x_proj;                     // [2N+1, E] B, C, raw dt
  std::span<const float> dt_weight;  // [E]
  std::span<const float> dt_bias;    // [E]
  Mat<const float> a;                // [N, E] = -exp(A_log), transposed
  std::span<const float> d;          // [E]
  Weight out_proj;                   // [D, E]
};

struct SsmScratch {
  Mat<float> xz;    // [T, 2E]
  Mat<float> u;     // [T, E]
  Mat<float> bcdt;  // [T, 2N+1]
  SsmScratch() = default;
  SsmScratch(Carver& carver, std::size_t tokens, std::size_t inner, std::size_t state)
      : xz(carver.mat<float>(tokens, 2 * inner)),
        u(carver.mat<float>(tokens, inner)),
        bcdt(carver.mat<float>(tokens, 2 * state + 1)) {}
};

// residual += ssm(x), and `state` moves on by T tokens.   x, residual [T, D]
void ssm_forward(Device& device, const SsmWeights& w, Mat<const float> x, SsmState& state, const SsmScratch& scratch,
                 Mat<float> residual);

}  // namespace axon
