// Scores and value sums on codes beside the same on half-precision keys, per token and head, on one thread: head_dim
// 80, in cache (one head of 4,096 tokens, over and over) and from memory (heads in turn, more than every cache holds).
// Judged by CPU time, so that a busy machine disturbs it less. BIT_AXON_CPU picks the level of the codes' kernels.

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/cpu/coded_keys.h"
#include "kernels/cpu/coded_values.h"
#include "kernels/cpu/level.h"
#include "tensor/dtype.h"

#if defined(__x86_64__)
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

namespace axon::cpu {
namespace {

using turboquant::kTileTokens;
using turboquant::Layout;
using turboquant::TileView;

constexpr std::size_t kHeadDim = 80, kWindow = 4096, kRows = 16;
constexpr std::size_t kRegions = 4;  // in a call, as attention makes them
constexpr std::size_t kPoolBytes = std::size_t{640} << 20;

// Harmless as float16 (0.06 to 0.12), arbitrary as codes and scales.
const std::vector<std::uint16_t>& pool() {
  static const std::vector<std::uint16_t> all = [] {
    std::vector<std::uint16_t> values(kPoolBytes / 2 + 256);
    std::uint32_t state = 1;
    for (auto& v : values) {
      state = state * 1664525u + 1013904223u;
      v = static_cast<std::uint16_t>(0x2C00u | (state >> 22));
    }
    return values;
  }();
  return all;
}
const std::uint8_t* pool_bytes() { return reinterpret_cast<const std::uint8_t*>(pool().data()); }

// Half-precision keys as fast as we know to read them: four at a time, and their lanes summed together.
#if defined(__x86_64__)
constexpr std::size_t kAhead = 2048;  // of the loads, in elements
#define AXON_HALF __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")))
AXON_HALF void score_half(const std::uint16_t* keys, std::size_t tokens, const float* q, float* scores) {
  __m512 query[kHeadDim / 16];
  for (std::size_t i = 0; i < kHeadDim / 16; ++i) query[i] = _mm512_loadu_ps(q + 16 * i);
  for (std::size_t t = 0; t < tokens; t += 4) {
    for (std::size_t i = 0; i < 4 * kHeadDim; i += 32) _mm_prefetch(keys + t * kHeadDim + kAhead + i, _MM_HINT_T0);
    __m512 s[4];
    for (std::size_t j = 0; j < 4; ++j) {
      const std::uint16_t* k = keys + (t + j) * kHeadDim;
      s[j] = _mm512_setzero_ps();
      for (std::size_t i = 0; i < kHeadDim / 16; ++i) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k + 16 * i));
        s[j] = _mm512_fmadd_ps(_mm512_cvtph_ps(half), query[i], s[j]);
      }
    }
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3]));
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(ab), _mm512_extractf32x8_ps(ab, 1));
    _mm_storeu_ps(scores + t, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
}
AXON_HALF void add_half(const std::uint16_t* values, std::size_t tokens, const float* weights, float* out) {
  __m512 sum[kHeadDim / 16];
  for (std::size_t i = 0; i < kHeadDim / 16; ++i) sum[i] = _mm512_loadu_ps(out + 16 * i);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t i = 0; i < kHeadDim; i += 32) _mm_prefetch(values + t * kHeadDim + kAhead + i, _MM_HINT_T0);
    const __m512 w = _mm512_set1_ps(weights[t]);
    for (std::size_t i = 0; i < kHeadDim / 16; ++i) {
      const auto* p = reinterpret_cast<const __m256i*>(values + t * kHeadDim + 16 * i);
      sum[i] = _mm512_fmadd_ps(_mm512_cvtph_ps(_mm256_loadu_si256(p)), w, sum[i]);
    }
  }
  for (std::size_t i = 0; i < kHeadDim / 16; ++i) _mm512_storeu_ps(out + 16 * i, sum[i]);
}
#pragma GCC diagnostic pop
bool can_read_half() {
  const auto levels = supported_levels();
  return std::find(levels.begin(), levels.end(), Level::kAvx512) != levels.end();
}
#else
void score_half(const std::uint16_t*, std::size_t, const float*, float*) {}
void add_half(const std::uint16_t*, std::size_t, const float*, float*) {}
bool can_read_half() { return false; }
#endif

