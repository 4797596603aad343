#pragma once
// Code tables of the compressed KV cache: the values that codes stand for, for vectors of norm sqrt(A).
// What a code decodes to is an int8, the same on every CPU; its value is that int8 times the table's step. The float
// tables are where the int8 came from: tests and docs compare with them, nothing decodes through them.

#include <cstddef>
#include <cstdint>
#include <span>

namespace axon::turboquant {

// The numbers are written to files; they do not change. Ten times the bits a value for trellis codes.
enum class Code : std::uint8_t {
  kScalar1 = 1,  // Lloyd-Max for a coordinate of the sphere in 80 dimensions
  kScalar2 = 2,
  kScalar3 = 3,
  kScalar4 = 4,
  kTrellis2 = 20,  // bit-shift trellis, window of 8 bits, tail-biting
  kTrellis2p5 = 25,
  kTrellis3 = 30,
  kTrellis3p5 = 35,
  kTrellis4 = 40,
};
inline constexpr Code kCodes[] = {Code::kScalar1,  Code::kScalar2,    Code::kScalar3,
                                  Code::kScalar4,  Code::kTrellis2,   Code::kTrellis2p5,
                                  Code::kTrellis3, Code::kTrellis3p5, Code::kTrellis4};

constexpr bool is_trellis(Code code) { return static_cast<int>(code) >= 20; }
// Twice the bits a value: 7 is 3.5.
constexpr std::size_t bits_x2(Code code) {
  const auto n = static_cast<std::size_t>(code);
  return is_trellis(code) ? n / 5 : 2 * n;
}
// Of one vector, exactly; head_dim is a multiple of 16.
constexpr std::size_t code_bytes(Code code, std::size_t head_dim) { return head_dim * bits_x2(code) / 16; }
// Bits of symbol t of a trellis code: 2.5 is 2, 3, 2, 3, ...
constexpr unsigned symbol_bits(Code code, std::size_t t) {
  return static_cast<unsigned>(bits_x2(code) / 2 + (t & bits_x2(code) & 1));
}

struct Codebook {
  std::span<const std::int8_t> values;  // [256] by window of the packed stream (oldest bit lowest), or [2^b] ascending
  float step;                           // value = int8 * step
  std::span<const float> exact;         // the float table, in the same order
};
const Codebook& codebook(Code code);

constexpr std::uint8_t reverse_bits(std::uint8_t w) {
  unsigned r = 0;
  for (unsigned i = 0; i < 8; ++i) r |= ((w >> i) & 1u) << (7 - i);
  return static_cast<std::uint8_t>(r);
}

}  // namespace axon::turboquant
