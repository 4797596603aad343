#pragma once
// The two ends of a mixture of experts: which experts a token goes to, and how their answers are added up.

#include <cstdint>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// logits [T, X]   experts, scores [T, top_k]
void route(Mat<const float> logits, Mat<std::uint32_t> experts, Mat<float> scores);

// x[t] += sum_j scores[t,j] * routed[slots[t,j]] + sigmoid(shared_gate[t,0]) * shared[t]
//   routed [any, D]   slots, scores [T, top_k]   shared [T, D]   shared_gate [T, 1]   x [T, D]
void combine(ThreadPool& pool, Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
             Mat<const float> shared, Mat<const float> shared_gate, Mat<float> x);

}  // namespace axon::cpu
