#include "kernels/cpu/scan.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "base/random.h"
#include "kernels/cpu/conv.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/norm.h"

namespace axon::cpu {
namespace {

constexpr std::size_t kInner = 7680, kStates = 16, kTaps = 4, kHidden = 2560, kExpert = 4096;

std::vector<float> values(std::size_t count, std::uint64_t seed) {
  std::vector<float> out(count);
  const CounterRng rng(seed);
  for (std::size_t i = 0; i < count; ++i) out[i] = rng.symmetric(i, 1.0f);
  return out;
}

void tokens_processed(benchmark::State& state) { state.SetItemsProcessed(state.iterations() * state.range(1)); }

void scan(benchmark::State& state) {
  const auto threads = static_cast<std::size_t>(state.range(0)), T = static_cast<std::size_t>(state.range(1));
  ThreadPool pool(threads);
  std::vector<float> u = values(T * kInner, 1), xz = values(T * 2 * kInner, 2), y(T * kInner);
  std::vector<float> bcdt = values(T * (2 * kStates + 1), 3), rows = values(3 * kInner, 4);
  std::vector<float> a(kStates * kInner), h(kStates * kInner);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = -static_cast<float>(i / kInner + 1);
  std::vector<std::byte> scratch(1 << 20);
  Carver carver(scratch.data(), scratch.size());
  const Scan kernel(kStates, threads, carver);
  const ScanInput in{{u.data(), T, kInner},
                     {xz.data() + kInner, T, kInner, 2 * kInner},
                     {bcdt.data(), T, 2 * kStates + 1},
                     {rows.data(), kInner},
                     {rows.data() + kInner, kInner},
                     {a.data(), kStates, kInner},
                     {rows.data() + 2 * kInner, kInner}};
  for (auto _ : state) {
    kernel.run(pool, in, {h.data(), kStates, kInner}, {y.data(), T, kInner});
    benchmark::ClobberMemory();
  }
  tokens_processed(state);
}

void conv(benchmark::State& state) {
  const auto T = static_cast<std::size_t>(state.range(1));
  ThreadPool pool(static_cast<std::size_t>(state.range(0)));
  std::vector<float> xz = values(T * 2 * kInner, 1), taps = values(kTaps * kInner, 2), bias = values(kInner, 3);
  std::vector<float> tail((kTaps - 1) * kInner), u(T * kInner);
  for (auto _ : state) {
    conv_silu(pool, {xz.data(), T, kInner, 2 * kInner}, {taps.data(), kTaps, kInner}, bias,
              {tail.data(), kTaps - 1, kInner}, {u.data(), T, kInner});
    benchmark::ClobberMemory();
  }
  tokens_processed(state);
}

void swiglu(benchmark::State& state) {
  const auto T = static_cast<std::size_t>(state.range(1));
  ThreadPool pool(static_cast<std::size_t>(state.range(0)));
  std::vector<float> gate = values(T * kExpert, 1), up = values(T * kExpert, 2), h(T * kExpert);
  for (auto _ : state) {
    cpu::swiglu(pool, {gate.data(), T, kExpert}, {up.data(), T, kExpert}, {h.data(), T, kExpert});
    benchmark::ClobberMemory();
  }
  tokens_processed(state);
}

void norm(benchmark::State& state) {
  const auto T = static_cast<std::size_t>(state.range(1));
  ThreadPool pool(static_cast<std::size_t>(state.range(0)));
  std::vector<float> x = values(T * kHidden, 1), weight = values(kHidden, 2), y(T * kHidden);
  for (auto _ : state) {
    rms_norm(pool, {x.data(), T, kHidden}, weight, 1e-6f, {y.data(), T, kHidden});
    benchmark::ClobberMemory();
  }
  tokens_processed(state);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens"})->ArgsProduct({{1, 2}, {1, 256}})->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(scan)->Apply(sizes);
BENCHMARK(conv)->Apply(sizes);
BENCHMARK(swiglu)->Apply(sizes);
BENCHMARK(norm)->Apply(sizes);

}  // namespace
}  // namespace axon::cpu
