#pragma once
// The way back through sliding-window attention without a past (contract: Device::attend_backward in
// kernels/device.h), after FlashAttention (Dao et al. 2022, arXiv 2205.14135, algorithm 4): weights are computed again,
// a tile of queries and keys at a time. With scores s = q.k / sqrt(A), dp = dy.v:
//   p = exp(s - log_sum), ds = p (dp - dy.y), dq += ds k / sqrt(A), dk += ds^T q / sqrt(A), dv += p^T dy
// A head belongs to one thread, and its sums are made in one order: the number of threads changes no bit. Sums in
// float32.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "kernels/cpu/thread_pool.h"
#include "memory/arena.h"
#include "tensor/mat.h"

namespace axon::cpu {

class AttentionBackward {
 public:
  // Scratch for `tokens_max` tokens of heads of up to `head_dim_max` elements, for each of `threads`: 3 panels of a
  // head, and some 200 KiB. None when tokens_max is 0.
  AttentionBackward(std::size_t tokens_max, std::size_t head_dim_max, std::size_t threads, Carver& carver);

  // q, k, v, y, dy, dq, dk, dv [T, H*A]   log_sums [H, T]; dq may be q and y, dk may be k, dv may be v
  void run(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
           std::size_t window, Mat<const float> y, Mat<const float> log_sums, Mat<const float> dy, Mat<float> dq,
           Mat<float> dk, Mat<float> dv) const;

 private:
  std::size_t tokens_max_, head_dim_max_, floats_;  // floats_: of a thread's scratch
  std::span<float> scratch_;
};

}  // namespace axon::cpu
