#pragma once
// Dropout (contract: kernels/device.h): what is kept is a matter of the value's number alone.

#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace axon::cpu {

// y (=, or += if `add`) what is left of x; y may be x.   x, y [T, C]
void dropout(ThreadPool& pool, const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add);

}  // namespace axon::cpu
