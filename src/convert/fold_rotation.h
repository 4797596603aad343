#pragma once
// The rotation of the compressed cache, taken into attention's matrices: W_q, W_k, W_v <- R W, W_o <- W_o R^T, for each
// head. Attention without positions is the same function in any basis, so only the cost of rotating at run time goes.

#include <span>
#include <string>

#include "model/tensors.h"
#include "quant/turboquant_rotation.h"

namespace axon {

// Rows of a matrix, in place. kInRows: whole heads, [n A, cols]; every column x of a head becomes R x.
// kInCols: any rows, [n, H A]; every head's part x of a row becomes R x, which is W_o R^T. kNone: nothing.
// Where finite values become too large on the way, infinity comes out.
void rotate_heads(const turboquant::Rotation& rotation, Heads heads, std::span<float> rows, std::size_t cols);

// What becomes of the heads' basis when a model is quantised: one answer for all its attention matrices.
enum class RotationFold {
  kFolded,           // into matrices that the source has in floating point
  kInSource,         // the source's basis is the rotated one
  kNotAsked,         // --no-fold-rotation
  kNoAttention,      // the model has no attention layer
  kHeadDim,          // there is no rotation for it
  kSourceQuantised,  // some matrix would be rounded a second time, which costs more than rotating at run time
  kFloatOutput,      // some matrix stays in floating point, where nothing is rounded anyway
};
constexpr bool is_rotated(RotationFold fold) {
  return fold == RotationFold::kFolded || fold == RotationFold::kInSource;
}
// For people: "folded into the attention weights", "not folded: head_dim 8 is not a multiple of 16, at most 1024".
std::string describe(RotationFold fold, const Config& config);

}  // namespace axon
