// Attention of training, there and back, at the size of the 3b preset and with other heads of the same width. GFLOP/s
// counts visible pairs alone, two products of a head's elements each on the way there and five on the way back;
// of_fp32 is their share of multiply-adds in registers, from turns before and after.

#include <chrono>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/error.h"
#include "base/random.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/level.h"

namespace axon::cpu {
namespace {

constexpr std::size_t kWidth = 2560, kWindow = 4096;

std::vector<float> values(std::size_t count, std::uint64_t seed) {
  std::vector<float> out(count);
  const CounterRng rng(seed);
  for (std::size_t i = 0; i < count; ++i) out[i] = rng.symmetric(i, 1.0f);
  return out;
}

void attend_training(benchmark::State& state, bool back) {
  AXON_CHECK(force_from_environment().ok());
  const auto threads = static_cast<std::size_t>(state.range(0)), T = static_cast<std::size_t>(state.range(1));
  const auto A = static_cast<std::size_t>(state.range(2)), heads = kWidth / A;
  Ledger ledger(1_GiB);
  const DeviceLimits limits{.head_dim_max = A, .attend_backward_tokens_max = T};
  const auto device = CpuDevice::create(ledger, limits, threads, Arithmetic::kExact).value();
  std::vector<float> q = values(T * kWidth, 1), k = values(T * kWidth, 2), v = values(T * kWidth, 3);
  std::vector<float> dy = values(T * kWidth, 4), y(T * kWidth), log_sums(heads * T);
  std::vector<float> dq(T * kWidth), dk(T * kWidth), dv(T * kWidth);
  const auto mat = [&](std::vector<float>& m) { return Mat<float>(m.data(), T, kWidth); };
  const Mat<float> sums(log_sums.data(), heads, T);
  const auto forward = [&] { device->attend_alone(mat(q), mat(k), mat(v), heads, kWindow, mat(y), sums); };
  forward();
  alignas(64) static const std::byte nothing_read[64 * 1024] = {};
  CeilingProbe probe(device->pool(), nothing_read);
  constexpr std::chrono::milliseconds kSlice(20);
  CeilingSample fp32 = probe.fp32(kSlice);
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) {
    if (back) {
      device->attend_backward(mat(q), mat(k), mat(v), heads, kWindow, mat(y), sums, mat(dy), mat(dq), mat(dk), mat(dv));
    } else {
      forward();
    }
    benchmark::ClobberMemory();
  }
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  fp32 += probe.fp32(kSlice);
  const std::size_t pairs = T * (T + 1) / 2 * kWidth;
  const double rate = static_cast<double>(state.iterations()) / passed.count();
  const double flops = static_cast<double>((back ? 10 : 4) * pairs) * rate;
  state.SetItemsProcessed(state.iterations() * state.range(1));
  state.counters["GFLOP/s"] = flops * 1e-9;
  state.counters["of_fp32"] = flops / fp32.per_second();
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens", "head"})->ArgsProduct({{1, 2}, {512, 2048}, {80}});
  b->Args({2, 2048, 64})->Args({2, 2048, 128})->UseRealTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(attend_training, there, false)->Apply(sizes);
BENCHMARK_CAPTURE(attend_training, back, true)->Apply(sizes);

}  // namespace
}  // namespace axon::cpu
