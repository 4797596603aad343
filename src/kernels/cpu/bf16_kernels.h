#pragma once
// bf16 weights times activations rounded to bf16: dot products of pairs, summed in float32. Only where the processor
// has an instruction for it; elsewhere bf16 weights meet float32 activations (matmul_float.h), like all others.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "kernels/cpu/level.h"
#include "tensor/mat.h"
#include "tensor/weight.h"

namespace axon::cpu::bf16 {

// Weights of fewer rows meet float32 activations: routers and gates. A rounded x could turn a close choice of expert,
// and they cost next to nothing.
inline constexpr std::size_t kRowsMin = 32;

inline bool takes(const Weight& w) { return !w.quantised() && w.dtype == DType::kBF16 && w.rows >= kRowsMin; }

// Tokens as bf16, to the nearest, ties to even; zero from cols to stride. [rows, stride]
struct Activations {
  const std::uint16_t* x = nullptr;
  std::size_t stride = 0;
};

// Elements from one token to the next: an odd number of cache lines, so that tokens do not share the lines' places in
// a cache.
constexpr std::size_t stride(std::size_t cols) { return (round_up(cols, 32) / 32 | 1) * 32; }

// y[t] (+)= W x[x_rows[t]]; x_rows empty: x[t].
struct Job {
  Weight weight;
  Activations x;
  std::span<const std::uint32_t> x_rows;
  Mat<float> y;  // [T, rows]
  bool add = false;

  const std::uint16_t* x_row(std::size_t t) const { return x.x + (x_rows.empty() ? t : x_rows[t]) * x.stride; }
};

struct Kernels {
  // One row: cols values to stride(cols) of bf16. Denormals become zero.
  void (*round)(const float* x, std::size_t cols, std::uint16_t* out);
  // Rows [begin, end) of W for all tokens.
  void (*rows)(const Job& job, std::size_t begin, std::size_t end);
};

// Null where has_bf16_dot(level) is false.
const Kernels* kernels(Level level);

}  // namespace axon::cpu::bf16
