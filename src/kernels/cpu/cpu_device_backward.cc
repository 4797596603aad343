// The way back on the CPU, each verb timed.

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/stopwatch.h"
#include "kernels/reference_device.h"

namespace axon::cpu {

void CpuDevice::matmul_transposed(std::span<const Product> products) {
  const Stopwatch watch(work_.of(Verb::kMatmulTransposed));
  ReferenceDevice(Arithmetic::kExact).matmul_transposed(products);
}

void CpuDevice::add_outer(std::span<const OuterProduct> products) {
  const Stopwatch watch(work_.of(Verb::kAddOuter));
  ReferenceDevice(Arithmetic::kExact).add_outer(products);
}

void CpuDevice::scale_columns(Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add) {
  const Stopwatch watch(work_.of(Verb::kScaleColumns));
  ReferenceDevice(Arithmetic::kExact).scale_columns(x, scale, y, add);
}

void CpuDevice::add_column_dots(Mat<const float> a, Mat<const float> b, std::span<float> g) {
  const Stopwatch watch(work_.of(Verb::kAddColumnDots));
  ReferenceDevice(Arithmetic::kExact).add_column_dots(a, b, g);
}

void CpuDevice::dropout(const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add) {
  const Stopwatch watch(work_.of(Verb::kDropout));
  ReferenceDevice(Arithmetic::kExact).dropout(dropout, x, y, add);
}

void CpuDevice::rms_norm_backward(Mat<const float> x, std::span<const float> weight, float eps, Mat<const float> dy,
                                  Mat<float> dx) {
  const Stopwatch watch(work_.of(Verb::kRmsNormBackward));
  ReferenceDevice(Arithmetic::kExact).rms_norm_backward(x, weight, eps, dy, dx);
}

void CpuDevice::conv_silu_backward(Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
                                   Mat<const float> tail, Mat<const float> du, Mat<float> carry, Mat<float> dx) {
  const Stopwatch watch(work_.of(Verb::kConvSiluBackward));
  ReferenceDevice(Arithmetic::kExact).conv_silu_backward(x, taps, bias, tail, du, carry, dx);
}

void CpuDevice::scan_backward(const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh,
                              Mat<float> du, Mat<float> dz, Mat<float> dbcdt) {
  const Stopwatch watch(work_.of(Verb::kScanBackward));
  ReferenceDevice(Arithmetic::kExact).scan_backward(in, h, dy, dh, du, dz, dbcdt);
}

void CpuDevice::attend_alone(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                             std::size_t window, Mat<float> y, Mat<float> log_sums) {
  const Stopwatch watch(work_.of(Verb::kAttendAlone));
  ReferenceDevice(Arithmetic::kExact).attend_alone(q, k, v, heads, window, y, log_sums);
}

void CpuDevice::attend_backward(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                                std::size_t window, Mat<const float> y, Mat<const float> log_sums, Mat<const float> dy,
                                Mat<float> dq, Mat<float> dk, Mat<float> dv) {
  const Stopwatch watch(work_.of(Verb::kAttendBackward));
  ReferenceDevice(Arithmetic::kExact).attend_backward(q, k, v, heads, window, y, log_sums, dy, dq, dk, dv);
}

void CpuDevice::route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                               Mat<float> dlogits) {
  const Stopwatch watch(work_.of(Verb::kRouteBackward));
  ReferenceDevice(Arithmetic::kExact).route_backward(logits, experts, dscores, dlogits);
}

void CpuDevice::swiglu_backward(Mat<const float> gate, Mat<const float> up, Mat<const float> dh, Mat<float> dgate,
                                Mat<float> dup) {
  const Stopwatch watch(work_.of(Verb::kSwigluBackward));
  ReferenceDevice(Arithmetic::kExact).swiglu_backward(gate, up, dh, dgate, dup);
}

void CpuDevice::combine_backward(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                                 Mat<const float> shared, Mat<const float> shared_gate, Mat<const float> dy,
                                 Mat<float> drouted, Mat<float> dscores, Mat<float> dshared, Mat<float> dshared_gate) {
  const Stopwatch watch(work_.of(Verb::kCombineBackward));
  ReferenceDevice(Arithmetic::kExact)
      .combine_backward(routed, slots, scores, shared, shared_gate, dy, drouted, dscores, dshared, dshared_gate);
}

void CpuDevice::add_rows(Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) {
  const Stopwatch watch(work_.of(Verb::kAddRows));
  ReferenceDevice(Arithmetic::kExact).add_rows(rows, slots, x);
}

void CpuDevice::cross_entropy(Mat<const float> logits, std::span<const std::uint32_t> labels, std::span<float> loss) {
  const Stopwatch watch(work_.of(Verb::kCrossEntropy));
  ReferenceDevice(Arithmetic::kExact).cross_entropy(logits, labels, loss);
}

void CpuDevice::cross_entropy_backward(Mat<float> logits, std::span<const std::uint32_t> labels,
                                       std::span<const float> factors) {
  const Stopwatch watch(work_.of(Verb::kCrossEntropyBackward));
  ReferenceDevice(Arithmetic::kExact).cross_entropy_backward(logits, labels, factors);
}

}  // namespace axon::cpu
