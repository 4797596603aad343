#pragma once
// The fixed orthogonal matrix that spreads a head's values evenly over its dimensions before they are coded.
//   R = (C (x) H) D1 (C (x) H) D2,   A = m p with m odd and p a power of two
// H is the Hadamard matrix of order p over sqrt(p), C = I - (2/m) 1 1^T (the identity for m = 1), D1 and D2 are signs.
// A = 80 is C5 (x) H16. Both factors are symmetric, so R^T = D2 (C (x) H) D1 (C (x) H).

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/error.h"

namespace axon::turboquant {

inline constexpr std::size_t kMaxHeadDim = 1024;
// A multiple of 16 up to kMaxHeadDim.
constexpr bool supports_head_dim(std::size_t head_dim) {
  return head_dim > 0 && head_dim % 16 == 0 && head_dim <= kMaxHeadDim;
}
// kUnsupported for other dims, naming it and which dims work.
Status check_head_dim(std::size_t head_dim);

class Rotation {
 public:
  explicit Rotation(std::size_t head_dim);  // supports_head_dim(head_dim)

  std::size_t head_dim() const { return head_dim_; }
  void apply(std::span<float> x) const;                    // [A], x <- R x
  void invert(std::span<float> x) const;                   // [A], x <- R^T x
  std::vector<float> matrix() const;                       // [A, A], row-major: for folding into weights
  std::span<const float> signs() const { return signs_; }  // [2, A]: D1, D2

 private:
  void mix(float* x) const;  // x <- sqrt(p) (C (x) H) x
  std::size_t head_dim_, order_;
  std::vector<float> signs_;
};

}  // namespace axon::turboquant
