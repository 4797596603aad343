#include "kernels/cpu/attention.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "base/random.h"
#include "kernels/cpu/level.h"
#include "tensor/dtype.h"

namespace axon::cpu {
namespace {

constexpr std::size_t kHeads = 32, kHeadDim = 80, kWindow = 4096;

// A full ring of 4096 tokens and a call of `tokens` behind it.
class Ring {
 public:
  Ring(DType dtype, std::size_t tokens, std::size_t threads)
      : dtype_(dtype),
        k_(kHeads * kWindow * kHeadDim * size_of(dtype)),
        v_(k_.size()),
        x_(3 * tokens * kHeads * kHeadDim),
        y_(tokens * kHeads * kHeadDim),
        tokens_(tokens),
        pool_(threads) {
    const CounterRng rng(1);
    for (std::size_t i = 0; i < kHeads * kWindow * kHeadDim; ++i) {
      store_float(dtype, k_.data(), i, rng.symmetric(i, 1.0f));
      store_float(dtype, v_.data(), i, rng.symmetric(~i, 1.0f));
    }
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = rng.symmetric(i, 1.0f);
    Carver measure;
    Attention(kHeadDim, threads, measure);
    scratch_.resize(measure.peak().count + 64);
  }
  void run(benchmark::State& state) {
    auto* base = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(scratch_.data()), 64));
    Carver carver(base, scratch_.size() - 64);
    const Attention attention(kHeadDim, pool_.size(), carver);
    const std::size_t cols = kHeads * kHeadDim, one = tokens_ * cols;
    const KvCache past{dtype_, k_.data(), v_.data(), kHeads, kWindow, kHeadDim};
    const auto x = [&](std::size_t i) { return Mat<const float>(x_.data() + i * one, tokens_, cols); };
    for (auto _ : state) {
      attention.run(pool_, x(0), x(1), x(2), past, 10'000, kWindow, Mat<float>(y_.data(), tokens_, cols));
      benchmark::ClobberMemory();
    }
  }
  std::size_t bytes() const { return 2 * k_.size(); }

 private:
  DType dtype_;
  std::vector<std::byte> k_, v_, scratch_;
  std::vector<float> x_, y_;
  std::size_t tokens_;
  ThreadPool pool_;
};

// One token against 4096 keys: the score is GB/s of keys and values beside the machine's memory.
void attend_decode(benchmark::State& state, DType dtype) {
  Ring ring(dtype, 1, static_cast<std::size_t>(state.range(0)));
  ring.run(state);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(ring.bytes()));
}

void attend_prefill(benchmark::State& state, DType dtype) {
  const auto tokens = static_cast<std::size_t>(state.range(1));
  Ring ring(dtype, tokens, static_cast<std::size_t>(state.range(0)));
  ring.run(state);
  state.SetItemsProcessed(state.iterations() * state.range(1));
  // Two products of 4096 keys by 80 elements a head and token.
  state.counters["GFLOP/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(tokens * kHeads * kHeadDim * kWindow) * 4e-9,
      benchmark::Counter::kIsRate);
}

BENCHMARK_CAPTURE(attend_decode, f16, DType::kF16)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(attend_decode, f32, DType::kF32)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(attend_prefill, f16, DType::kF16)
    ->ArgNames({"threads", "tokens"})
    ->ArgsProduct({{1, 2}, {8, 9, 32, 256}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(attend_prefill, f32, DType::kF32)
    ->ArgNames({"threads", "tokens"})
    ->Args({1, 256})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace axon::cpu
