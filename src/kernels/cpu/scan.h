#pragma once
// Selective scan (contract: kernels/device.h). Lanes are channels; the state of a block of channels stays in the
// nearest cache while the tokens go by. Sums over the N states in float32, in order.

#include <cstddef>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "memory/arena.h"

namespace axon::cpu {

class Scan {
 public:
  // Scratch for states of up to `states_max`, for each of `threads`.
  Scan(std::size_t states_max, std::size_t threads, Carver& carver);
  void run(ThreadPool& pool, const ScanInput& in, Mat<float> h, Mat<float> y) const;

 private:
  std::size_t states_max_;
  std::span<float> scratch_;
};

}  // namespace axon::cpu
