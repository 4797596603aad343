// The products of training beside the machine's ceilings: W x and W^T x in kMixed, with weights of 4 bits and others;
// the same with the float32 factors of adapters, which have few rows; and the gradients of such factors. `share` is of
// the ceiling of what computes them: dot products of bf16 where there are any, else multiply-adds. Rates are by the
// clock. Weights are many copies that exceed every cache, as the layers of a model do.

#include <chrono>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/outer.h"

namespace axon::cpu {
namespace {

constexpr Bytes kPoolBytes = 256_MiB;

// Elements that are harmless as bf16, f16 and f32, and arbitrary as codes.
std::span<const std::byte> pool_of_weights() {
  static Ledger ledger(kPoolBytes);
  static const Arena arena = [] {
    Arena a = Arena::create(ledger, account::kWorkspace, kPoolBytes).value();
    auto* values = reinterpret_cast<std::uint16_t*>(a.data());
    std::uint32_t state = 1;
    for (std::size_t i = 0; i < kPoolBytes.count / 2; ++i) {
      state = state * 1664525u + 1013904223u;
      values[i] = static_cast<std::uint16_t>(0x2C00u | (state >> 22));
    }
    return a;
  }();
  return {arena.data(), kPoolBytes.count};
}

// Matrices one after the other in the pool, each with its scales and biases behind it.
class Layers {
 public:
  Layers(std::size_t rows, std::size_t cols, int bits) {
    weight_.rows = rows;
    weight_.cols = cols;
    weight_.dtype = bits == 32 ? DType::kF32 : bits == 16 ? DType::kBF16 : DType::kU32;
    if (bits < 16) weight_.affine = {bits, 64, DType::kF16, nullptr, nullptr};
  }
  Weight next() {
    const auto bytes = static_cast<std::size_t>(weight_.bytes().count);
    if (at_ + bytes > kPoolBytes.count) at_ = 0;
    const std::byte* data = pool_of_weights().data() + at_;
    weight_.data = data;
    if (weight_.quantised()) {
      const std::byte* scales = data + weight_.rows * weight_.row_bytes();
      weight_.affine.scales = scales;
      weight_.affine.biases = scales + weight_.rows * weight_.groups() * 2;
    }
    at_ += bytes;
    return weight_;
  }
  const Weight& shape() const { return weight_; }

