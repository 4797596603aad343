// Matmul beside the machine's ceilings: decode (one token) against a streaming read, in bytes of weights per second;
// prefill against int8 dot products and float32 FMA out of registers, in operations (two a multiply-add) per second.
// One thread is judged by its CPU time, so that a busy machine disturbs it less; several by the clock.
// The weights of one run are many copies that exceed every cache, as the layers of a model do.

#include <cstring>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/cpu/level.h"
#include "kernels/cpu/matmul.h"

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

constexpr std::size_t kPoolBytes = std::size_t{640} << 20;

// Elements that are harmless as bf16 and f16, and arbitrary as codes.
const std::vector<std::uint16_t>& pool_of_weights() {
  static const std::vector<std::uint16_t> pool = [] {
    std::vector<std::uint16_t> values(kPoolBytes / 2);
    std::uint32_t state = 1;
    for (auto& v : values) {
      state = state * 1664525u + 1013904223u;
      v = static_cast<std::uint16_t>(0x2C00u | (state >> 22));
    }
    return values;
  }();
  return pool;
}

// Matrices one after the other in the pool, each with its scales and biases behind it.
class Rotation {
 public:
  Rotation(std::size_t rows, std::size_t cols, int bits) {
    weight_.rows = rows;
    weight_.cols = cols;
    weight_.dtype = bits == 16 ? DType::kBF16 : DType::kU32;
    if (bits != 16) weight_.affine = {bits, 64, DType::kF16, nullptr, nullptr};
  }
  Weight next() {
    const auto* base = reinterpret_cast<const unsigned char*>(pool_of_weights().data());
    const std::size_t bytes = weight_.bytes().count;
    if (at_ + bytes > kPoolBytes) at_ = 0;
    weight_.data = base + at_;
    if (weight_.quantised()) {
      weight_.affine.scales = base + at_ + weight_.rows * weight_.row_bytes();
      weight_.affine.biases =
          static_cast<const unsigned char*>(weight_.affine.scales) + weight_.rows * weight_.groups() * 2;
    }
    at_ += bytes;
    return weight_;
  }
  Bytes bytes() const { return weight_.bytes(); }

 private:
  Weight weight_;
  std::size_t at_ = 0;
};

// Arguments: bits (16: bf16), rows, cols, tokens, threads.
void matmul(benchmark::State& state) {
  AXON_CHECK(force_from_environment().ok());
  const auto argument = [&](std::size_t i) { return static_cast<std::size_t>(state.range(i)); };
  const std::size_t rows = argument(1), cols = argument(2), tokens = argument(3);
  Rotation weights(rows, cols, static_cast<int>(argument(0)));
  pool_of_weights();
  ThreadPool pool(argument(4));
  const MatmulLimits limits{tokens * cols, cols, tokens};
  const Bytes views = {(tokens * cols + tokens * rows) * sizeof(float) + 128};
  Ledger ledger(1_GiB);
  Arena arena = Arena::create(ledger, account::kWorkspace, Matmul::scratch_bytes(limits, pool.size()) + views).value();
  Carver carver = arena.carver();
  Matmul kernel(limits, Arithmetic::kFast, pool, carver);
  const Mat<float> x = carver.mat<float>(tokens, cols), y = carver.mat<float>(tokens, rows);
  for (std::size_t i = 0; i < tokens * cols; ++i) {
    x.data[i] = static_cast<float>(i * 2654435761u % 1000u) * 0.001f - 0.5f;
  }
  for (auto _ : state) {
    const Product p{weights.next(), x, {}, y, false};
    kernel.run({&p, 1});
  }
  const auto runs = static_cast<double>(state.iterations());
  const auto operations = 2.0 * static_cast<double>(rows * cols) * static_cast<double>(tokens);
  state.counters["GOP/s"] = benchmark::Counter(runs * operations * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GB/s"] =
      benchmark::Counter(runs * static_cast<double>(weights.bytes().count) * 1e-9, benchmark::Counter::kIsRate);
}

void shapes(benchmark::internal::Benchmark* b, std::int64_t threads, std::initializer_list<std::int64_t> tokens) {
  b->ArgNames({"bits", "rows", "cols", "tokens", "threads"})->Unit(benchmark::kMicrosecond);
  if (threads > 1) b->UseRealTime();
  for (const std::int64_t t : tokens) {
    for (const std::int64_t bits : {4, 8, 16, 2, 3, 5, 6}) {
      b->Args({bits, 15360, 2560, t, threads});
      if (bits == 4 || bits == 8 || bits == 16) b->Args({bits, 2560, 7680, t, threads});
    }
  }
}

// One stream a thread over the whole pool. Arguments: threads.
void ceiling_read(benchmark::State& state) {
  ThreadPool pool(static_cast<std::size_t>(state.range(0)));
  const auto& weights = pool_of_weights();
  for (auto _ : state) {
    pool.split(kPoolBytes, 4096, [&](std::size_t begin, std::size_t end, std::size_t) {
      std::uint64_t sum = 0;
      // Every line once, a word of it: what counts is that it comes.
      const auto* lines = reinterpret_cast<const unsigned char*>(weights.data());
      for (std::size_t i = begin; i + 64 <= end; i += 64) {
        std::uint64_t word;
        std::memcpy(&word, lines + i, 8);
        __builtin_prefetch(lines + i + 2048);
        sum += word;
      }
      benchmark::DoNotOptimize(sum);
    });
  }
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kPoolBytes * 1e-9, benchmark::Counter::kIsRate);
}

