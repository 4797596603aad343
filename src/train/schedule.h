#pragma once
// The learning rate over the updates of a run: a warm-up, then a way down to a floor.

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace axon::train {

enum class Decay { kCosine, kLinear, kConstant };

// "cosine", "linear", "constant"; kInvalidArgument lists them.
Result<Decay> parse_decay(std::string_view name);
std::string_view name_of(Decay decay);

// With k updates done, warm-up w, total n, p = min(max((k - w) / (n - w), 0), 1):
//   k < w              peak (k + 1) / w: the first update has a rate, the w-th the peak
//   cosine             floor + (peak - floor) (1 + cos(pi p)) / 2      (SGDR, arXiv 1608.03983, eq. 5)
//   linear             floor + (peak - floor) (1 - p)
//   constant           peak
// The floor is where it stands when all n updates are done.
//
// compat is the Python original's, cosine alone: `total` counts micro-steps although the argument counts updates, so
// with accumulation the way down is not finished; the first update has rate 0 and the peak comes twice.
//   k <= w             peak k / w
//   k > w              floor + (peak - floor) (1 + cos(pi min(k - w - 1, T) / T)) / 2,  T = max(n - w, 1)
struct Schedule {
  double peak = 1e-4, floor = 0;
  std::uint64_t warmup = 0;  // updates
  std::uint64_t total = 1;   // updates of the whole run; compat: micro-steps
  Decay decay = Decay::kCosine;
  bool compat = false;

  // kInvalidArgument says which number is out of range.
  Status check() const;
  // Of the next update, when `updates` are done. check() has passed.
  double rate(std::uint64_t updates) const;
};

}  // namespace axon::train
