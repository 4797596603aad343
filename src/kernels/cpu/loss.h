#pragma once
// Cross entropy over the vocabulary, and the way back through it (contract: kernels/device.h). Sums of exponentials in
// float32 over stretches of a row, and of these in double: a row may have 150000 of them.

#include <cstdint>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// logits [T, V]   labels, loss [T]
void cross_entropy(ThreadPool& pool, Mat<const float> logits, std::span<const std::uint32_t> labels,
                   std::span<float> loss);
// logits becomes its gradient.   labels, factors [T]
void cross_entropy_backward(ThreadPool& pool, Mat<float> logits, std::span<const std::uint32_t> labels,
                            std::span<const float> factors);

}  // namespace axon::cpu
