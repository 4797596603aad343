#include <cmath>

#include "kernels/cpu/attention_keys.h"
#include "kernels/cpu/coded_cache.h"
#include "kernels/cpu/coded_keys.h"
#include "kernels/cpu/coded_values.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_stream.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

using cpu::AttentionCall;
using cpu::AttentionScratch;
using cpu::KeyRun;

constexpr std::size_t kStreamKeys = 128;  // scores at a time; a multiple of every vector
constexpr std::size_t kRunsAtOnce = 4;    // of codes: one softmax step and one call for them cost less than four

struct Query {
  std::size_t head_dim;
  const float* q;  // [A] times log2(e) / sqrt(A)
  float* y;        // [A] sum of weight * value so far
  float maximum;
  float sum;
};

// scores[j] = q . k[j] for 4 keys at once.
template <class T>
HWY_INLINE void score_4(const Query& query, const T* k, std::size_t stride, float* scores) {
  const Floats d;
  const std::size_t A = query.head_dim, L = hn::Lanes(d);
  const T *k0 = k, *k1 = k + stride, *k2 = k + 2 * stride, *k3 = k + 3 * stride;
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::size_t a = 0;
  for (; a + L <= A; a += L) {
    const auto q = hn::LoadU(d, query.q + a);
    s0 = hn::MulAdd(q, load_as_float(d, k0 + a), s0);
    s1 = hn::MulAdd(q, load_as_float(d, k1 + a), s1);
    s2 = hn::MulAdd(q, load_as_float(d, k2 + a), s2);
    s3 = hn::MulAdd(q, load_as_float(d, k3 + a), s3);
  }
  const OneFloat d1;
  auto r0 = hn::Zero(d1), r1 = hn::Zero(d1), r2 = hn::Zero(d1), r3 = hn::Zero(d1);
  for (; a < A; ++a) {
    const auto q = hn::LoadU(d1, query.q + a);
    r0 = hn::MulAdd(q, load_as_float(d1, k0 + a), r0);
    r1 = hn::MulAdd(q, load_as_float(d1, k1 + a), r1);
    r2 = hn::MulAdd(q, load_as_float(d1, k2 + a), r2);
    r3 = hn::MulAdd(q, load_as_float(d1, k3 + a), r3);
  }
  scores[0] = hn::GetLane(hn::SumOfLanes(d, s0)) + hn::GetLane(r0);
  scores[1] = hn::GetLane(hn::SumOfLanes(d, s1)) + hn::GetLane(r1);
  scores[2] = hn::GetLane(hn::SumOfLanes(d, s2)) + hn::GetLane(r2);
  scores[3] = hn::GetLane(hn::SumOfLanes(d, s3)) + hn::GetLane(r3);
}

// A stride of 0 makes the four keys one.
template <class T>
HWY_INLINE void score_1(const Query& query, const T* k, float* score) {
  float four[4];
  score_4(query, k, 0, four);
  *score = four[0];
}

// Scores to weights; what was summed so far is brought to the new maximum.
HWY_INLINE void weigh(Query& query, float* scores, std::size_t count) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  for (std::size_t j = count; j % L != 0; ++j) scores[j] = cpu::kMaskedScore;
  auto largest = hn::Set(d, query.maximum);
  for (std::size_t j = 0; j < count; j += L) largest = hn::Max(largest, hn::LoadU(d, scores + j));
  const auto maximum = hn::MaxOfLanes(d, largest);
  auto sum = hn::Zero(d);
  for (std::size_t j = 0; j < count; j += L) {
    const auto weight = exp2_nonpositive(d, hn::Sub(hn::LoadU(d, scores + j), maximum));
    hn::StoreU(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  if (const float now = hn::GetLane(maximum); now > query.maximum) {
    const float factor = hn::GetLane(exp2_nonpositive(d, hn::Sub(hn::Set(d, query.maximum), maximum)));
    query.maximum = now;
    query.sum *= factor;
    for (std::size_t a = 0; a < query.head_dim; ++a) query.y[a] *= factor;
  }
  query.sum += hn::GetLane(hn::SumOfLanes(d, sum));
}

// y += sum_j weights[j] * v[j], kKeys values at a time.
template <std::size_t kKeys, class T>
HWY_INLINE void add_values(const Query& query, const float* weights, const T* v, std::size_t stride) {
  for_lanes(query.head_dim, [&](auto d, std::size_t a) HWY_ATTR {
    auto even = hn::LoadU(d, query.y + a), odd = hn::Zero(d);
    for (std::size_t j = 0; j + 1 < kKeys; j += 2) {
      even = hn::MulAdd(hn::Set(d, weights[j]), load_as_float(d, v + j * stride + a), even);
      odd = hn::MulAdd(hn::Set(d, weights[j + 1]), load_as_float(d, v + (j + 1) * stride + a), odd);
    }
    if constexpr (kKeys % 2 != 0) {
      even = hn::MulAdd(hn::Set(d, weights[kKeys - 1]), load_as_float(d, v + (kKeys - 1) * stride + a), even);
    }
    hn::StoreU(hn::Add(even, odd), d, query.y + a);
  });
}

template <class T>
void stream(Query& query, const T* k, std::size_t k_stride, const T* v, std::size_t v_stride, std::size_t count) {
  HWY_ALIGN float scores[kStreamKeys];
  for (std::size_t first = 0; first < count; first += kStreamKeys) {
    const std::size_t n = std::min(kStreamKeys, count - first);
    const T* keys = k + first * k_stride;
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) score_4(query, keys + j * k_stride, k_stride, scores + j);
    for (; j < n; ++j) score_1(query, keys + j * k_stride, scores + j);
    weigh(query, scores, n);
    const T* values = v + first * v_stride;
    for (j = 0; j + 8 <= n; j += 8) add_values<8>(query, scores + j, values + j * v_stride, v_stride);
    for (; j < n; ++j) add_values<1>(query, scores + j, values + j * v_stride, v_stride);
  }
}

