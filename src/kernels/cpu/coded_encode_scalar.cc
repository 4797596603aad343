// Scalar codes in plain C++, for every level. A vector has only 255 possible values, so its thresholds are found once
// as integers and what follows is bytes, which a compiler makes vectors of.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/cpu/coded_encode_kernels.h"
#include "quant/turboquant_recode.h"
#include "quant/turboquant_rotation.h"

namespace axon::cpu::coded {
namespace {

// Index i + 1 and above are for values above below[i].
struct Thresholds {
  std::size_t count;
  std::array<std::int8_t, 15> below;
};

// The last value that does not reach `threshold`. float(value) * unit rises with value; the quotient is off by less
// than one, so that nothing beyond the guess can be it.
std::int8_t last_below(float threshold, float unit) {
  int value = static_cast<int>(std::clamp(threshold / unit, -128.0f, 126.0f)) + 1;
  while (value > -128 && static_cast<float>(value) * unit >= threshold) --value;
  return static_cast<std::int8_t>(value);
}

Thresholds thresholds_of(const turboquant::Codebook& book, float unit) {
  Thresholds out{book.exact.size() - 1, {}};
  for (std::size_t i = 0; i < out.count; ++i) {
    out.below[i] = last_below(0.5f * (book.exact[i] + book.exact[i + 1]), unit);
  }
  return out;
}

// indices [A], coded [A]: what they decode to.
void choose(const turboquant::Codebook& book, const Thresholds& thresholds, std::span<const std::int8_t> values,
            std::uint8_t* indices, std::uint8_t* coded) {
  const std::size_t A = values.size();
  std::memset(indices, 0, A);
  std::memset(coded, static_cast<std::uint8_t>(book.values[0]), A);
  for (std::size_t i = 0; i < thresholds.count; ++i) {
    const std::int8_t below = thresholds.below[i];
    const auto step = static_cast<std::uint8_t>(book.values[i + 1] - book.values[i]);
    for (std::size_t a = 0; a < A; ++a) {
      const std::uint8_t above = values[a] > below ? 0xFF : 0;
      indices[a] = static_cast<std::uint8_t>(indices[a] - above);
      coded[a] = static_cast<std::uint8_t>(coded[a] + (above & step));
    }
  }
}

// The lowest `width` bits of each byte without gaps, in rounds that join two neighbours.
std::uint64_t join(std::uint64_t bytes, unsigned width) {
  std::uint64_t out = bytes & (((1u << width) - 1) * 0x0101010101010101u);
  out = (out | out >> (8 - width)) & (((1u << 2 * width) - 1) * 0x0001000100010001u);
  out = (out | out >> (16 - 2 * width)) & (((1u << 4 * width) - 1) * 0x0000000100000001u);
  return out | out >> (32 - 4 * width);
}
void write_plane(const std::uint8_t* indices, std::size_t A, unsigned shift, unsigned width, std::uint8_t* plane) {
  for (std::size_t a = 0; a < A; a += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, indices + a, 8);
    eight = join(eight >> shift, width);
    for (unsigned i = 0; i < width; ++i) *plane++ = static_cast<std::uint8_t>(eight >> (8 * i));
  }
}

float encode_vector(turboquant::Code code, std::span<const std::int8_t> values, float factor, std::uint8_t* codes) {
  const turboquant::Codebook& book = turboquant::codebook(code);
  const auto bits = static_cast<unsigned>(code);
  const std::size_t A = values.size();
  turboquant::RecodeSums sums{};
  for (const std::int8_t v : values) sums.ii += std::int32_t{v} * std::int32_t{v};
  if (sums.ii == 0 || factor == 0) {
    std::memset(codes, 0, turboquant::code_bytes(code, A));
    return 0.0f;
  }
  std::array<std::uint8_t, turboquant::kMaxHeadDim> indices, coded;
  choose(book, thresholds_of(book, turboquant::recode_unit(A, sums.ii, 1)), values, indices.data(), coded.data());
  for (std::size_t a = 0; a < A; ++a) {
    const std::int32_t c = static_cast<std::int8_t>(coded[a]);
    sums.yc += c * std::int32_t{values[a]};
    sums.cc += c * c;
  }
  const unsigned low = bits == 3 ? 2 : bits;
  write_plane(indices.data(), A, 0, low, codes);
  if (bits == 3) write_plane(indices.data(), A, 2, 1, codes + A / 4);
  return turboquant::recode_scale(code, sums, factor);
}

}  // namespace

void encode_scalar_codes(turboquant::Code code, Mat<const std::int8_t> values, std::span<const float> factors,
                         std::uint8_t* codes, std::span<float> scales) {
  const std::size_t size = turboquant::code_bytes(code, values.cols);
  for (std::size_t t = 0; t < values.rows; ++t) {
    scales[t] = encode_vector(code, values.row(t), factors[t], codes + t * size);
  }
}

}  // namespace axon::cpu::coded
