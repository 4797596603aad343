// The parts of a token that are neither products with weights nor attention, at the sizes of the 3b preset:
// convolution, scan, norm, SwiGLU, routing, combining, rounding of activations; and of training the way back of the
// first two and the loss. Beside each, from turns before and after it:
//   of_read   its bytes per second as a share of a streaming read's. With one token, states and weights come from
//   memory
//             (many layers in turn), and the share is of the machine's memory; with many tokens activations are in
//             some cache, and it can be above 1.
//   of_fp32   its float operations per second as a share of multiply-adds in registers (two operations each). Divisions
//             and comparisons count as one, an exponential as the 15 that ours is.

#include <chrono>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/error.h"
#include "base/random.h"
#include "kernels/cpu/bf16_kernels.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/conv.h"
#include "kernels/cpu/conv_backward.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/int8_kernels.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/moe.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/scan.h"
#include "kernels/cpu/scan_backward.h"
#include "memory/arena.h"

namespace axon::cpu {
namespace {

constexpr std::size_t kInner = 7680, kStates = 16, kTaps = 4, kHidden = 2560, kExpert = 4096, kExperts = 8, kTopK = 2;
constexpr std::size_t kVocabulary = 32000;
constexpr Bytes kPoolBytes = 512_MiB;
constexpr double kExp = 15.0, kFloat = sizeof(float);

// Small numbers below 0: as a scan's `a` they decay.
std::span<float> pool_of_floats() {
  static Ledger ledger(kPoolBytes);
  static const Arena arena = [] {
    Arena a = Arena::create(ledger, account::kWorkspace, kPoolBytes).value();
    auto* floats = reinterpret_cast<float*>(a.data());
    for (std::size_t i = 0; i < kPoolBytes.count / sizeof(float); ++i)
      floats[i] = -0.01f - 1e-9f * static_cast<float>(i % 4096);
    return a;
  }();
  return {reinterpret_cast<float*>(arena.data()), kPoolBytes.count / sizeof(float)};
}

// Stretches of the pool one after the other, so that they come from memory.
class Layers {
 public:
  explicit Layers(std::size_t floats) : floats_(floats) {}
  float* next() {
    if (at_ + floats_ > pool_of_floats().size()) at_ = 0;
    at_ += floats_;
    return pool_of_floats().data() + at_ - floats_;
  }

