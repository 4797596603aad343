#pragma once
// Causal depthwise convolution and SiLU, with the tail that carries it from call to call (contract: kernels/device.h).

#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// x [T, E]   taps [K, E]   bias [E]   tail [K-1, E]   u [T, E]
void conv_silu(ThreadPool& pool, Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
               Mat<float> tail, Mat<float> u);

}  // namespace axon::cpu