#if defined(__x86_64__)
#define AXON_CEILING __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"), noinline))

constexpr std::size_t kTurns = 2'000'000;

AXON_CEILING void turn_dpbusd(std::int32_t seed) {
  __m512i sum[16];
  const __m512i a = _mm512_set1_epi32(seed);
  for (auto& s : sum) s = a;
  for (std::size_t i = 0; i < kTurns; ++i) {
    for (auto& s : sum) s = _mm512_dpbusd_epi32(s, a, a);
    asm volatile("");
  }
  for (auto& s : sum) benchmark::DoNotOptimize(s);
}
AXON_CEILING void turn_fma(float seed) {
  __m512 sum[16];
  const __m512 a = _mm512_set1_ps(seed);
  for (auto& s : sum) s = a;
  for (std::size_t i = 0; i < kTurns; ++i) {
    for (auto& s : sum) s = _mm512_fmadd_ps(s, a, a);
    asm volatile("");
  }
  for (auto& s : sum) benchmark::DoNotOptimize(s);
}

// Arguments: threads; 0: int8 dot products, 1: float32 FMA.
void ceiling_registers(benchmark::State& state) {
  if (level() != Level::kAvx512Vnni) return state.SkipWithError("written for AVX-512 VNNI");
  ThreadPool pool(static_cast<std::size_t>(state.range(0)));
  const bool floats = state.range(1) == 1;
  for (auto _ : state) pool.run([&](std::size_t) { floats ? turn_fma(0.5f) : turn_dpbusd(0x01010101); });
  const double operations = static_cast<double>(pool.size() * kTurns * 16) * (floats ? 32.0 : 128.0);
  state.counters["GOP/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * operations * 1e-9, benchmark::Counter::kIsRate);
}
BENCHMARK(ceiling_registers)->ArgNames({"threads", "fma"})->Args({1, 0})->Args({1, 1});
BENCHMARK(ceiling_registers)->ArgNames({"threads", "fma"})->Args({2, 0})->Args({2, 1})->UseRealTime();
#pragma GCC diagnostic pop
#endif

BENCHMARK(ceiling_read)->ArgName("threads")->Arg(1);
BENCHMARK(ceiling_read)->ArgName("threads")->Arg(2)->UseRealTime();
BENCHMARK(matmul)->Name("decode")->Apply([](auto* b) { shapes(b, 1, {1}); });
BENCHMARK(matmul)->Name("decode")->Apply([](auto* b) { shapes(b, 2, {1}); });
BENCHMARK(matmul)->Name("prefill")->Apply([](auto* b) { shapes(b, 1, {2, 4, 16, 64, 256}); });
BENCHMARK(matmul)->Name("prefill")->Apply([](auto* b) { shapes(b, 2, {2, 4, 16, 64, 256}); });

}  // namespace
}  // namespace axon::cpu
