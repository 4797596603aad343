#pragma once
// Functions of one element, over matrices.

#include <cstdint>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// h = silu(gate) * up; h may be gate. All [T, F].
void swiglu(ThreadPool& pool, Mat<const float> gate, Mat<const float> up, Mat<float> h);
// dgate = dh * up * silu'(gate), dup = dh * silu(gate); dgate may be gate, dup may be up or dh. All [T, F].
void swiglu_backward(ThreadPool& pool, Mat<const float> gate, Mat<const float> up, Mat<const float> dh,
                     Mat<float> dgate, Mat<float> dup);

// The kernels' own functions, exposed for their tests. y[i] = f(x[i]).
namespace elementwise {
void exp_nonpositive(std::span<const float> x, std::span<float> y);
void sigmoid(std::span<const float> x, std::span<float> y);
void silu(std::span<const float> x, std::span<float> y);
void softplus(std::span<const float> x, std::span<float> y);
void to_half(std::span<const float> x, std::span<std::uint16_t> y);
void from_half(std::span<const std::uint16_t> x, std::span<float> y);
}  // namespace elementwise

}  // namespace axon::cpu
