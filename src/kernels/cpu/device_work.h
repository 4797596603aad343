#pragma once
// What a CpuDevice has done since it was made or asked to forget: the time of each verb by the clock on the wall, and
// the bytes and operations behind it. What a benchmark divides by the machine's ceilings.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace axon::cpu {

// The verbs of Device.
enum class Verb {
  kMatmul,
  kEmbed,
  kRmsNorm,
  kConvSilu,
  kScan,
  kRotate,
  kAttend,
  kAppend,
  kRoute,
  kSwiglu,
  kCombine,
  kMatmulTransposed,
  kAddOuter,
  kScaleColumns,
  kAddColumnDots,
  kDropout,
  kRmsNormBackward,
  kConvSiluBackward,
  kScanBackward,
  kAttendAlone,
  kAttendBackward,
  kRouteBackward,
  kSwigluBackward,
  kCombineBackward,
  kAddRows,
  kCrossEntropy,
  kCrossEntropyBackward
};
inline constexpr std::size_t kVerbs = 27;
inline constexpr std::size_t kVerbsOfInference = 11;  // the first of them; the rest are training's

constexpr std::string_view name_of(Verb verb) {
  constexpr std::array<std::string_view, kVerbs> kNames = {"matmul",
                                                           "embed",
                                                           "rms_norm",
                                                           "conv_silu",
                                                           "scan",
                                                           "rotate",
                                                           "attend",
                                                           "append",
                                                           "route",
                                                           "swiglu",
                                                           "combine",
                                                           "matmul_transposed",
                                                           "add_outer",
                                                           "scale_columns",
                                                           "add_column_dots",
                                                           "dropout",
                                                           "rms_norm_backward",
                                                           "conv_silu_backward",
                                                           "scan_backward",
                                                           "attend_alone",
                                                           "attend_backward",
                                                           "route_backward",
                                                           "swiglu_backward",
                                                           "combine_backward",
                                                           "add_rows",
                                                           "cross_entropy",
                                                           "cross_entropy_backward"};
  return kNames[static_cast<std::size_t>(verb)];
}

struct DeviceWork {
  std::array<double, kVerbs> seconds{};
  double& of(Verb verb) { return seconds[static_cast<std::size_t>(verb)]; }
  double of(Verb verb) const { return seconds[static_cast<std::size_t>(verb)]; }
  double total() const {
    double sum = 0;
    for (const double s : seconds) sum += s;
    return sum;
  }

  // The model's tensors, each time that a call of a verb goes through them: a matrix once for all tokens of the call.
  std::uint64_t weight_bytes = 0;
  // Keys and values of the past that the queries of a call see; once for all of them.
  std::uint64_t kv_bytes = 0;
  // States of the scan and tails of the convolution, read and written back.
  std::uint64_t state_bytes = 0;
  // Of the products, by what computes them; a multiply-add is two operations.
  std::uint64_t int8_ops = 0, bf16_flops = 0, fp32_flops = 0;

  DeviceWork& operator+=(const DeviceWork& other) {
    for (std::size_t i = 0; i < kVerbs; ++i) seconds[i] += other.seconds[i];
    weight_bytes += other.weight_bytes;
    kv_bytes += other.kv_bytes;
    state_bytes += other.state_bytes;
    int8_ops += other.int8_ops;
    bf16_flops += other.bf16_flops;
    fp32_flops += other.fp32_flops;
    return *this;
  }
};

}  // namespace axon::cpu
