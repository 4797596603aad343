#pragma once
// The parts of the int8 kernels that need no instructions of their own. Always inlined, so that each level compiles
// them for itself (and no copy made for one level can be called by another).

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "kernels/cpu/int8_kernels.h"
#include "tensor/dtype.h"

#define AXON_ALWAYS_INLINE inline __attribute__((always_inline))

namespace axon::cpu::int8 {

// Spreads 8 codes of kBits bits to 8 bytes, by halving three times.
template <unsigned kBits>
AXON_ALWAYS_INLINE std::uint64_t spread(std::uint64_t packed) {
  constexpr std::uint64_t kOne = (1u << kBits) - 1u;
  constexpr std::uint64_t kTwo = (1u << 2 * kBits) - 1u;
  constexpr std::uint64_t kFour = (std::uint64_t{1} << 4 * kBits) - 1u;
  packed = (packed & kFour) | ((packed >> 4 * kBits) & kFour) << 32;
  packed = (packed & kTwo * 0x100000001u) | ((packed >> 2 * kBits) & kTwo * 0x100000001u) << 16;
  return (packed & kOne * 0x1000100010001u) | ((packed >> kBits) & kOne * 0x1000100010001u) << 8;
}

template <unsigned kBits>
AXON_ALWAYS_INLINE void unpack_codes(const unsigned char* in, std::size_t count, std::uint8_t* out) {
  for (std::size_t i = 0; i < count; i += 8, in += kBits) {
    std::uint64_t packed = 0;
    std::memcpy(&packed, in, kBits);
    const std::uint64_t bytes = spread<kBits>(packed);
    std::memcpy(out + i, &bytes, 8);
  }
}

// The first `count` (a multiple of 8) codes of a packed row as bytes; 8-bit rows need no copy.
AXON_ALWAYS_INLINE const std::uint8_t* bytes_of_row(const void* row, int bits, std::size_t count,
                                                    std::uint8_t* buffer) {
  const auto* in = static_cast<const unsigned char*>(row);
  switch (bits) {
    case 2: unpack_codes<2>(in, count, buffer); break;
    case 3: unpack_codes<3>(in, count, buffer); break;
    case 5: unpack_codes<5>(in, count, buffer); break;
    case 6: unpack_codes<6>(in, count, buffer); break;
    case 4:
      for (std::size_t i = 0; i < count / 2; ++i) {
        buffer[2 * i] = in[i] & 15;
        buffer[2 * i + 1] = in[i] >> 4;
      }
      break;
    default: return in;
  }
  return buffer;
}

// Evens first, then odds, inside each of `cols / span` pieces.
AXON_ALWAYS_INLINE void interleave_row(std::int8_t* q, std::size_t cols, std::size_t span) {
  std::int8_t copy[kColsPadding];
  for (std::size_t first = 0; first < cols; first += span) {
    std::memcpy(copy, q + first, span);
    std::int8_t* out = q + first;
    for (std::size_t i = 0; i < span / 2; ++i) {
      out[i] = copy[2 * i];
      out[i + span / 2] = copy[2 * i + 1];
    }
  }
}

struct GroupScale {
  float scale, inverse;
};

// From the largest of the bit patterns of |x|. As integers the magnitudes order like the floats, and a NaN wins: it
// reaches the scale and so the result.
AXON_ALWAYS_INLINE GroupScale scale_of_group(std::uint32_t most_bits) {
  const float most = std::bit_cast<float>(most_bits);
  if (most < 0x1p-100f) return {0.0f, 0.0f};  // 127 / most has to stay finite
  return {most / 127.0f, 127.0f / most};
}

// One group, for levels without FMA: there a compiler might fuse the product and the sum below, and round once.
template <std::size_t kGroup>
AXON_ALWAYS_INLINE void quantise_group(const float* x, std::int8_t* q, float* scale, float* sum) {
  std::uint32_t most_bits = 0;
  for (std::size_t i = 0; i < kGroup; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7FFFFFFFu;
    most_bits = bits > most_bits ? bits : most_bits;
  }
  const GroupScale s = scale_of_group(most_bits);
  std::int32_t total = 0;
  for (std::size_t i = 0; i < kGroup; ++i) {
    // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
    float product = x[i] * s.inverse;
#if defined(__aarch64__)
    asm("" : "+w"(product));
#endif
    const float rounded = product + 12582912.0f;
    std::int32_t bits;
    std::memcpy(&bits, &rounded, 4);
    const auto code = static_cast<std::int8_t>(bits);
    q[i] = code;
    total += code;
  }
  *scale = s.scale;
  *sum = s.scale * static_cast<float>(total);
}

// What is left to do once the groups of a row are quantised: zeros in the padding, and the order.
AXON_ALWAYS_INLINE void finish_row(std::size_t cols, std::size_t group_size, std::size_t span, std::int8_t* q,
                                   float* scale, float* sum) {
  const std::size_t groups = cols / group_size;
  const std::size_t cols_padded = round_up(cols, kColsPadding);
  const std::size_t groups_padded = round_up(groups, kGroupsPadding);
  std::memset(q + cols, 0, cols_padded - cols);
  std::memset(scale + groups, 0, (groups_padded - groups) * sizeof(float));
  std::memset(sum + groups, 0, (groups_padded - groups) * sizeof(float));
  if (span != 0) interleave_row(q, cols_padded, span);
}

// How a level without tiles multiplies one row of codes (bytes, in the order of x) with one token.
struct RowDot {
  // `count` scales or biases from `first` on, as float32.
  void (*widen)(DType dtype, const void* in, std::size_t first, std::size_t count, float* out);
  float (*dot)(const std::uint8_t* codes, const std::int8_t* q, std::size_t groups, std::size_t group_size,
               const float* sw, const float* bw, const float* sx, const float* sum);
};

// Kernels::rows for such a level: each row is unpacked once and meets all tokens.
inline void rows_by_dot(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch, const RowDot& level) {
  const Weight& w = job.weight;
  const std::size_t groups = w.groups();
  const auto group_size = static_cast<std::size_t>(w.affine.group_size);
  auto* sw = reinterpret_cast<float*>(scratch);
  float* bw = sw + round_up(groups, kGroupsPadding);
  auto* buffer = reinterpret_cast<std::uint8_t*>(bw + round_up(groups, kGroupsPadding));
  for (std::size_t r = begin; r < end; ++r) {
    const auto* packed = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
    const std::uint8_t* codes = bytes_of_row(packed, w.affine.bits, w.cols, buffer);
    level.widen(w.affine.scale_dtype, w.affine.scales, r * groups, groups, sw);
    level.widen(w.affine.scale_dtype, w.affine.biases, r * groups, groups, bw);
    for (std::size_t t = 0; t < job.y.rows; ++t) {
      const std::size_t row = job.x_row(t);
      const float* sx = job.x.scale + row * job.x.group_stride;
      const float* sum = job.x.sum + row * job.x.group_stride;
      const float value = level.dot(codes, job.x.q + row * job.x.q_stride, groups, group_size, sw, bw, sx, sum);
      float& y = job.y.row_ptr(t)[r];
      y = job.add ? y + value : value;
    }
  }
}

}  // namespace axon::cpu::int8
