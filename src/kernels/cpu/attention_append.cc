#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/coded_encode.h"
#include "kernels/cpu/coded_keys.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_append.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

void to_half(const float* from, std::uint16_t* to, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { store_half(d, hn::LoadU(d, from + i), to + i); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(to_half);

namespace cpu {
namespace {

void store_row(const KvCache& cache, void* data, std::size_t row, const float* from) {
  const std::size_t A = cache.head_dim;
  if (cache.dtype == DType::kF16) {
    HWY_DYNAMIC_DISPATCH(to_half)(from, static_cast<std::uint16_t*>(data) + row * A, A);
  } else {
    std::memcpy(static_cast<float*>(data) + row * A, from, A * sizeof(float));
  }
}

constexpr turboquant::Codec kCodec = {to_tail, encode};

void append_compressed(ThreadPool& pool, Mat<const float> k, Mat<const float> v, std::uint64_t first,
                       const KvCache& cache) {
  const std::size_t H = cache.heads, A = cache.head_dim;
  const turboquant::HeadPlan& plan = cache.head_plan;
  // Coding a vector takes microseconds; without a flush there is too little to do for a second thread.
  const bool flushes = plan.coded_tokens != 0 && plan.left_tail(first + k.rows) != plan.left_tail(first);
  const std::size_t grain = flushes ? 1 : std::max<std::size_t>(1, 8192 / (k.rows * A));
  pool.share(H, grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t h = begin; h < end; ++h) {
      turboquant::append(cache.head(h), k.cols_from(h * A, A), v.cols_from(h * A, A), first, kCodec);
    }
  });
}

}  // namespace

void rotate(ThreadPool& pool, const turboquant::Rotation& rotation, bool back, Mat<float> x) {
  const std::size_t A = rotation.head_dim(), H = x.cols / A;
  AXON_DCHECK(x.cols % A == 0);
  pool.split(x.rows * H, 64, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::span<float> head(x.row_ptr(i / H) + i % H * A, A);
      back ? rotation.invert(head) : rotation.apply(head);
    }
  });
}

void append(ThreadPool& pool, Mat<const float> k, Mat<const float> v, std::uint64_t first_position,
            const KvCache& cache) {
  const std::size_t T = k.rows, H = cache.heads, A = cache.head_dim;
  AXON_DCHECK(k.cols == H * A && v.cols == H * A && v.rows == T);
  if (cache.layout != nullptr) return append_compressed(pool, k, v, first_position, cache);
  AXON_DCHECK(cache.dtype == DType::kF16 || cache.dtype == DType::kF32);
  const std::size_t kept = std::min(T, cache.capacity);
  // Some 64 K elements are worth a thread.
  const std::size_t grain = kept == 0 ? H : std::max<std::size_t>(1, 32768 / (kept * A));
  pool.split(H, grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t head = begin; head < end; ++head) {
      for (std::size_t t = T - kept; t < T; ++t) {
        const std::size_t row = head * cache.capacity + (first_position + t) % cache.capacity;
        store_row(cache, cache.k, row, k.row_ptr(t) + head * A);
        store_row(cache, cache.v, row, v.row_ptr(t) + head * A);
      }
    }
  });
}

}  // namespace cpu
}  // namespace axon
#endif  // HWY_ONCE
