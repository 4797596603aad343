#pragma once
// What every CPU level has to offer for products with codes.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/coded_keys.h"
#include "kernels/cpu/coded_values.h"
#include "kernels/cpu/level.h"

namespace axon::cpu::coded {

inline constexpr std::size_t kRowsMax = 16;  // queries or rows of weights that share one decoding

// Rows of weights times factors, rounded: unit * bytes. Bytes of tokens past the last are 0.
struct Weights {
  alignas(64) std::uint8_t bytes[kRowsMax][turboquant::kTileTokens];
  float units[kRowsMax];
};

struct Kernels {
  // factors[t] <- (scale t of exponent 0) * power * step, as turboquant::load_scale reads scales.
  void (*factors)(turboquant::ScaleKind kind, const std::uint8_t* scales, float power, float step,
                  std::span<float> factors);
  void (*decode)(const CodedRegion& region, Mat<std::int8_t> out);
  // Up to kRowsMax rows. The columns of scores and weights are the tokens of all regions; Weights: one a region.
  void (*score)(CodedRegions keys, const Int8Queries& q, std::byte* scratch, Mat<float> scores);
  void (*weigh)(CodedRegions values, Mat<const float> weights, Weights* out);
  void (*add)(CodedRegions values, const Weights* weights, std::byte* scratch, Mat<float> out);
};

const Kernels& kernels(Level level);

// One table each; kernels() picks. A table exists only where its instructions can be compiled.
extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kNeonDotKernels;

}  // namespace axon::cpu::coded
