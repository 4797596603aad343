#pragma once
// What the attention kernels share: the call, the runs of keys that its queries see, and the scratch of a thread.
// Positions here are relative to the call's first token: 0 is that token, negative ones come from the ring.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/coded_region.h"
#include "kernels/device.h"

namespace axon::cpu {

struct AttentionCall {
  Mat<const float> q, k, v;  // [T, H*A]
  KvCache past;
  std::uint64_t first_position;
  std::int64_t window;  // at most first_position + T
  Mat<float> y;         // [T, H*A]
  // [H, T] log of the sum of exp of a query's scaled scores; empty: not wanted. Tiles alone give it.
  Mat<float> log_sums{};
};

// Up to this many tokens the ring is streamed once for each; beyond, a tile's 32 lanes are cheaper even half empty.
inline constexpr std::size_t kStreamTokensMax = 8;
inline constexpr std::size_t kTileQueries = 32;
inline constexpr std::size_t kBlockKeys = 60;                          // of floats: a multiple of the tile kernel's 6
inline constexpr std::size_t kBlockKeysMax = turboquant::kTileTokens;  // of codes: a run of a compressed cache

// A score that loses against every other, and a running maximum that loses against every true score but not against
// kMaskedScore: so a masked key's weight is 2^-126, which vanishes beside the weight 1 of the largest.
inline constexpr float kMaskedScore = -2e30f;
inline constexpr float kNoMaximum = -1e30f;

// The oldest key that query t0 sees; it sees no more of the ring than there is.
inline std::int64_t first_visible(const AttentionCall& call, std::size_t t0) {
  const auto kept = static_cast<std::int64_t>(std::min<std::uint64_t>(call.first_position, call.past.capacity));
  return std::max(static_cast<std::int64_t>(t0) - call.window + 1, -kept);
}

// The runs of a compressed past that queries from t0 on see, in order of position; the same for all heads. Those that
// are not whole groups, which kernels are fast at, come as the odd tokens and the rest.
class CodedRuns {
 public:
  CodedRuns(const AttentionCall& call, std::size_t t0)
      : plan_(call.past.head_plan),
        passed_(call.first_position),
        at_(std::min(first_visible(call, t0), std::int64_t{0})) {}
  bool done() const { return at_ == 0; }
  std::int64_t position() const { return at_; }  // of the run that is next
  turboquant::TokenRun next() {
    turboquant::TokenRun run = plan_.run_from(passed_ - static_cast<std::uint64_t>(-at_), passed_);
    const std::size_t odd = run.count % turboquant::kGroupTokens;
    if (odd != 0) run.count = odd;
    at_ += static_cast<std::int64_t>(run.count);
    return run;
  }

 private:
  const turboquant::HeadPlan& plan_;
  std::uint64_t passed_;
  std::int64_t at_;
};

// Keys with consecutive positions whose rows follow each other in memory.
struct KeyRun {
  std::int64_t first = 0;  // position of the first key
  std::size_t count = 0;
  const void* k = nullptr;  // row of the first key, of one head
  const void* v = nullptr;
  std::size_t k_stride = 0, v_stride = 0;  // elements
  bool half = false;                       // rows are float16, else float32
};

// The keys held as floats that at least one of the queries [t0, t1) sees, in order of position; empty runs have count
// 0. Of a compressed past that is the call's own keys.
inline std::array<KeyRun, 3> key_runs(const AttentionCall& call, std::size_t head, std::size_t t0, std::size_t t1) {
  const KvCache& past = call.past;
  const std::size_t A = past.head_dim;
  const std::int64_t first = first_visible(call, t0);
  std::array<KeyRun, 3> runs;
  if (first < 0 && past.layout == nullptr) {
    const auto count = static_cast<std::size_t>(-first);
    const std::size_t slot = (call.first_position - count) % past.capacity;
    const std::size_t before_wrap = std::min(count, past.capacity - slot);
    const auto at = [&](const void* base, std::size_t s) -> const void* {
      return static_cast<const unsigned char*>(base) + (head * past.capacity + s) * A * size_of(past.dtype);
    };
    const bool half = past.dtype == DType::kF16;
    runs[0] = {first, before_wrap, at(past.k, slot), at(past.v, slot), A, A, half};
    runs[1] = {
        first + static_cast<std::int64_t>(before_wrap), count - before_wrap, at(past.k, 0), at(past.v, 0), A, A, half};
  }
  const auto own = static_cast<std::size_t>(std::max(first, std::int64_t{0}));
  runs[2].first = static_cast<std::int64_t>(own);
  runs[2].count = t1 - own;
  runs[2].k = call.k.row_ptr(own) + head * A;
  runs[2].v = call.v.row_ptr(own) + head * A;
  runs[2].k_stride = call.k.stride;
  runs[2].v_stride = call.v.stride;
  return runs;
}

// A thread's scratch.
struct AttentionScratch {
  float* floats;          // attention_floats(A)
  std::uint16_t* halves;  // attention_halves(A)
  std::byte* coded;       // attention_coded(A)
};

// The tile's q and y, transposed [A, 32]; a block's keys or values [64, A]; scores [64, 32]; maximum, sum and factor.
constexpr std::size_t attention_floats(std::size_t head_dim) {
  return (2 * kTileQueries + kBlockKeysMax) * head_dim + kBlockKeysMax * kTileQueries + 3 * kTileQueries;
}
// A block's keys or values in int8 [64, A], which is the scratch of the kernels on codes too; a query in int8 [A].
constexpr std::size_t attention_coded(std::size_t head_dim) { return coded_scratch_bytes(head_dim) + head_dim; }
// The call's own keys and values, rounded.
constexpr std::size_t attention_halves(std::size_t head_dim) { return 2 * kStreamTokensMax * head_dim; }

// One token's query of one head, and a tile of up to 32 tokens. `next`: the head that this thread will stream after it.
void attend_stream(const AttentionCall& call, std::size_t head, std::size_t next, std::size_t t,
                   AttentionScratch scratch);
void attend_tile(const AttentionCall& call, std::size_t head, std::size_t t0, std::size_t count,
                 AttentionScratch scratch);

}  // namespace axon::cpu
