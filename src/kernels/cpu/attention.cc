#include "kernels/cpu/attention.h"

#include <algorithm>

#include "base/bytes.h"
#include "kernels/cpu/attention_keys.h"

namespace axon::cpu {

Attention::Attention(std::size_t head_dim_max, std::size_t threads, Arithmetic arithmetic, Carver& carver)
    : head_dim_max_(round_up(head_dim_max, 16)),
      arithmetic_(arithmetic),
      floats_(carver.span<float>(threads * attention_floats(head_dim_max_))),
      halves_(carver.span<std::uint16_t>(threads * attention_halves(head_dim_max_))),
      coded_(carver.span<std::byte>(threads * attention_coded(head_dim_max_))) {}

AttentionScratch Attention::scratch_of(std::size_t thread) const {
  return {floats_.data() + thread * attention_floats(head_dim_max_),
          halves_.data() + thread * attention_halves(head_dim_max_),
          coded_.data() + thread * attention_coded(head_dim_max_)};
}

void Attention::run(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
                    std::uint64_t first_position, std::size_t window, Mat<float> y) const {
  const std::size_t T = q.rows, H = past.heads, A = past.head_dim;
  AXON_DCHECK(A <= head_dim_max_ && window >= 1 && (past.dtype == DType::kF16 || past.dtype == DType::kF32));
  AXON_DCHECK(q.cols == H * A && k.cols == H * A && v.cols == H * A && y.cols == H * A);
  AXON_DCHECK(k.rows == T && v.rows == T && y.rows == T);
  AXON_DCHECK(past.capacity + 1 >= std::min<std::uint64_t>(window, first_position));
  const auto reach = static_cast<std::int64_t>(std::min<std::uint64_t>(window, first_position + T));
  const AttentionCall call{q, k, v, past, first_position, reach, y};
  // Integer products are what streaming codes is for; in kExact a block of them becomes float32.
  share(pool, call, T <= kStreamTokensMax && (past.layout == nullptr || arithmetic_ == Arithmetic::kFast));
}

void Attention::run_alone(ThreadPool& pool, Mat<const float> q, Mat<const float> k, Mat<const float> v,
                          std::size_t heads, std::size_t window, Mat<float> y, Mat<float> log_sums) const {
  const std::size_t T = q.rows, A = q.cols / heads;
  AXON_DCHECK(A <= head_dim_max_ && window >= 1 && q.cols == heads * A && k.cols == q.cols && v.cols == q.cols);
  AXON_DCHECK(y.cols == q.cols && k.rows == T && v.rows == T && y.rows == T);
  AXON_DCHECK(log_sums.rows == heads && log_sums.cols == T);
  KvCache none;
  none.dtype = DType::kF32;
  none.heads = heads;
  none.head_dim = A;
  share(pool, {q, k, v, none, 0, static_cast<std::int64_t>(std::min(window, T)), y, log_sums}, false);
}

void Attention::share(ThreadPool& pool, const AttentionCall& call, bool few) const {
  const std::size_t T = call.q.rows, H = call.past.heads, A = call.past.head_dim;
  const std::size_t pieces = few ? T : (T + kTileQueries - 1) / kTileQueries;
  // Below some 16 K elements of keys, waking a thread takes longer than the work.
  const std::size_t keys = static_cast<std::size_t>(call.window) * T;
  const std::size_t grain = keys * A * H < 16384 ? H * pieces : 1;
  pool.share(H * pieces, grain, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t head = i / pieces, piece = i % pieces;
      if (few) {
        const std::size_t after = i + 1 < end ? (i + 1) / pieces : std::min(head + pool.size(), H - 1);
        attend_stream(call, head, after, piece, scratch_of(thread));
      } else {
        const std::size_t t0 = piece * kTileQueries;
        attend_tile(call, head, t0, std::min(kTileQueries, T - t0), scratch_of(thread));
      }
    }
  });
}

}  // namespace axon::cpu
