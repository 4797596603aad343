#pragma once
// RMSNorm of rows: y = x * rsqrt(mean(x^2) + eps) * weight. Sums in float32 over 4 vectors. y may be x.

#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// x, y [T, D]   weight [D]
void rms_norm(ThreadPool& pool, Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y);

}  // namespace axon::cpu