// Seconds of one thread for each token (times rows).
void count(benchmark::State& state, std::size_t tokens_a_run) {
  const auto all = static_cast<double>(state.iterations()) * static_cast<double>(tokens_a_run);
  state.counters["time/token"] = benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Heads follow one another in the pool. Returns where the next is; in cache it is always the first.
class Heads {
 public:
  Heads(std::size_t head_bytes, bool from_memory) : bytes_(head_bytes), from_memory_(from_memory) { pool(); }
  const std::uint8_t* next() {
    if (!from_memory_ || at_ + 2 * bytes_ > kPoolBytes) {
      at_ = 0;
    } else {
      at_ += bytes_;
    }
    return pool_bytes() + at_;
  }

 private:
  std::size_t bytes_, at_ = 0;
  bool from_memory_;
};

enum class Side { kKeys, kValues };

void half(benchmark::State& state, Side side, bool from_memory) {
  if (!can_read_half()) return state.SkipWithError("written for AVX-512");
  Heads heads(kWindow * kHeadDim * 2, from_memory);
  std::vector<float> q(kHeadDim, 0.25f), out(kHeadDim), scores(kWindow, 0.5f);
  for (auto _ : state) {
    const auto* rows = reinterpret_cast<const std::uint16_t*>(heads.next());
    if (side == Side::kKeys) {
      score_half(rows, kWindow, q.data(), scores.data());
    } else {
      add_half(rows, kWindow, scores.data(), out.data());
    }
    benchmark::ClobberMemory();
  }
  count(state, kWindow);
}

struct Work {
  std::vector<std::int8_t> q = std::vector<std::int8_t>(kRows * kHeadDim, 77);
  std::vector<float> q_scales = std::vector<float>(kRows, 0.01f);
  std::vector<float> scores = std::vector<float>(kRows * kRegions * kTileTokens, 0.5f);
  std::vector<float> out = std::vector<float>(kRows * kHeadDim);
  std::vector<std::byte> scratch = std::vector<std::byte>(coded_scratch_bytes(kHeadDim));
  std::array<std::array<float, kTileTokens>, kRegions> factors;
  std::array<CodedRegion, kRegions> regions;

  // region_at(i, factors)
  template <class RegionAt>
  void run(Side side, std::size_t rows, RegionAt region_at) {
    for (std::size_t i = 0; i < kWindow / kTileTokens; i += kRegions) {
      for (std::size_t j = 0; j < kRegions; ++j) regions[j] = region_at(i + j, factors[j]);
      const Mat<float> s(scores.data(), rows, kRegions * kTileTokens);
      if (side == Side::kKeys) {
        score(regions, {{q.data(), rows, kHeadDim}, std::span<const float>(q_scales).first(rows)}, scratch, s);
      } else {
        add_values(regions, s, scratch, {out.data(), rows, kHeadDim});
      }
      benchmark::ClobberMemory();
    }
  }
};

void coded(benchmark::State& state, const Layout& layout, Side side, bool from_memory, std::size_t rows) {
  AXON_CHECK(force_from_environment().ok());
  const std::size_t tile_bytes = turboquant::tile_offsets(layout, kHeadDim).bytes;
  Heads heads(kWindow / kTileTokens * tile_bytes, from_memory);
  Work work;
  for (auto _ : state) {
    const std::uint8_t* head = heads.next();
    work.run(side, rows, [&](std::size_t i, std::span<float> factors) {
      const TileView tile{layout, kHeadDim, kTileTokens, {head + i * tile_bytes, tile_bytes}, 0, 0};
      return side == Side::kKeys ? coded_keys(tile, factors) : coded_values(tile, factors);
    });
  }
  count(state, kWindow * rows);
}

void tail(benchmark::State& state, Side side, bool from_memory, std::size_t rows) {
  AXON_CHECK(force_from_environment().ok());
  const std::size_t bytes = turboquant::tail_offsets(kHeadDim, kTileTokens).bytes;
  Heads heads(kWindow / kTileTokens * bytes, from_memory);
  Work work;
  for (auto _ : state) {
    const std::uint8_t* head = heads.next();
    work.run(side, rows, [&](std::size_t i, std::span<float> factors) {
      const std::span<const std::uint8_t> one(head + i * bytes, bytes);
      return side == Side::kKeys ? tail_keys(one, kHeadDim, kTileTokens, 0, factors)
                                 : tail_values(one, kHeadDim, kTileTokens, 0, factors);
    });
  }
  count(state, kWindow * rows);
}

[[maybe_unused]] const int registered = [] {
  for (const bool memory : {false, true}) {
    const std::string where = memory ? "/memory" : "/cache";
    for (const Side side : {Side::kKeys, Side::kValues}) {
      const std::string what = side == Side::kKeys ? "/scores" : "/values";
      benchmark::RegisterBenchmark(("coded/fp16" + what + where).c_str(),
                                   [=](benchmark::State& s) { half(s, side, memory); });
      for (const std::size_t rows : {std::size_t{1}, kRows}) {
        if (memory && rows > 1) continue;
        const std::string name = what + where + (rows > 1 ? "/rows:" + std::to_string(rows) : "");
        for (const Layout& layout : turboquant::layouts()) {
          benchmark::RegisterBenchmark(("coded/" + std::string(layout.name) + name).c_str(),
                                       [=](benchmark::State& s) { coded(s, layout, side, memory, rows); });
        }
        benchmark::RegisterBenchmark(("coded/int8" + name).c_str(),
                                     [=](benchmark::State& s) { tail(s, side, memory, rows); });
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace axon::cpu
