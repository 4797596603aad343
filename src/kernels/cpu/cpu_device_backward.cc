// The way back on the CPU, each verb timed.

#include "kernels/cpu/columns.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/moe.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/outer.h"
#include "kernels/cpu/stopwatch.h"
#include "kernels/reference_device.h"

namespace axon::cpu {

void CpuDevice::matmul_transposed(std::span<const Product> products) {
  const Stopwatch watch(work_.of(Verb::kMatmulTransposed));
  matmul_.count_transposed(products, work_);
  matmul_.run_transposed(products);
}

void CpuDevice::add_outer(std::span<const OuterProduct> products) {
  const Stopwatch watch(work_.of(Verb::kAddOuter));
  for (const OuterProduct& p : products) {
    work_.fp32_flops += 2 * std::uint64_t{p.a.rows} * p.g.rows * p.g.cols;
  }
  cpu::add_outer(pool_, products);
}

void CpuDevice::scale_columns(Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add) {
  const Stopwatch watch(work_.of(Verb::kScaleColumns));
  cpu::scale_columns(pool_, x, scale, y, add);
}

void CpuDevice::add_column_dots(Mat<const float> a, Mat<const float> b, std::span<float> g) {
  const Stopwatch watch(work_.of(Verb::kAddColumnDots));
  cpu::add_column_dots(pool_, a, b, g);
}

void CpuDevice::dropout(const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add) {
  const Stopwatch watch(work_.of(Verb::kDropout));
  cpu::dropout(pool_, dropout, x, y, add);
}

void CpuDevice::rms_norm_backward(Mat<const float> x, std::span<const float> weight, float eps, Mat<const float> dy,
                                  Mat<float> dx) {
  const Stopwatch watch(work_.of(Verb::kRmsNormBackward));
  cpu::rms_norm_backward(pool_, x, weight, eps, dy, dx);
}

void CpuDevice::conv_silu_backward(Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
                                   Mat<const float> tail, Mat<const float> du, Mat<float> carry, Mat<float> dx) {
  const Stopwatch watch(work_.of(Verb::kConvSiluBackward));
  conv_backward_.run(pool_, x, taps, bias, tail, du, carry, dx);
}

void CpuDevice::scan_backward(const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh,
                              Mat<float> du, Mat<float> dz, Mat<float> dbcdt) {
  const Stopwatch watch(work_.of(Verb::kScanBackward));
  scan_backward_.run(pool_, in, h, dy, dh, du, dz, dbcdt);
}

void CpuDevice::attend_alone(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                             std::size_t window, Mat<float> y, Mat<float> log_sums) {
  const Stopwatch watch(work_.of(Verb::kAttendAlone));
  attention_.run_alone(pool_, q, k, v, heads, window, y, log_sums);
}

void CpuDevice::attend_backward(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                                std::size_t window, Mat<const float> y, Mat<const float> log_sums, Mat<const float> dy,
                                Mat<float> dq, Mat<float> dk, Mat<float> dv) {
  const Stopwatch watch(work_.of(Verb::kAttendBackward));
  attention_backward_.run(pool_, q, k, v, heads, window, y, log_sums, dy, dq, dk, dv);
}

void CpuDevice::route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                               Mat<float> dlogits) {
  const Stopwatch watch(work_.of(Verb::kRouteBackward));
  cpu::route_backward(logits, experts, dscores, dlogits);
}

void CpuDevice::swiglu_backward(Mat<const float> gate, Mat<const float> up, Mat<const float> dh, Mat<float> dgate,
                                Mat<float> dup) {
  const Stopwatch watch(work_.of(Verb::kSwigluBackward));
  cpu::swiglu_backward(pool_, gate, up, dh, dgate, dup);
}

void CpuDevice::combine_backward(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                                 Mat<const float> shared, Mat<const float> shared_gate, Mat<const float> dy,
                                 Mat<float> drouted, Mat<float> dscores, Mat<float> dshared, Mat<float> dshared_gate) {
  const Stopwatch watch(work_.of(Verb::kCombineBackward));
  cpu::combine_backward(pool_, routed, slots, scores, shared, shared_gate, dy, drouted, dscores, dshared, dshared_gate);
}

void CpuDevice::add_rows(Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) {
  const Stopwatch watch(work_.of(Verb::kAddRows));
  cpu::add_rows(pool_, rows, slots, x);
}

void CpuDevice::cross_entropy(Mat<const float> logits, std::span<const std::uint32_t> labels, std::span<float> loss) {
  const Stopwatch watch(work_.of(Verb::kCrossEntropy));
  cpu::cross_entropy(pool_, logits, labels, loss);
}

void CpuDevice::cross_entropy_backward(Mat<float> logits, std::span<const std::uint32_t> labels,
                                       std::span<const float> factors) {
  const Stopwatch watch(work_.of(Verb::kCrossEntropyBackward));
  cpu::cross_entropy_backward(pool_, logits, labels, factors);
}

}  // namespace axon::cpu
