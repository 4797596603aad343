#pragma once
// The precision that weights are asked to have: "keep" (as stored), a float type, or affine groups.

#include <string>
#include <string_view>

#include "base/error.h"
#include "tensor/dtype.h"

namespace axon {

struct WeightFormat {
  enum Kind { kKeep, kFloat, kAffine } kind = kKeep;
  DType dtype = DType::kBF16;  // kFloat
  int bits = 4;                // kAffine
  int group_size = 64;         // kAffine
};

// Scales and biases that this program writes, whatever the source's type (docs/design/0004-half-precision-scales.md).
inline constexpr DType kScaleDtype = DType::kF16;

// "keep", "f32", "f16" ("fp16"), "bf16", "q2".."q6", "q8", with a group size after g: "q4g32". kInvalidArgument else.
Result<WeightFormat> parse_weight_format(std::string_view text);
std::string to_string(const WeightFormat& format);

}  // namespace axon
