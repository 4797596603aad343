#include "convert/fold_rotation.h"

#include <array>
#include <cmath>
#include <limits>

namespace axon {
namespace {

// `head` [A, cols]
void rotate_columns(const turboquant::Rotation& rotation, std::span<float> head, std::size_t cols) {
  std::array<float, turboquant::kMaxHeadDim> column;
  const std::span<float> x = std::span(column).first(rotation.head_dim());
  for (std::size_t c = 0; c < cols; ++c) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = head[i * cols + c];
    rotation.apply(x);
    for (std::size_t i = 0; i < x.size(); ++i) head[i * cols + c] = x[i];
  }
}

}  // namespace

void rotate_heads(const turboquant::Rotation& rotation, Heads heads, std::span<float> rows, std::size_t cols) {
  if (heads == Heads::kNone) return;
  const std::size_t step = heads == Heads::kInRows ? rotation.head_dim() * cols : rotation.head_dim();
  AXON_CHECK(cols > 0 && rows.size() % cols == 0 && rows.size() % step == 0 &&
             (heads == Heads::kInRows || cols % step == 0));
  for (std::size_t at = 0; at < rows.size(); at += step) {
    if (heads == Heads::kInRows) {
      rotate_columns(rotation, rows.subspan(at, step), cols);
    } else {
      rotation.apply(rows.subspan(at, step));
    }
  }
  // Infinity minus infinity is no number, and fitting a group passes over those; infinity itself is refused by name.
  for (float& v : rows) v = std::isfinite(v) ? v : std::numeric_limits<float>::infinity();
}

std::string describe(RotationFold fold, const Config& config) {
  switch (fold) {
    case RotationFold::kFolded: return "folded into the attention weights";
    case RotationFold::kInSource: return "in the attention weights, as in the source";
    case RotationFold::kNotAsked: return "not folded, as asked";
    case RotationFold::kNoAttention: return "not folded: the model has no attention layer";
    case RotationFold::kHeadDim:
      return fmt::format("not folded: head_dim {} is not a multiple of 16, at most {}", config.head_dim(),
                         turboquant::kMaxHeadDim);
    case RotationFold::kSourceQuantised: return "not folded: the source's attention weights are quantised";
    case RotationFold::kFloatOutput: return "not folded: attention weights stay in floating point";
  }
  return "?";
}

}  // namespace axon
