#pragma once
// The way back through the causal convolution and SiLU (contract: kernels/device.h), the last token first. The
// gradients of the last K sums go along in a ring, so that dx may lie where x or du was.

#include <cstddef>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "memory/arena.h"
#include "tensor/mat.h"

namespace axon::cpu {

class ConvBackward {
 public:
  // Scratch for up to `taps_max` taps, for each of `threads`; 0: no call will come.
  ConvBackward(std::size_t taps_max, std::size_t threads, Carver& carver);
  // x, du, dx [T, E]   taps [K, E]   bias [E]   tail, carry [K-1, E]
  void run(ThreadPool& pool, Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
           Mat<const float> tail, Mat<const float> du, Mat<float> carry, Mat<float> dx) const;

 private:
  std::size_t taps_max_;
  Mat<float> rings_;  // [threads, K * channels of a piece]
};

}  // namespace axon::cpu
