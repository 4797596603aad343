#pragma once
// A factor for each column, and the way back to the factors. Sums in float32 over the tokens in order.

#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"

namespace axon::cpu {

// y (=, or += if `add`) scale[c] * x[t,c]; y may be x.   x, y [T, C]   scale [C]
void scale_columns(ThreadPool& pool, Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add);

// g[c] += sum_t a[t,c] * b[t,c].   a, b [T, C]   g [C]
void add_column_dots(ThreadPool& pool, Mat<const float> a, Mat<const float> b, std::span<float> g);

}  // namespace axon::cpu
