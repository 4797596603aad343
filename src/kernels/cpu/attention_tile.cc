#include <cmath>

#include "kernels/cpu/attention_keys.h"
#include "kernels/cpu/coded_cache.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_tile.cc"
#include <hwy/foreach_target.h>  // must come before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"

// Lanes are queries. So keys and values are used as they lie, a broadcast element at a time, the softmax runs down the
// keys without a sum across lanes, and neither the head dimension nor the number of keys leaves a remainder of lanes.

HWY_BEFORE_NAMESPACE();
namespace axon {
namespace HWY_NAMESPACE {
namespace {

using cpu::AttentionCall;
using cpu::AttentionScratch;
using cpu::kBlockKeys;
using cpu::KeyRun;
using cpu::kTileQueries;
using V = hn::Vec<Floats>;

struct Tile {
  std::size_t head_dim;
  std::size_t count;  // queries; the other lanes carry zeros
  float* q;           // [A, 32] times log2(e) / sqrt(A)
  float* y;           // [A, 32] sum of weight * value so far
  float* rows;        // [64, A] a block's keys or values, when they must be converted
  float* scores;      // [64, 32] scores, then weights
  float* maximum;     // [32]
  float* sum;         // [32]
  float* factor;      // [32] what the last block's new maximum makes of older sums
};

// 12 sums, 2 vectors of lanes and 1 broadcast: what 16 registers hold.
constexpr std::size_t kRowsAtOnce = 6;

struct Rows {
  const float* data;
  std::size_t stride;
};

// `count` rows as float32, rounded as the cache rounds: in place if they are that already.
template <class T>
HWY_INLINE Rows converted(const T* from, std::size_t stride, std::size_t count, std::size_t A, bool round, float* to) {
  for (std::size_t j = 0; j < count; ++j) {
    for_lanes(A, [&](auto d, std::size_t a) HWY_ATTR {
      auto value = load_as_float(d, from + j * stride + a);
      if (round) {
        std::uint16_t half[16];
        store_half(d, value, half);
        value = load_half(d, half);
      }
      hn::StoreU(value, d, to + j * A + a);
    });
  }
  return {to, A};
}

HWY_INLINE Rows rows_as_floats(const void* from, bool half, std::size_t stride, std::size_t first, std::size_t count,
                               const AttentionCall& call, float* to) {
  const std::size_t A = call.past.head_dim;
  if (half) return converted(static_cast<const std::uint16_t*>(from) + first * stride, stride, count, A, false, to);
  const float* rows = static_cast<const float*>(from) + first * stride;
  if (call.past.dtype == DType::kF32 || call.past.layout != nullptr) return {rows, stride};
  return converted(rows, stride, count, A, true, to);
}

// The vectors that a region's codes stand for.
Rows coded_rows(const cpu::CodedRegion& region, std::byte* scratch, float* to) {
  const std::size_t A = region.head_dim;
  auto* values = reinterpret_cast<std::int8_t*>(scratch);
  cpu::decode(region, {values, region.tokens(), A});
  for (std::size_t j = 0; j < region.tokens(); ++j) {
    for_lanes(A, [&](auto d, std::size_t a) HWY_ATTR {
      const hn::Rebind<std::int8_t, decltype(d)> d8;
      const hn::Rebind<std::int32_t, decltype(d)> d32;
      const auto value = hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, values + j * A + a)));
      hn::StoreU(hn::Mul(value, hn::Set(d, region.factors[j])), d, to + j * A + a);
    });
  }
  return {to, A};
}

// acc[r] += broadcast(x[r * x_row]) * lanes, for kRows x and two vectors of lanes: one step of a product whose left
// side is broadcast and whose right side is [., 32].
template <std::size_t kRows>
HWY_INLINE void outer_step(const float* x, std::size_t x_row, V lanes0, V lanes1, V (&acc)[2 * kRows]) {
  const Floats d;
  for (std::size_t r = 0; r < kRows; ++r) {
    const V b = hn::Set(d, x[r * x_row]);
    acc[2 * r] = hn::MulAdd(b, lanes0, acc[2 * r]);
    acc[2 * r + 1] = hn::MulAdd(b, lanes1, acc[2 * r + 1]);
  }
}

// scores[j, i..] = k[j] . q[i..] for kRows keys.
template <std::size_t kRows>
HWY_INLINE void score_keys(const Tile& tile, const float* k, std::size_t stride, std::size_t i, float* scores) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  V acc[2 * kRows];
  for (V& a : acc) a = hn::Zero(d);
  for (std::size_t a = 0; a < tile.head_dim; ++a) {
    const float* q = tile.q + a * kTileQueries + i;
    outer_step<kRows>(k + a, stride, hn::LoadU(d, q), hn::LoadU(d, q + L), acc);
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    hn::StoreU(acc[2 * r], d, scores + r * kTileQueries + i);
    hn::StoreU(acc[2 * r + 1], d, scores + r * kTileQueries + i + L);
  }
}

