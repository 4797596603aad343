#include "kernels/cpu/attention.h"

#include <benchmark/benchmark.h>

#include <bit>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "kernels/cpu/level.h"
#include "tensor/dtype.h"

namespace axon::cpu {
namespace {

constexpr std::size_t kHeads = 32, kHeadDim = 80, kWindow = 4096;

// A full cache of `window` tokens and a call of `tokens` behind it.
class Ring {
 public:
  Ring(DType dtype, std::size_t tokens, std::size_t threads, std::size_t window = kWindow)
      : Ring(tokens, threads, window) {
    cache_.dtype = dtype;
    bytes_ = 2 * kHeads * window * kHeadDim * size_of(dtype);
    fill();
    cache_.k = memory_.data();
    cache_.v = memory_.data() + bytes_ / 2;
  }
  // Any bytes are codes; what looks like small numbers in half precision is int8 and scales of some kind too.
  Ring(const turboquant::Layout& layout, std::size_t tokens, std::size_t threads, std::size_t window)
      : Ring(tokens, threads, window) {
    cache_.layout = &layout;
    cache_.head_plan = turboquant::plan_head(layout, kHeadDim, window).value();
    bytes_ = kHeads * cache_.head_plan.bytes.count;
    fill();
    cache_.compressed = reinterpret_cast<std::uint8_t*>(memory_.data());
    for (std::size_t h = 0; h < kHeads; ++h) cache_.head(h).header() = {};
  }
  void run(benchmark::State& state) {
    auto* base = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(scratch_.data()), 64));
    Carver carver(base, scratch_.size() - 64);
    const Attention attention(kHeadDim, pool_.size(), Arithmetic::kFast, carver);
    const std::size_t cols = kHeads * kHeadDim, one = tokens_ * cols;
    const auto x = [&](std::size_t i) { return Mat<const float>(x_.data() + i * one, tokens_, cols); };
    for (auto _ : state) {
      attention.run(pool_, x(0), x(1), x(2), cache_, 100'000, cache_.capacity, Mat<float>(y_.data(), tokens_, cols));
      benchmark::ClobberMemory();
    }
  }
  std::size_t bytes() const { return bytes_; }

 private:
  Ring(std::size_t tokens, std::size_t threads, std::size_t window)
      : x_(3 * tokens * kHeads * kHeadDim), y_(tokens * kHeads * kHeadDim), tokens_(tokens), pool_(threads) {
    cache_.heads = kHeads;
    cache_.capacity = window;
    cache_.head_dim = kHeadDim;
    const CounterRng rng(1);
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = rng.symmetric(i, 1.0f);
    Carver measure;
    Attention(kHeadDim, threads, Arithmetic::kFast, measure);
    scratch_.resize(measure.peak().count + 64);
  }
  void fill() {
    memory_.resize(bytes_ + 64);
    std::uint32_t state = 1;
    for (std::size_t i = 0; i + 4 <= bytes_; i += 4) {
      state = state * 1664525u + 1013904223u;
      float value = std::bit_cast<float>(0x3D000000u | (state >> 9));  // 0.03 to 0.13
      if (cache_.dtype != DType::kF32 || cache_.layout != nullptr) {
        value = std::bit_cast<float>(0x2C002C00u | (state & 0x03FF03FFu));  // two halves of that size
      }
      std::memcpy(memory_.data() + i, &value, 4);
    }
  }

  KvCache cache_;
  std::size_t bytes_ = 0;
  std::vector<std::byte> memory_, scratch_;
  std::vector<float> x_, y_;
  std::size_t tokens_;
  ThreadPool pool_;
};

// One token against the whole cache: the score is GB/s of keys and values beside the machine's memory.
void attend_decode(benchmark::State& state, DType dtype) {
  Ring ring(dtype, 1, static_cast<std::size_t>(state.range(0)), static_cast<std::size_t>(state.range(1)));
  ring.run(state);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(ring.bytes()));
}
void attend_decode_codes(benchmark::State& state, const char* layout) {
  Ring ring(*turboquant::find_layout(layout), 1, static_cast<std::size_t>(state.range(0)),
            static_cast<std::size_t>(state.range(1)));
  ring.run(state);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(ring.bytes()));
}

// Two products of 4096 keys by 80 elements a head and token.
void count_products(benchmark::State& state, std::size_t tokens) {
  state.SetItemsProcessed(state.iterations() * state.range(1));
  state.counters["GFLOP/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(tokens * kHeads * kHeadDim * kWindow) * 4e-9,
      benchmark::Counter::kIsRate);
}
void attend_prefill(benchmark::State& state, DType dtype) {
  const auto tokens = static_cast<std::size_t>(state.range(1));
  Ring ring(dtype, tokens, static_cast<std::size_t>(state.range(0)));
  ring.run(state);
  count_products(state, tokens);
}
void attend_prefill_codes(benchmark::State& state, const char* layout) {
  const auto tokens = static_cast<std::size_t>(state.range(1));
  Ring ring(*turboquant::find_layout(layout), tokens, static_cast<std::size_t>(state.range(0)), kWindow);
  ring.run(state);
  count_products(state, tokens);
}

void depths(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "depth"})->ArgsProduct({{1, 2}, {1024, 4096, 16384, 65536}});
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK_CAPTURE(attend_decode, f16, DType::kF16)->Apply(depths);
BENCHMARK_CAPTURE(attend_decode, f32, DType::kF32)->Apply(depths);
BENCHMARK_CAPTURE(attend_decode_codes, q8, "q8")->Apply(depths);
BENCHMARK_CAPTURE(attend_decode_codes, tq4, "tq4")->Apply(depths);
BENCHMARK_CAPTURE(attend_decode_codes, tq3_5, "tq3.5")->Apply(depths);
BENCHMARK_CAPTURE(attend_decode_codes, tq3, "tq3")->Apply(depths);
BENCHMARK_CAPTURE(attend_decode_codes, lm3, "lm3")->Apply(depths);
BENCHMARK_CAPTURE(attend_prefill_codes, tq3, "tq3")
    ->ArgNames({"threads", "tokens"})
    ->ArgsProduct({{1, 2}, {8, 9, 32, 256}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
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
