#pragma once
// Attention's two products on the codes of a tile or of the tail, as slow and plain loops: they judge the kernels.
// Decoded int8 are equal to the bit on every CPU, and so are the integer sums; the float factors are applied in the
// order written here.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/turboquant_layout.h"

namespace axon::turboquant {

// A region of int8-valued vectors with scales: one tile's keys, its values, or those of a tail.
struct CodedVectors {
  std::vector<std::int8_t> values;  // [T, A]
  std::vector<float> factors;       // [T]: vector t is factors[t] * values[t, :]
};

struct TileView {
  const Layout& layout;
  std::size_t head_dim;
  std::size_t tokens;  // room: a multiple of kFlushTokens; it decides the offsets
  std::span<const std::uint8_t> bytes;
  std::int32_t key_exponent, value_exponent;
};
CodedVectors decode_keys(const TileView& tile);
CodedVectors decode_values(const TileView& tile);

// Writes one encoded pair into a tile: codes of the layout's sizes, stored scales.
struct CodedPair {
  std::span<const std::uint8_t> key_codes, value_codes;
  StoredScale key_scale, value_scale;
};
void write_pair(const Layout& layout, std::size_t head_dim, std::size_t tokens, std::size_t slot, const CodedPair& pair,
                std::span<std::uint8_t> tile);

// int8 with one scale, the largest magnitude 127: tail vectors (the scale in half precision) and queries (in float).
// False, and nothing written, if x holds a NaN or an infinity or the scale passes half precision.
[[nodiscard]] bool encode_tail(std::span<const float> x, std::span<std::int8_t> values, std::uint16_t& half_scale);
struct Int8Query {
  std::vector<std::int8_t> values;  // [A]
  float scale = 0;                  // q ~ scale * values
};
Int8Query quantise_query(std::span<const float> q);

// scores [T] <- <q, k_t>; no 1/sqrt(A). The float path accumulates in double; the integer path is
// (float(sum) * factor_t) * query scale.
void score(const CodedVectors& keys, std::span<const float> q, std::span<float> scores);
void score(const CodedVectors& keys, const Int8Query& q, std::span<float> scores);

// out [A] += sum_t weights_t v_t; weights >= 0. The integer path rounds weights_t * factor_t to 255ths of the largest
// of the region (one step a tile), so its sums are u8 by int8.
void add_values(const CodedVectors& values, std::span<const float> weights, std::span<float> out);
void add_values_u8(const CodedVectors& values, std::span<const float> weights, std::span<float> out);

}  // namespace axon::turboquant
