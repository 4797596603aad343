#pragma once
// Sliding-window attention over a ring of past keys and the call's own (contract: kernels/device.h). Softmax is online:
// scores exist for a block of keys at a time, never for all. Few tokens: each key and value is read once per token, in
// order, and stays in registers (attention_stream.cc). Many: tiles of 32 queries against blocks of keys
// (attention_tile.cc). Sums in float32; a float16 cache rounds this call's keys and values too. A compressed past is
// read as codes: by integer products for few tokens in kFast, else a block at a time becomes float32.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/attention_keys.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "memory/arena.h"

namespace axon::cpu {

class Attention {
 public:
  // Scratch for heads of up to `head_dim_max` elements, for each of `threads`; the same for either arithmetic.
  Attention(std::size_t head_dim_max, std::size_t threads, Arithmetic arithmetic, Carver& carver);

  // q, k, v, y [T, H*A]; y may be q. Arguments as in Device::attend.
  void run(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
           std::uint64_t first_position, std::size_t window, Mat<float> y) const;
  // As Device::attend_alone.   q, k, v, y [T, H*A]   log_sums [H, T]
  void run_alone(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                 std::size_t window, Mat<float> y, Mat<float> log_sums) const;

 private:
  void share(ThreadPool& pool, const AttentionCall& call, bool few) const;
  AttentionScratch scratch_of(std::size_t thread) const;

  std::size_t head_dim_max_;
  Arithmetic arithmetic_;
  std::span<float> floats_;
  std::span<std::uint16_t> halves_;
  std::span<std::byte> coded_;
};

// As Device::rotate. Equal to the bit on all levels: what is coded depends on it.
void rotate(ThreadPool& pool, const turboquant::Rotation& rotation, bool back, Mat<float> x);

// Stores tokens first_position + t into their slots. k, v [T, H*A]
void append(ThreadPool& pool, Mat<const float> k, Mat<const float> v, std::uint64_t first_position,
            const KvCache& cache);

}  // namespace axon::cpu
