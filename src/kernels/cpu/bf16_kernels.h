#pragma once
// Weights as bf16 times activations or gradients rounded to bf16: dot products of pairs, summed in float32. Only where
// the processor has an instruction for it; elsewhere weights meet float32 (matmul_float.h, matmul_transposed_float.h).
// Quantised weights come here in kMixed; they are decoded a block at a time.

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

// In kFast, and in kMixed.
inline bool takes(const Weight& w) { return !w.quantised() && w.dtype == DType::kBF16 && w.rows >= kRowsMin; }
inline bool takes_mixed(const Weight& w) { return w.quantised() ? w.rows >= kRowsMin : takes(w); }

// Rows of a block that all tokens meet, and as many of their columns as the first cache holds of 6 tokens. The fewer,
// the more often sums cross lanes: 640 columns measured 79 % of the processor's bf16 ceiling, 1280 88 %, 2560 92 %.
inline constexpr std::size_t kBlockRows = 64;
inline constexpr std::size_t kPanelCols = 2560;

// Columns of W^T x that a thread takes at a time: two cache lines of a row of 4-bit codes. Panels of so many rows of
// them take half of the second cache.
inline constexpr std::size_t kUnitCols = 256;
inline constexpr std::size_t kPanelRows = 1024;

// Tokens as bf16, to the nearest, ties to even; zero from cols to stride. [rows, stride]
struct Activations {
  const std::uint16_t* x = nullptr;
  std::size_t stride = 0;
};

// Elements from one token to the next: an odd number of cache lines, so that tokens do not share the lines' places in
// a cache.
constexpr std::size_t stride(std::size_t cols) { return (round_up(cols, 32) / 32 | 1) * 32; }
inline constexpr std::size_t kPaddingMax = 63;  // stride(cols) - cols

// Of one thread, at a multiple of 64, for quantised weights of so many columns in Kernels::rows.
constexpr std::size_t rows_scratch_bytes(std::size_t cols) {
  return kBlockRows * sizeof(std::uint16_t) * stride(cols < kPanelCols ? cols : kPanelCols);
}
// The same for Kernels::columns.
constexpr std::size_t columns_scratch_bytes(std::size_t rows, std::size_t cols) {
  return round_up(rows < kPanelRows ? rows : kPanelRows, 2) * sizeof(std::uint16_t) *
         round_up(cols < kUnitCols ? cols : kUnitCols, 64);
}

// y[t] (+)= W x[x_rows[t]], or W^T x[x_rows[t]]; x_rows empty: x[t].
struct Job {
  Weight weight;
  Activations x;
  std::span<const std::uint32_t> x_rows;
  Mat<float> y;  // [T, rows], or [T, cols]
  bool add = false;

  const std::uint16_t* x_row(std::size_t t) const { return x.x + (x_rows.empty() ? t : x_rows[t]) * x.stride; }
};

struct Kernels {
  // One row: cols values to stride(cols) of bf16. Denormals become zero.
  void (*round)(const float* x, std::size_t cols, std::uint16_t* out);
  // Rows [begin, end) of W for all tokens.
  void (*rows)(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch);
  // Columns [begin, end) of W for all tokens of W^T x; begin is a multiple of kUnitCols. A sum is the same whatever
  // columns come with it.
  void (*columns)(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch);
};

// Null where has_bf16_dot(level) is false.
const Kernels* kernels(Level level);

}  // namespace axon::cpu::bf16