// Runs of a compressed past, of one head.
struct Batch {
  const cpu::CodedHead* head;
  turboquant::TokenRun runs[kRunsAtOnce];
  std::size_t count;
};

Batch batch_of(const cpu::CodedHead& head, cpu::CodedRuns& from) {
  Batch batch;
  batch.head = &head;
  batch.count = 0;
  while (batch.count < kRunsAtOnce && !from.done()) batch.runs[batch.count++] = from.next();
  return batch;
}

// Adds the runs' values, weighted with their keys' scores, and asks for those of the batch after it.
void add_batch(Query& query, const cpu::Int8Queries& q, const Batch& batch, const Batch& after,
               std::span<std::byte> scratch) {
  float factors[kRunsAtOnce][turboquant::kTileTokens];
  HWY_ALIGN float scores[kRunsAtOnce * turboquant::kTileTokens];
  cpu::CodedRegion regions[kRunsAtOnce];
  const cpu::CodedRegions all(regions, batch.count);
  for (std::size_t i = 0; i < batch.count; ++i) {
    regions[i] = batch.head->keys(batch.runs[i], factors[i]);
    if (i < after.count) regions[i].next = after.head->keys_at(after.runs[i]);
  }
  const std::size_t tokens = cpu::tokens_of(all);
  cpu::score(all, q, scratch, {scores, 1, tokens});
  weigh(query, scores, tokens);
  for (std::size_t i = 0; i < batch.count; ++i) {
    regions[i] = batch.head->values(batch.runs[i], factors[i]);
    if (i < after.count) regions[i].next = after.head->values_at(after.runs[i]);
  }
  cpu::add_values(all, {scores, 1, tokens}, scratch, {query.y, 1, query.head_dim});
}

// The past of query t on its codes, by integer products.
void stream_codes(Query& query, const AttentionCall& call, std::size_t h, std::size_t next, std::size_t t,
                  std::byte* coded) {
  const std::size_t A = query.head_dim;
  const std::span<std::byte> scratch(coded, cpu::coded_scratch_bytes(A));
  auto* q8 = reinterpret_cast<std::int8_t*>(coded + cpu::coded_scratch_bytes(A));
  float scale;
  cpu::quantise_queries({query.q, 1, A}, {q8, 1, A}, {&scale, 1});
  const cpu::Int8Queries q{{q8, 1, A}, {&scale, 1}};
  const cpu::CodedHead head(call.past.head(h)), head_after(call.past.head(next));
  cpu::CodedRuns runs(call, t), runs_after(call, t);
  for (Batch batch = batch_of(head, runs); batch.count > 0;) {
    Batch after = batch_of(head, runs);
    const bool last = after.count == 0;
    if (last) after = batch_of(head_after, runs_after);
    add_batch(query, q, batch, after, scratch);
    if (last) return;
    batch = after;
  }
}

void round_row(const float* from, std::uint16_t* to, std::size_t count) {
  for_lanes(count, [&](auto d, std::size_t i) HWY_ATTR { store_half(d, hn::LoadU(d, from + i), to + i); });
}

// The call's own keys and values as a float16 cache would return them.
KeyRun rounded(const KeyRun& run, std::size_t A, std::uint16_t* halves) {
  std::uint16_t* k = halves;
  std::uint16_t* v = halves + run.count * A;
  for (std::size_t j = 0; j < run.count; ++j) {
    round_row(static_cast<const float*>(run.k) + j * run.k_stride, k + j * A, A);
    round_row(static_cast<const float*>(run.v) + j * run.v_stride, v + j * A, A);
  }
  return {run.first, run.count, k, v, A, A, true};
}

void attend_stream_at_level(const AttentionCall& call, std::size_t head, std::size_t next, std::size_t t,
                            AttentionScratch scratch) {
  const std::size_t A = call.past.head_dim;
  float* q = scratch.floats;
  Query query{A, q, q + A, cpu::kNoMaximum, 0.0f};
  const float scale = 0x1.715476p0f / std::sqrt(static_cast<float>(A));  // log2(e): the kernels raise 2
  for (std::size_t a = 0; a < A; ++a) {
    q[a] = call.q.row_ptr(t)[head * A + a] * scale;
    query.y[a] = 0.0f;
  }
  const bool coded = call.past.layout != nullptr;
  if (coded) stream_codes(query, call, head, next, t, scratch.coded);
  for (KeyRun run : cpu::key_runs(call, head, t, t + 1)) {
    if (run.count == 0) continue;
    if (!run.half && !coded && call.past.dtype == DType::kF16) run = rounded(run, A, scratch.halves);
    if (run.half) {
      stream(query, static_cast<const std::uint16_t*>(run.k), run.k_stride, static_cast<const std::uint16_t*>(run.v),
             run.v_stride, run.count);
    } else {
      stream(query, static_cast<const float*>(run.k), run.k_stride, static_cast<const float*>(run.v), run.v_stride,
             run.count);
    }
  }
  for (std::size_t a = 0; a < A; ++a) call.y.row_ptr(t)[head * A + a] = query.y[a] / query.sum;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(attend_stream_at_level);

void cpu::attend_stream(const AttentionCall& call, std::size_t head, std::size_t next, std::size_t t,
                        AttentionScratch scratch) {
  HWY_DYNAMIC_DISPATCH(attend_stream_at_level)(call, head, next, t, scratch);
}

}  // namespace axon
#endif  // HWY_ONCE
