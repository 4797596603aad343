// Matmul beside the machine's ceilings: decode (one token) against a streaming read, in bytes of weights per second;
// prefill against dot products of int8, or for bf16 weights those of bf16 (float32 FMA where there are none), in
// operations (two a multiply-add) per second.
// The ceiling is measured before and after the turns of each row; `share` is of the two together, by the clock.
// The rates of one thread are by its CPU time, so that a busy machine disturbs them less; of several by the clock.
// The weights of one run are many copies that exceed every cache, as the layers of a model do.

#include <chrono>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/matmul.h"

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

std::span<const std::byte> aligned_pool() {
  const auto bytes = std::as_bytes(std::span(pool_of_weights()));
  return bytes.subspan((64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64);
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

// The ceiling that bounds such a product.
CeilingSample sample_ceiling(CeilingProbe& probe, std::size_t tokens, int bits) {
  constexpr std::chrono::milliseconds kSlice(10);
  if (tokens == 1) return probe.read(kSlice);
  if (bits != 16) return probe.int8(kSlice);
  return has_bf16_dot(level()) ? probe.bf16(kSlice) : probe.fp32(kSlice);
}

// Arguments: bits (16: bf16), rows, cols, tokens, threads.
void matmul(benchmark::State& state) {
  AXON_CHECK(force_from_environment().ok());
  const auto argument = [&](std::size_t i) { return static_cast<std::size_t>(state.range(i)); };
  const std::size_t rows = argument(1), cols = argument(2), tokens = argument(3);
  const int bits = static_cast<int>(argument(0));
  Rotation weights(rows, cols, bits);
  ThreadPool pool(argument(4));
  CeilingProbe probe(pool, aligned_pool());
  if (tokens == 1) probe.choose_read(std::chrono::milliseconds(2), 5);
  const MatmulLimits limits{tokens * cols, cols, tokens, cols};
  const Bytes views = {(tokens * cols + tokens * rows) * sizeof(float) + 128};
  Ledger ledger(1_GiB);
  Arena arena = Arena::create(ledger, account::kWorkspace, Matmul::scratch_bytes(limits, pool.size()) + views).value();
  Carver carver = arena.carver();
  Matmul kernel(limits, Arithmetic::kFast, pool, carver);
  const Mat<float> x = carver.mat<float>(tokens, cols), y = carver.mat<float>(tokens, rows);
  for (std::size_t i = 0; i < tokens * cols; ++i) {
    x.data[i] = static_cast<float>(i * 2654435761u % 1000u) * 0.001f - 0.5f;
  }
  CeilingSample most = sample_ceiling(probe, tokens, bits);
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) {
    const Product p{weights.next(), x, {}, y, false};
    kernel.run({&p, 1});
  }
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  most += sample_ceiling(probe, tokens, bits);
  const auto runs = static_cast<double>(state.iterations());
  const auto operations = 2.0 * static_cast<double>(rows * cols) * static_cast<double>(tokens);
  const double work = tokens == 1 ? static_cast<double>(weights.bytes().count) : operations;
  state.counters["share"] = runs * work / passed.count() / most.per_second();
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

BENCHMARK(matmul)->Name("decode")->Apply([](auto* b) { shapes(b, 1, {1}); });
BENCHMARK(matmul)->Name("decode")->Apply([](auto* b) { shapes(b, 2, {1}); });
BENCHMARK(matmul)->Name("prefill")->Apply([](auto* b) { shapes(b, 1, {2, 4, 16, 64, 256}); });
BENCHMARK(matmul)->Name("prefill")->Apply([](auto* b) { shapes(b, 2, {2, 4, 16, 64, 256}); });

}  // namespace
}  // namespace axon::cpu
