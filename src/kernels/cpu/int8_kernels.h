#pragma once
// Quantised weights times activations rounded to int8: what every CPU level has to offer, and how it is asked for.
//   y[t,r] = sum_g sx[t,g] * (sw[r,g] * dot(codes[r,g], q[t,g]) + bw[r,g] * sum(q[t,g]))
// The dot products are integers, so all levels agree in them; they differ only in the order of the float32 sums.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/level.h"
#include "tensor/mat.h"
#include "tensor/weight.h"

namespace axon::cpu::int8 {

// Strides are padded so that a kernel may read whole vectors: what lies beyond cols is zero.
inline constexpr std::size_t kColsPadding = 128;
inline constexpr std::size_t kGroupsPadding = 16;

// Tokens as int8. q = rint(x / scale), scale = max|x| / 127 of the group (0 for a group of zeros).
struct Activations {
  const std::int8_t* q = nullptr;  // [rows, q_stride], in the order that Kernels::interleave asks for
  const float* scale = nullptr;    // [rows, group_stride]
  const float* sum = nullptr;      // [rows, group_stride] scale * sum of the group's q
  std::size_t q_stride = 0;
  std::size_t group_stride = 0;
};

// y[t] (+)= W x[x_rows[t]]; x_rows empty: x[t].
struct Job {
  Weight weight;
  Activations x;
  std::span<const std::uint32_t> x_rows;
  Mat<float> y;  // [T, rows]
  bool add = false;

  std::size_t x_row(std::size_t t) const { return x_rows.empty() ? t : x_rows[t]; }
};

struct Kernels {
  // How q lies for such a product. 0: as x does. n: in every n columns the even ones come first, then the odd ones,
  // so that they meet the low and the high halves of the bytes of 4-bit codes.
  std::size_t (*interleave)(int bits, std::size_t group_size, std::size_t tokens);
  // One row: cols values to q (padded to kColsPadding), scale and sum (padded to kGroupsPadding).
  void (*quantise)(const float* x, std::size_t cols, std::size_t group_size, std::size_t interleave, std::int8_t* q,
                   float* scale, float* sum);
  // Rows [begin, end) of W for all tokens. `scratch`: scratch_bytes(cols) bytes at a multiple of 64.
  void (*rows)(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch);
};

// Of one thread: 32 rows of unpacked codes, and their scales and biases as float32 for groups of 32.
constexpr std::size_t scratch_bytes(std::size_t cols) {
  return (32 + 2 * sizeof(float)) * round_up(cols, kColsPadding) + 2 * 32 * sizeof(float) * kGroupsPadding;
}

const Kernels& kernels(Level level);

// One table each; kernels() picks. A table exists only where its instructions can be compiled.
extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kNeonDotKernels;

}  // namespace axon::cpu::int8