void score_block(const Tile& tile, Rows k, std::size_t keys) {
  const std::size_t step = 2 * hn::Lanes(Floats());
  for (std::size_t i = 0; i < tile.count; i += step) {
    const auto key = [&](std::size_t j) { return k.data + j * k.stride; };
    const auto scores = [&](std::size_t j) { return tile.scores + j * kTileQueries; };
    std::size_t j = 0;
    for (; j + kRowsAtOnce <= keys; j += kRowsAtOnce) score_keys<kRowsAtOnce>(tile, key(j), k.stride, i, scores(j));
    for (; j + 2 <= keys; j += 2) score_keys<2>(tile, key(j), k.stride, i, scores(j));
    for (; j < keys; ++j) score_keys<1>(tile, key(j), 0, i, scores(j));
  }
}

// Query i of the tile sees key j of the block iff 0 <= i - (offset + j) < window.
void mask_block(const Tile& tile, std::size_t keys, std::int64_t offset, std::int64_t window) {
  const Floats d;
  const auto last = static_cast<std::int64_t>(tile.count) - 1;
  if (offset + static_cast<std::int64_t>(keys) - 1 <= 0 && last - offset < window) return;
  for (std::size_t j = 0; j < keys; ++j) {
    const std::int64_t first = offset + static_cast<std::int64_t>(j);
    const V from = hn::Set(d, static_cast<float>(std::max(first, std::int64_t{-1})));
    const V to = hn::Set(d, static_cast<float>(std::min(first + window, std::int64_t{kTileQueries})));
    for (std::size_t i = 0; i < tile.count; i += hn::Lanes(d)) {
      const V lane = hn::Iota(d, static_cast<float>(i));
      float* score = tile.scores + j * kTileQueries + i;
      const auto visible = hn::And(hn::Ge(lane, from), hn::Lt(lane, to));
      hn::StoreU(hn::IfThenElse(visible, hn::LoadU(d, score), hn::Set(d, cpu::kMaskedScore)), d, score);
    }
  }
}

// Scores to weights, with the new maximum of each query.
void weigh_block(const Tile& tile, std::size_t keys) {
  const Floats d;
  for (std::size_t i = 0; i < tile.count; i += hn::Lanes(d)) {
    const V before = hn::LoadU(d, tile.maximum + i);
    V maximum = before;
    for (std::size_t j = 0; j < keys; ++j) maximum = hn::Max(maximum, hn::LoadU(d, tile.scores + j * kTileQueries + i));
    V sum = hn::Zero(d);
    for (std::size_t j = 0; j < keys; ++j) {
      float* score = tile.scores + j * kTileQueries + i;
      const V weight = exp2_nonpositive(d, hn::Sub(hn::LoadU(d, score), maximum));
      hn::StoreU(weight, d, score);
      sum = hn::Add(sum, weight);
    }
    const V factor = exp2_nonpositive(d, hn::Sub(before, maximum));
    hn::StoreU(factor, d, tile.factor + i);
    hn::StoreU(maximum, d, tile.maximum + i);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, tile.sum + i), factor, sum), d, tile.sum + i);
  }
}

// y[a, i..] = y * factor + sum_j v[j, a] * weights[j, i..] for kRows elements of the values.
template <std::size_t kRows>
HWY_INLINE void add_elements(const Tile& tile, Rows v, std::size_t keys, std::size_t a, std::size_t i) {
  const Floats d;
  const std::size_t L = hn::Lanes(d);
  const V factor0 = hn::LoadU(d, tile.factor + i), factor1 = hn::LoadU(d, tile.factor + i + L);
  float* y = tile.y + a * kTileQueries + i;
  V acc[2 * kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    acc[2 * r] = hn::Mul(hn::LoadU(d, y + r * kTileQueries), factor0);
    acc[2 * r + 1] = hn::Mul(hn::LoadU(d, y + r * kTileQueries + L), factor1);
  }
  for (std::size_t j = 0; j < keys; ++j) {
    const float* weights = tile.scores + j * kTileQueries + i;
    outer_step<kRows>(v.data + j * v.stride + a, 1, hn::LoadU(d, weights), hn::LoadU(d, weights + L), acc);
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    hn::StoreU(acc[2 * r], d, y + r * kTileQueries);
    hn::StoreU(acc[2 * r + 1], d, y + r * kTileQueries + L);
  }
}

