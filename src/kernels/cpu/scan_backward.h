#pragma once
// The way back through the selective scan (contract: kernels/device.h). States are computed twice: once through all
// tokens, keeping those before each piece of some tokens, and then piece by piece, the last one first. Channels go in
// slices; what they add to dbcdt is summed lane by lane in float32 inside a slice and then over the slices in order, so
// that results do not depend on the number of threads.

#include <cstddef>

#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "memory/arena.h"

namespace axon::cpu {

struct ScanBackwardLimits {
  std::size_t states_max = 0;    // N
  std::size_t tokens_max = 0;    // T; 0: no call will come
  std::size_t channels_max = 0;  // E
};

class ScanBackward {
 public:
  ScanBackward(const ScanBackwardLimits& limits, std::size_t threads, Carver& carver);
  // h, dh [N, E]   dy, du, dz [T, E]   dbcdt [T, 2N+1]
  void run(ThreadPool& pool, const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh, Mat<float> du,
           Mat<float> dz, Mat<float> dbcdt) const;

 private:
  ScanBackwardLimits limits_;
  // A row is a thread's; N * kScanSlice floats are the states of a slice, and so on (scan_backward.cc).
  Mat<float> a_, dstate_, borders_, state_, decays_, kept_, steps_, lane_sums_;
  Mat<float> slice_sums_;  // [slices, T * (2N+1)]
};

}  // namespace axon::cpu
