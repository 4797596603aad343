#pragma once
// Sliding-window attention over a ring of past keys and the call's own (contract: kernels/device.h). Softmax is online:
// scores exist for a block of keys at a time, never for all. Few tokens: each key and value is read once per token, in
// order, and stays in registers (attention_stream.cc). Many: tiles of 32 queries against blocks of keys
// (attention_tile.cc). Sums in float32; a float16 cache rounds this call's keys and values too.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "memory/arena.h"

namespace axon::cpu {

class Attention {
 public:
  // Scratch for heads of up to `head_dim_max` elements, for each of `threads`.
  Attention(std::size_t head_dim_max, std::size_t threads, Carver& carver);

  // q, k, v, y [T, H*A]; y may be q. Arguments as in Device::attend.
  void run(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
           std::uint64_t first_position, std::size_t window, Mat<float> y) const;

 private:
  std::size_t head_dim_max_;
  std::span<float> scratch_;
  std::span<std::uint16_t> halves_;
};

// Stores tokens first_position + t into their slots. k, v [T, H*A]
void append(ThreadPool& pool, Mat<const float> k, Mat<const float> v, std::uint64_t first_position,
            const KvCache& cache);

}  // namespace axon::cpu
