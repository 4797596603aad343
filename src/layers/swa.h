#pragma once
// Causal sliding-window attention: query q sees exactly the keys with 0 <= q - k < window. No biases, no positions.

#include "kernels/device.h"
#include "memory/arena.h"

namespace axon {

struct SwaWeights {
  Weight q_proj, k_proj, v_proj, o_proj;  // [D, D] each
  bool rotated = false;                   // q, k, v come in the basis of the compressed cache, o takes it back
};

struct SwaScratch {
  Mat<float> q, k, v;  // [T, D]
  SwaScratch() = default;
  SwaScratch(Carver& carver, std::size_t tokens, std::size_t hidden)
      : q(carver.mat<float>(tokens, hidden)),
        k(carver.mat<float>(tokens, hidden)),
        v(carver.mat<float>(tokens, hidden)) {}
};

// residual += attention(x); tokens are numbered from `position`, and the ring takes them in.   x, residual [T, D]
void swa_forward(Device& device, const SwaWeights& w, Mat<const float> x, const KvCache& cache, std::uint64_t position,
                 std::size_t window, const SwaScratch& scratch, Mat<float> residual);

}  // namespace axon
