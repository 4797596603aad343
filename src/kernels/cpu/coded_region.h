#pragma once
// One head's keys or values as the kernels on codes read them: those of a tile of the compressed cache, or of its int8
// tail (quant/turboquant_layout.h). Nothing here writes to the cache.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/error.h"
#include "quant/turboquant.h"
#include "tensor/mat.h"

namespace axon::cpu {

inline constexpr std::size_t kCodesSlack = 64;  // bytes behind the last vector that a kernel may read

// Vector t is factors[t] * (the int8 of code t).
struct CodedRegion {
  std::optional<turboquant::Code> code;  // none: the int8 themselves
  std::size_t head_dim = 0;              // supports_head_dim
  const std::uint8_t* codes = nullptr;   // one vector after the other; kCodesSlack bytes more can be read
  std::span<const float> factors;        // [T]; T is at most kTileTokens

  // Codes, and their scales behind them, that will be read soon, to be fetched meanwhile; may be any address.
  const std::uint8_t* next = nullptr;

  std::size_t tokens() const { return factors.size(); }
  std::size_t vector_bytes() const { return code ? turboquant::code_bytes(*code, head_dim) : head_dim; }
  CodedRegion tokens_from(std::size_t first, std::size_t count) const {
    return {code, head_dim, codes + first * vector_bytes(), factors.subspan(first, count), next};
  }
};

// Regions of one head, of any codes; their tokens follow one another.
using CodedRegions = std::span<const CodedRegion>;
std::size_t tokens_of(CodedRegions regions);

// factors.size() vectors of a code, or of int8 if there is none, and their scales, which are read into `factors` as
// turboquant::load_scale does. No `next`.
CodedRegion region_at(std::optional<turboquant::Code> code, std::size_t head_dim, const std::uint8_t* codes,
                      turboquant::ScaleKind kind, const std::uint8_t* scales, std::int32_t exponent,
                      std::span<float> factors);

// The first factors.size() tokens of a tile; reads their scales into `factors`, as turboquant::decode_keys does. What
// will be read soon is taken to be the fourth tile behind it.
CodedRegion coded_keys(const turboquant::TileView& tile, std::span<float> factors);
CodedRegion coded_values(const turboquant::TileView& tile, std::span<float> factors);
// int8 vectors with scales in half precision, from slot `first` of a tail of `room` slots on.
CodedRegion tail_keys(std::span<const std::uint8_t> tail, std::size_t head_dim, std::size_t room, std::size_t first,
                      std::span<float> factors);
CodedRegion tail_values(std::span<const std::uint8_t> tail, std::size_t head_dim, std::size_t room, std::size_t first,
                        std::span<float> factors);

// Of the calls below and in coded_keys.h and coded_values.h, for one thread.
constexpr std::size_t coded_scratch_bytes(std::size_t head_dim) { return turboquant::kTileTokens * head_dim; }

// out [T, A]: the int8 of every code, equal to the bit on all levels.
void decode(const CodedRegion& region, Mat<std::int8_t> out);

}  // namespace axon::cpu
