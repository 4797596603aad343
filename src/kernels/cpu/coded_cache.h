#pragma once
// A head of a compressed cache as regions for the kernels on codes.

#include "kernels/cpu/coded_region.h"
#include "quant/turboquant_head.h"

namespace axon::cpu {

// Keeps what all runs of a head have in common, since a run is only some hundred nanoseconds of work.
class CodedHead {
 public:
  explicit CodedHead(const turboquant::HeadView& head);

  // The run's keys, or values. `factors` [kTileTokens] is the memory of the region's factors; no region has a `next`.
  CodedRegion keys(const turboquant::TokenRun& run, std::span<float> factors) const;
  CodedRegion values(const turboquant::TokenRun& run, std::span<float> factors) const;

  // Where the codes of the run's keys, or values, begin.
  const std::uint8_t* keys_at(const turboquant::TokenRun& run) const;
  const std::uint8_t* values_at(const turboquant::TokenRun& run) const;

 private:
  struct Side {
    std::size_t codes, scales;            // in a whole tile
    std::size_t tail_codes, tail_scales;  // in the tail
    turboquant::Code code;
    std::size_t vector_bytes;
    std::int32_t exponent;
  };
  Side side_of(const turboquant::TileOffsets& tile, const turboquant::TileOffsets& tail, bool values) const;
  // The same in a tile that is shorter.
  Side in_tile(const Side& side, std::size_t tile) const;
  const std::uint8_t* codes_at(const Side& side, const turboquant::TokenRun& run) const;
  CodedRegion region(const Side& side, const turboquant::TokenRun& run, std::span<float> factors) const;

  turboquant::HeadView head_;
  Side keys_, values_;
};

}  // namespace axon::cpu