 private:
  std::size_t floats_, at_ = 0;
};

std::vector<float> values(std::size_t count, std::uint64_t seed) {
  std::vector<float> out(count);
  const CounterRng rng(seed);
  for (std::size_t i = 0; i < count; ++i) out[i] = rng.symmetric(i, 1.0f);
  return out;
}

std::size_t threads_of(const benchmark::State& state) {
  AXON_CHECK(force_from_environment().ok());
  return static_cast<std::size_t>(state.range(0));
}
std::size_t tokens_of(const benchmark::State& state) { return static_cast<std::size_t>(state.range(1)); }

// Runs f() as often as asked; `bytes` and `operations` are of one run.
template <class F>
void measure(benchmark::State& state, ThreadPool& pool, double bytes, double operations, F&& f) {
  constexpr std::chrono::milliseconds kSlice(10);
  const auto memory = std::as_bytes(pool_of_floats());
  CeilingProbe probe(pool, memory);
  probe.choose_read(std::chrono::milliseconds(2), 5);
  CeilingSample read = probe.read(kSlice), fp32 = probe.fp32(kSlice);
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) {
    f();
    benchmark::ClobberMemory();
  }
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  read += probe.read(kSlice);
  fp32 += probe.fp32(kSlice);
  const double rate = static_cast<double>(state.iterations()) / passed.count();
  state.SetItemsProcessed(state.iterations() * state.range(1));
  state.counters["GB/s"] = bytes * rate * 1e-9;
  state.counters["of_read"] = bytes * rate / read.per_second();
  state.counters["GFLOP/s"] = operations * rate * 1e-9;
  state.counters["of_fp32"] = operations * rate / fp32.per_second();
}

void scan(benchmark::State& state) {
  const std::size_t threads = threads_of(state), T = tokens_of(state);
  ThreadPool pool(threads);
  std::vector<float> u = values(T * kInner, 1), xz = values(T * 2 * kInner, 2), y(T * kInner);
  std::vector<float> bcdt = values(T * (2 * kStates + 1), 3), rows = values(3 * kInner, 4);
  std::vector<std::byte> scratch(1 << 20);
  Carver carver(scratch.data(), scratch.size());
  const Scan kernel(kStates, threads, carver);
  Layers layers(2 * kStates * kInner);  // of a and h
  const auto t = static_cast<double>(T), elements = static_cast<double>(kInner * kStates);
  measure(state, pool, kFloat * (3 * elements + 3 * t * kInner), t * (elements * (kExp + 6) + kInner * (2 * kExp + 12)),
          [&] {
            float* a = layers.next();
            float* h = a + kStates * kInner;
            const ScanInput in{{u.data(), T, kInner},
                               {xz.data() + kInner, T, kInner, 2 * kInner},
                               {bcdt.data(), T, 2 * kStates + 1},
                               {rows.data(), kInner},
                               {rows.data() + kInner, kInner},
                               {a, kStates, kInner},
                               {rows.data() + 2 * kInner, kInner}};
            kernel.run(pool, in, {h, kStates, kInner}, {y.data(), T, kInner});
          });
}

void conv(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> xz = values(T * 2 * kInner, 1), u(T * kInner);
  Layers layers((2 * kTaps) * kInner);  // taps, bias, tail
  const auto t = static_cast<double>(T);
  measure(state, pool, kFloat * kInner * (3.0 * kTaps - 1 + 2 * t), t * kInner * (2.0 * kTaps + kExp + 4), [&] {
    float* taps = layers.next();
    float* bias = taps + kTaps * kInner;
    conv_silu(pool, {xz.data(), T, kInner, 2 * kInner}, {taps, kTaps, kInner}, {bias, kInner},
              {bias + kInner, kTaps - 1, kInner}, {u.data(), T, kInner});
  });
}

// States are computed twice, each time as in the scan.
void scan_backward(benchmark::State& state) {
  const std::size_t threads = threads_of(state), T = tokens_of(state);
  ThreadPool pool(threads);
  std::vector<float> u = values(T * kInner, 1), xz = values(T * 2 * kInner, 2), dy = values(T * kInner, 5);
  std::vector<float> bcdt = values(T * (2 * kStates + 1), 3), rows = values(3 * kInner, 4), dbcdt(bcdt.size());
  std::vector<float> du(T * kInner), dz(T * kInner), dh(kStates * kInner);
  const ScanBackwardLimits limits{.states_max = kStates, .tokens_max = T, .channels_max = kInner};
  Carver plan;
  ScanBackward(limits, threads, plan);
  std::vector<std::byte> scratch(plan.peak().count);
  Carver carver(scratch.data(), scratch.size());
  const ScanBackward kernel(limits, threads, carver);
  Layers layers(2 * kStates * kInner);  // of a and h
  const auto t = static_cast<double>(T), elements = static_cast<double>(kInner * kStates);
  measure(state, pool, kFloat * (4 * elements + 5 * t * kInner),
          t * (elements * (2 * (kExp + 4) + 15) + kInner * (5 * kExp + 40)), [&] {
            const float* a = layers.next();
            const float* h = a + kStates * kInner;
            const ScanInput in{{u.data(), T, kInner},
                               {xz.data() + kInner, T, kInner, 2 * kInner},
                               {bcdt.data(), T, 2 * kStates + 1},
                               {rows.data(), kInner},
                               {rows.data() + kInner, kInner},
                               {a, kStates, kInner},
                               {rows.data() + 2 * kInner, kInner}};
            kernel.run(pool, in, {h, kStates, kInner}, {dy.data(), T, kInner}, {dh.data(), kStates, kInner},
                       {du.data(), T, kInner}, {dz.data(), T, kInner}, {dbcdt.data(), T, 2 * kStates + 1});
          });
}

void conv_backward(benchmark::State& state) {
  const std::size_t threads = threads_of(state), T = tokens_of(state);
  ThreadPool pool(threads);
  std::vector<float> xz = values(T * 2 * kInner, 1), du = values(T * kInner, 2), dx(T * kInner);
  std::vector<float> carry((kTaps - 1) * kInner);
  std::vector<std::byte> scratch(1 << 20);
  Carver carver(scratch.data(), scratch.size());
  const ConvBackward kernel(kTaps, threads, carver);
  Layers layers((2 * kTaps) * kInner);  // taps, bias, tail
  const auto t = static_cast<double>(T);
  measure(state, pool, kFloat * kInner * (3.0 * kTaps - 1 + 3 * t), t * kInner * (4.0 * kTaps + kExp + 8), [&] {
    const float* taps = layers.next();
    const float* bias = taps + kTaps * kInner;
    kernel.run(pool, {xz.data(), T, kInner, 2 * kInner}, {taps, kTaps, kInner}, {bias, kInner},
               {bias + kInner, kTaps - 1, kInner}, {du.data(), T, kInner}, {carry.data(), kTaps - 1, kInner},
               {dx.data(), T, kInner});
  });
}

void cross_entropy(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> logits = values(T * kVocabulary, 1), loss(T);
  const std::vector<std::uint32_t> labels(T, 7);
  const auto all = static_cast<double>(T * kVocabulary);
  measure(state, pool, kFloat * all, all * (kExp + 3), [&] {
    cpu::cross_entropy(pool, {logits.data(), T, kVocabulary}, labels, loss);
  });
}

// Gradients of gradients: the values do not matter.
void cross_entropy_backward(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> logits = values(T * kVocabulary, 1);
  const std::vector<std::uint32_t> labels(T, 7);
  const std::vector<float> factors(T, 0.5f);
  const auto all = static_cast<double>(T * kVocabulary);
  measure(state, pool, kFloat * 2 * all, all * (2 * kExp + 6), [&] {
    cpu::cross_entropy_backward(pool, {logits.data(), T, kVocabulary}, labels, factors);
  });
}

void swiglu(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> gate = values(T * kExpert, 1), up = values(T * kExpert, 2), h(T * kExpert);
  const auto all = static_cast<double>(T * kExpert);
  measure(state, pool, kFloat * 3 * all, all * (kExp + 5), [&] {
    cpu::swiglu(pool, {gate.data(), T, kExpert}, {up.data(), T, kExpert}, {h.data(), T, kExpert});
  });
}

void norm(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> x = values(T * kHidden, 1), weight = values(kHidden, 2), y(T * kHidden);
  const auto all = static_cast<double>(T * kHidden);
  measure(state, pool, kFloat * (2 * all + kHidden), all * 4, [&] {
    rms_norm(pool, {x.data(), T, kHidden}, weight, 1e-6f, {y.data(), T, kHidden});
  });
}

void route(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> logits = values(T * kExperts, 1), scores(T * kTopK);
  std::vector<std::uint32_t> experts(T * kTopK);
  const auto t = static_cast<double>(T);
  measure(state, pool, kFloat * t * (kExperts + 2 * kTopK), t * (kExperts * kTopK + kTopK * (kExp + 2)), [&] {
    cpu::route({logits.data(), T, kExperts}, {experts.data(), T, kTopK}, {scores.data(), T, kTopK});
  });
}

void combine(benchmark::State& state) {
  const std::size_t T = tokens_of(state);
  ThreadPool pool(threads_of(state));
  std::vector<float> routed = values(T * kTopK * kHidden, 1), scores(T * kTopK, 0.5f), shared = values(T * kHidden, 2);
  std::vector<float> gate(T, 0.1f), x = values(T * kHidden, 3);
  std::vector<std::uint32_t> slots(T * kTopK);
  for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<std::uint32_t>(i);
  const auto all = static_cast<double>(T * kHidden);
  measure(state, pool, kFloat * all * (kTopK + 3), all * 2 * (kTopK + 1), [&] {
    cpu::combine(pool, {routed.data(), T * kTopK, kHidden}, {slots.data(), T, kTopK}, {scores.data(), T, kTopK},
                 {shared.data(), T, kHidden}, {gate.data(), T, 1}, {x.data(), T, kHidden});
  });
}

// What products with quantised weights do to their activations first, and those of bf16; on one thread.
void round_to_int8(benchmark::State& state) {
  const std::size_t T = tokens_of(state), groups = kInner / 64;
  ThreadPool pool(threads_of(state));
  const int8::Kernels& kernels = int8::kernels(level());
  std::vector<float> x = values(T * kInner, 1), scale(T * groups + 16), sum(T * groups + 16);
  std::vector<std::int8_t> q(T * kInner + 64);
  const auto all = static_cast<double>(T * kInner);
  measure(state, pool, all * (kFloat + 1), all * 5, [&] {
    for (std::size_t t = 0; t < T; ++t) {
      kernels.quantise(x.data() + t * kInner, kInner, 64, kernels.interleave(4, 64, T), q.data() + t * kInner,
                       scale.data() + t * groups, sum.data() + t * groups);
    }
  });
}
void round_to_bf16(benchmark::State& state) {
  const std::size_t T = tokens_of(state), stride = bf16::stride(kInner);
  ThreadPool pool(threads_of(state));
  if (!has_bf16_dot(level())) return state.SkipWithError("this level or processor has no dot product of bf16");
  std::vector<float> x = values(T * kInner, 1);
  std::vector<std::uint16_t> out(T * stride);
  const auto all = static_cast<double>(T * kInner);
  measure(state, pool, all * (kFloat + 2), all, [&] {
    for (std::size_t t = 0; t < T; ++t) bf16::kernels(level())->round(x.data() + t * kInner, kInner, &out[t * stride]);
  });
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens"})->ArgsProduct({{1, 2}, {1, 256}})->UseRealTime()->Unit(benchmark::kMicrosecond);
}
void sizes_of_one(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens"})->ArgsProduct({{1}, {1, 256}})->UseRealTime()->Unit(benchmark::kMicrosecond);
}
void sizes_of_training(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens"})->ArgsProduct({{1, 2}, {512}})->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(scan)->Apply(sizes)->Apply(sizes_of_training);
BENCHMARK(scan_backward)->Apply(sizes_of_training);
BENCHMARK(conv)->Apply(sizes)->Apply(sizes_of_training);
BENCHMARK(conv_backward)->Apply(sizes_of_training);
BENCHMARK(cross_entropy)->Apply(sizes_of_training);
BENCHMARK(cross_entropy_backward)->Apply(sizes_of_training);
BENCHMARK(norm)->Apply(sizes);
BENCHMARK(swiglu)->Apply(sizes);
BENCHMARK(route)->Apply(sizes_of_one);
BENCHMARK(combine)->Apply(sizes);
BENCHMARK(round_to_int8)->Apply(sizes_of_one);
BENCHMARK(round_to_bf16)->Apply(sizes_of_one);

}  // namespace
}  // namespace axon::cpu
