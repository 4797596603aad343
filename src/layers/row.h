#pragma once
// Training's way through a block and back, a whole row at a time. A row is one or more sequences one behind the other;
// states and attention begin anew at each. Of the way there, only the block's input is kept, and the SSM state at the
// borders of chunks; the way back computes a chunk again and then goes through it backwards, so that what a block needs
// is the memory of a chunk. Attention alone looks at the row as a whole.

#include <cstdint>
#include <span>

#include "layers/block.h"

namespace axon {

struct Row {
  std::size_t tokens = 0;
  std::span<const std::uint32_t> starts;  // of its sequences, ascending, the first 0
  std::uint64_t first_token = 0;          // of the row among all of a step: for dropout
};

struct RowShape {
  std::size_t tokens_max = 0;  // of a row
  std::size_t chunk = 0;       // tokens that go through a layer at once
  AdapterNeeds needs;
  std::size_t borders() const { return tokens_max == 0 ? 0 : (tokens_max - 1) / chunk; }  // inside a row
};

SsmState carve_state(Carver& carver, const BlockShape& shape);

struct RowScratch {
  std::size_t chunk = 0;
  Mat<float> normed, ffn_normed, dnormed;  // [chunk, D]
  Mat<float> x;                            // [chunk, D] between mixer and experts
  std::span<Run> runs;                     // [chunk]
  LinearScratch linear;
  SsmState state, carry, zero;
  SsmScratch ssm;
  SsmBackScratch ssm_back;
  SwaRow swa;
  SwaBackScratch swa_back;
  MoeScratch moe;
  MoeBackScratch moe_back;
  RowScratch() = default;
  // Mixers of the two kinds never run at once, nor the experts and the way back through an SSM: they share bytes.
  RowScratch(Carver& carver, const RowShape& row, const BlockShape& shape);
};

// x_out = block(x_in); `borders` are the block's, [RowShape::borders()], SSM only.   x_in, x_out [T, D]
void row_forward(Device& device, const BlockWeights& w, const BlockShape& shape, const Row& row,
                 std::span<SsmState> borders, const RowScratch& scratch, Mat<const float> x_in, Mat<float> x_out);
// dx: on entry the gradient of x_out, on return that of x_in; gradients of the block's adapters are added to.
void row_backward(Device& device, const BlockWeights& w, const BlockShape& shape, const Row& row,
                  std::span<const SsmState> borders, const RowScratch& scratch, Mat<const float> x_in, Mat<float> dx);

}  // namespace axon
