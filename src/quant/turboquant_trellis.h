#pragma once
// Tail-biting bit-shift trellis codes. Symbol t has k_t bits; the window w_t = ((w_{t-1} << k_t) | symbol_t) & 255
// names the value of position t, and the window before the first symbol is the one after the last. So a vector of A
// values takes exactly the bits of its symbols.
//
// Stream: bits lowest first within bytes; each symbol's highest bit first. Position t's window, read from the packed
// stream, is the 8 bits that end with symbol t (cyclically), the oldest as bit 0: an index into Codebook::values.
//
// The encoder is integer throughout and is part of this contract, so that a SIMD twin can be equal to the bit:
//   x, c     int16, 12 fraction bits; |x| <= kMaxInput; c = round(int8 * step * 4096)
//   e        min(|x - c|, limit)
//   cost     ((e << a) * (e << b)) >> 16; limit, a, b: 2 bits 16383, 0, 1; 2.5, 3 and 3.5 bits 8191, 1, 2;
//            4 bits 8191, 2, 2
//   metric   of a window: cost + best metric of its predecessors, found in rounds that halve: window i against window
//            i + 128, then i + 64, ... until one is left for each state; ties keep the lower of the two
// The boundary state is taken from the best path over the last and the first 16 positions; then the whole vector is
// coded from that state back to it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/turboquant_tables.h"

namespace axon::turboquant {

inline constexpr int kInputFractionBits = 12;
inline constexpr std::int16_t kMaxInput = 16383;  // just below 4 standard deviations; no table reaches 3.4

// x [A] as above, A a multiple of 16 and at most kMaxHeadDim. Writes code_bytes(code, A) bytes.
void encode_trellis(Code code, std::span<const std::int16_t> x, std::span<std::uint8_t> stream);

// The two steps of encode_trellis, for tests and twins; any even number of positions from 6 on.
// The low 8 - k_0 bits of the window before position 0.
std::uint8_t boundary_state(Code code, std::span<const std::int16_t> x);
// The cheapest cyclic path through `boundary`: windows [A], newest bit lowest.
void best_windows(Code code, std::span<const std::int16_t> x, std::uint8_t boundary, std::span<std::uint8_t> windows);

// Every state is reached from every other within `settle` steps, so metrics differ by at most settle * (largest cost)
// and, with a state's metric taken off at each step, (settle + 1) * (largest cost) <= 32767 keeps them in int16.
struct FixedCosts {
  int limit;             // of |x - c|
  int shift_a, shift_b;  // cost has 8 + a + b fraction bits
  int settle;
  constexpr int largest() const { return ((limit << shift_a) * (limit << shift_b)) >> 16; }
};
constexpr FixedCosts fixed_costs(int even_bits, int odd_bits) {  // symbols of positions 0 and 1
  if (even_bits == 4) return {8191, 2, 2, 1};
  if (even_bits == 3) return {8191, 1, 2, 2};
  if (odd_bits == 3) return {8191, 1, 2, 3};
  return {16383, 0, 1, 3};
}
// c by window, newest bit lowest.
const std::array<std::int16_t, 256>& window_values(Code code);

// Cost of value x under each window, newest bit lowest: costs [256].
void branch_costs(Code code, std::int16_t x, std::span<std::int16_t> costs);

// Windows of a packed stream, oldest bit lowest: windows [A].
void read_windows(Code code, std::span<const std::uint8_t> stream, std::span<std::uint8_t> windows);

}  // namespace axon::turboquant
