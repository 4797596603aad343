#pragma once
// The two ends of a mixture of experts: which experts a token goes to, and how their answers are added up;
// and the way back through both.

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

// dlogits = p * (dp - sum_j p_j dp_j), p the softmax of logits and dp dscores at the experts, else 0; may be logits.
//   logits, dlogits [T, X]   experts, dscores [T, top_k]
void route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                    Mat<float> dlogits);

// drouted[slots[t,j]] = scores[t,j] * dy[t], dscores[t,j] = routed[slots[t,j]] . dy[t]; for shared the same, and
// through the sigmoid. No slot comes twice. drouted may be routed, dshared may be shared. Dots in float32 over 4
// vectors.
//   routed, drouted [any, D]   slots, scores, dscores [T, top_k]   shared, dy, dshared [T, D]
//   shared_gate, dshared_gate [T, 1]
void combine_backward(ThreadPool& pool, Mat<const float> routed, Mat<const std::uint32_t> slots,
                      Mat<const float> scores, Mat<const float> shared, Mat<const float> shared_gate,
                      Mat<const float> dy, Mat<float> drouted, Mat<float> dscores, Mat<float> dshared,
                      Mat<float> dshared_gate);

// x[t] += sum_j rows[slots[t,j]].   rows [any, D]   slots [T, top_k]   x [T, D]
void add_rows(ThreadPool& pool, Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x);

}  // namespace axon::cpu
