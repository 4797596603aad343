#pragma once
// RMSNorm of rows: y = x * rsqrt(mean(x^2) + eps) * weight, and the way back through it. Sums in float32 over some
// vectors. y may be x.

#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// x, y [T, D]   weight [D]
void rms_norm(ThreadPool& pool, Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y);

// dx += r * weight * dy - x * r^3 / D * sum_j weight[j] * dy[j] * x[j], where r = rsqrt(mean(x^2) + eps).
// x, dy, dx [T, D]   weight [D]
void rms_norm_backward(ThreadPool& pool, Mat<const float> x, std::span<const float> weight, float eps,
                       Mat<const float> dy, Mat<float> dx);

}  // namespace axon::cpu
