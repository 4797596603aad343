// Coding of one flush of 8 vectors, head_dim 80, on one thread, beside the scalar twin: time/vector of CPU time, so
// that a busy machine disturbs it less. BIT_AXON_CPU picks the level.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "kernels/cpu/coded_encode.h"
#include "kernels/cpu/level.h"
#include "quant/turboquant.h"

namespace axon::cpu {
namespace {

using turboquant::Code;
using turboquant::kFlushTokens;

constexpr std::size_t kHeadDim = 80, kFlushes = 256;

const std::vector<std::int8_t>& rows() {
  static const std::vector<std::int8_t> all = [] {
    const CounterRng rng(1);
    std::vector<std::int8_t> values(kFlushes * kFlushTokens * kHeadDim);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<std::int8_t>(std::lround(std::clamp(45 * rng.normal(i), -127.0f, 127.0f)));
    }
    return values;
  }();
  return all;
}

void encode_flushes(benchmark::State& state, Code code, bool by_twin) {
  AXON_CHECK(force_from_environment().ok());
  const std::size_t size = turboquant::code_bytes(code, kHeadDim);
  const std::vector<float> factors(kFlushTokens, 0.02f);
  std::vector<float> scales(kFlushTokens);
  std::vector<std::uint8_t> codes(kFlushTokens * size);
  std::size_t flush = 0;
  for (auto _ : state) {
    const Mat<const std::int8_t> values(rows().data() + flush * kFlushTokens * kHeadDim, kFlushTokens, kHeadDim);
    if (by_twin) {
      for (std::size_t t = 0; t < kFlushTokens; ++t) {
        scales[t] = turboquant::recode(code, values.row(t), factors[t], {codes.data() + t * size, size});
      }
    } else {
      encode(code, values, factors, codes.data(), scales);
    }
    benchmark::ClobberMemory();
    flush = (flush + 1) % kFlushes;
  }
  const auto vectors = static_cast<double>(state.iterations()) * kFlushTokens;
  state.counters["time/vector"] =
      benchmark::Counter(vectors, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

[[maybe_unused]] const int registered = [] {
  for (const Code code : turboquant::kCodes) {
    const std::string kind = turboquant::is_trellis(code) ? "trellis" : "scalar";
    const std::string name = fmt::format("{}{}", kind, static_cast<double>(turboquant::bits_x2(code)) / 2);
    for (const bool by_twin : {false, true}) {
      benchmark::RegisterBenchmark(("encode/" + name + (by_twin ? "/twin" : "")).c_str(),
                                   [=](benchmark::State& s) { encode_flushes(s, code, by_twin); });
    }
  }
  return 0;
}();

}  // namespace
}  // namespace axon::cpu