void add_block(const Tile& tile, Rows v, std::size_t keys) {
  const std::size_t step = 2 * hn::Lanes(Floats());
  for (std::size_t i = 0; i < tile.count; i += step) {
    std::size_t a = 0;
    for (; a + kRowsAtOnce <= tile.head_dim; a += kRowsAtOnce) add_elements<kRowsAtOnce>(tile, v, keys, a, i);
    for (; a + 2 <= tile.head_dim; a += 2) add_elements<2>(tile, v, keys, a, i);
    for (; a < tile.head_dim; ++a) add_elements<1>(tile, v, keys, a, i);
  }
}

Tile begin_tile(const AttentionCall& call, std::size_t head, std::size_t t0, std::size_t count, float* scratch) {
  const std::size_t A = call.past.head_dim;
  Tile tile{A, count, scratch, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  tile.y = tile.q + A * kTileQueries;
  tile.rows = tile.y + A * kTileQueries;
  tile.scores = tile.rows + cpu::kBlockKeysMax * A;
  tile.maximum = tile.scores + cpu::kBlockKeysMax * kTileQueries;
  tile.sum = tile.maximum + kTileQueries;
  tile.factor = tile.sum + kTileQueries;
  const float scale = 0x1.715476p0f / std::sqrt(static_cast<float>(A));  // log2(e): the kernels raise 2
  std::fill_n(tile.q, 2 * A * kTileQueries, 0.0f);                       // and y
  std::fill_n(tile.maximum, kTileQueries, cpu::kNoMaximum);
  std::fill_n(tile.sum, 2 * kTileQueries, 0.0f);  // and factor
  for (std::size_t i = 0; i < count; ++i) {
    const float* q = call.q.row_ptr(t0 + i) + head * A;
    for (std::size_t a = 0; a < A; ++a) tile.q[a * kTileQueries + i] = q[a] * scale;
  }
  return tile;
}

void attend_tile_at_level(const AttentionCall& call, std::size_t head, std::size_t t0, std::size_t count,
                          AttentionScratch scratch) {
  const std::size_t A = call.past.head_dim;
  const Tile tile = begin_tile(call, head, t0, count, scratch.floats);
  // Keys and values are asked for one after the other: both are made in tile.rows.
  const auto add = [&](std::int64_t position, std::size_t keys, const auto& k_rows, const auto& v_rows) {
    score_block(tile, k_rows(), keys);
    mask_block(tile, keys, position - static_cast<std::int64_t>(t0), call.window);
    weigh_block(tile, keys);
    add_block(tile, v_rows(), keys);
  };
  if (call.past.layout != nullptr) {
    const cpu::CodedHead coded(call.past.head(head));
    float factors[turboquant::kTileTokens];
    for (cpu::CodedRuns runs(call, t0); !runs.done();) {
      const std::int64_t position = runs.position();
      const turboquant::TokenRun run = runs.next();
      add(
          position, run.count, [&] { return coded_rows(coded.keys(run, factors), scratch.coded, tile.rows); },
          [&] { return coded_rows(coded.values(run, factors), scratch.coded, tile.rows); });
    }
  }
  for (const KeyRun& run : cpu::key_runs(call, head, t0, t0 + count)) {
    for (std::size_t first = 0; first < run.count; first += kBlockKeys) {
      const std::size_t keys = std::min(kBlockKeys, run.count - first);
      const auto rows = [&](const void* from, std::size_t stride) {
        return rows_as_floats(from, run.half, stride, first, keys, call, tile.rows);
      };
      add(
          run.first + static_cast<std::int64_t>(first), keys, [&] { return rows(run.k, run.k_stride); },
          [&] { return rows(run.v, run.v_stride); });
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    float* y = call.y.row_ptr(t0 + i) + head * A;
    for (std::size_t a = 0; a < A; ++a) y[a] = tile.y[a * kTileQueries + i] / tile.sum[i];
  }
  if (call.log_sums.rows == 0) return;
  float* log_sums = call.log_sums.row_ptr(head) + t0;
  for (std::size_t i = 0; i < count; ++i) log_sums[i] = 0x1.62e43p-1f * tile.maximum[i] + std::log(tile.sum[i]);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon {

HWY_EXPORT(attend_tile_at_level);

void cpu::attend_tile(const AttentionCall& call, std::size_t head, std::size_t t0, std::size_t count,
                      AttentionScratch scratch) {
  HWY_DYNAMIC_DISPATCH(attend_tile_at_level)(call, head, t0, count, scratch);
}

}  // namespace axon
#endif  // HWY_ONCE