 private:
  Weight weight_;
  std::size_t at_ = 0;
};

void fill(Mat<float> m) {
  for (std::size_t i = 0; i < m.rows * m.cols; ++i) {
    m.data[i] = static_cast<float>(i * 2654435761u % 1000u) * 0.001f - 0.5f;
  }
}

// Runs f() as often as asked, `operations` each, between two samples of the ceiling.
template <class F>
void measure(benchmark::State& state, ThreadPool& pool, bool bf16, double operations, F&& f) {
  constexpr std::chrono::milliseconds kSlice(10);
  CeilingProbe probe(pool, pool_of_weights());
  const auto sample = [&] { return bf16 && has_bf16_dot(level()) ? probe.bf16(kSlice) : probe.fp32(kSlice); };
  f();
  CeilingSample most = sample();
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) f();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  most += sample();
  const double done = static_cast<double>(state.iterations()) * operations;
  state.counters["share"] = done / passed.count() / most.per_second();
  state.counters["GFLOP/s"] = done / passed.count() * 1e-9;
}

// Arguments: bits (16: bf16, 32: float32), rows, cols, tokens, threads, whether y is added to.
void product(benchmark::State& state, bool transposed) {
  AXON_CHECK(force_from_environment().ok());
  const auto argument = [&](std::size_t i) { return static_cast<std::size_t>(state.range(i)); };
  const std::size_t rows = argument(1), cols = argument(2), tokens = argument(3);
  const bool add = argument(5) != 0;
  Layers weights(rows, cols, static_cast<int>(argument(0)));
  ThreadPool pool(argument(4));
  const std::size_t in = transposed ? rows : cols, out = transposed ? cols : rows;
  const MatmulLimits limits{.x_elements_max = tokens * in,
                            .cols_max = cols,
                            .rows_of_x_max = tokens,
                            .mixed_elements_max = tokens * in,
                            .transposed_rows_max = transposed ? rows : 0};
  const Bytes views = {(tokens * in + tokens * out) * sizeof(float) + 128};
  Ledger ledger(1_GiB);
  Arena arena = Arena::create(ledger, account::kWorkspace, Matmul::scratch_bytes(limits, pool.size()) + views).value();
  Carver carver = arena.carver();
  Matmul kernel(limits, Arithmetic::kMixed, pool, carver);
  const Mat<float> x = carver.mat<float>(tokens, in), y = carver.mat<float>(tokens, out);
  fill(x);
  const bool bf16 = bf16::takes_mixed(weights.shape());
  measure(state, pool, bf16, 2.0 * static_cast<double>(rows * cols * tokens), [&] {
    const Product p{weights.next(), x, {}, y, add};
    if (transposed) {
      kernel.run_transposed({&p, 1});
    } else {
      kernel.run({&p, 1});
    }
  });
}

void there(benchmark::State& state) { product(state, /*transposed=*/false); }
void back(benchmark::State& state) { product(state, /*transposed=*/true); }

// Arguments: rank, columns, tokens, threads.
void outer(benchmark::State& state) {
  AXON_CHECK(force_from_environment().ok());
  const auto argument = [&](std::size_t i) { return static_cast<std::size_t>(state.range(i)); };
  const std::size_t rank = argument(0), cols = argument(1), tokens = argument(2);
  ThreadPool pool(argument(3));
  Ledger ledger(1_GiB);
  const Bytes views = {(tokens * rank + tokens * cols + rank * cols) * sizeof(float) + 192};
  Arena arena = Arena::create(ledger, account::kWorkspace, views).value();
  Carver carver = arena.carver();
  const Mat<float> a = carver.mat<float>(tokens, rank), b = carver.mat<float>(tokens, cols),
                   g = carver.mat<float>(rank, cols);
  fill(a);
  fill(b);
  const OuterProduct p{.a = a, .b = b, .b_rows = {}, .factor = 1e-6f, .g = g};
  measure(state, pool, false, 2.0 * static_cast<double>(rank * cols * tokens), [&] { add_outer(pool, {&p, 1}); });
}

void big(benchmark::internal::Benchmark* b) {
  b->ArgNames({"bits", "rows", "cols", "tokens", "threads", "add"})->Unit(benchmark::kMicrosecond)->UseRealTime();
  for (const std::int64_t bits : {4, 8, 16, 2, 3, 5, 6}) {
    b->Args({bits, 15360, 2560, 512, 2, 0})->Args({bits, 1792, 2560, 128, 2, 0});
    if (bits == 4) b->Args({bits, 2560, 7680, 512, 2, 0})->Args({bits, 15360, 2560, 512, 1, 0});
  }
}
void factors(benchmark::internal::Benchmark* b) {
  b->ArgNames({"bits", "rows", "cols", "tokens", "threads", "add"})->Unit(benchmark::kMicrosecond)->UseRealTime();
  for (const std::int64_t rank : {8, 16, 64}) {
    for (const std::int64_t cols : {2560, 15360}) b->Args({32, rank, cols, 512, 2, 1});
  }
}

BENCHMARK(there)->Name("mixed")->Apply(big);
BENCHMARK(back)->Name("transposed")->Apply(big);
BENCHMARK(there)->Name("factor")->Apply(factors);
BENCHMARK(back)->Name("factor_transposed")->Apply(factors);
BENCHMARK(outer)->Name("outer")->Apply([](auto* b) {
  b->ArgNames({"rank", "cols", "tokens", "threads"})->Unit(benchmark::kMicrosecond)->UseRealTime();
  for (const std::int64_t rank : {8, 16, 64}) {
    for (const std::int64_t cols : {2560, 15360}) b->Args({rank, cols, 512, 2});
  }
});

}  // namespace
}  // namespace axon::cpu
