#pragma once
// Device::add_outer on the CPU.

#include <span>

#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace axon::cpu {

// g[i,c] += factor * sum_t a[t,i] * b[b_rows[t],c], in float32; the sum runs over t from the first to the last. The
// columns of all products are shared among the threads: a sum is one thread's, and the same whoever takes it.
void add_outer(ThreadPool& pool, std::span<const OuterProduct> products);

}  // namespace axon::cpu
