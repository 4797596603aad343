#pragma once
// Rows of a table, as float32. Not a vector kernel: one row a token is too little to matter.

#include <cstdint>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "tensor/mat.h"
#include "tensor/weight.h"

namespace axon::cpu {

// y[t] = table[ids[t]]; every kind of Weight. table [V, S]   y [T, S]
void embed(ThreadPool& pool, const Weight& table, std::span<const std::uint32_t> ids, Mat<float> y);

}  // namespace axon::cpu
