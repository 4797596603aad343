#pragma once
// ReferenceDevice: the slow twin of the whole instruction set. Plain loops, sums in double, one thread; it judges the
// fast devices, verb by verb and with whole models.

#include "kernels/device.h"

namespace axon {

// State that a verb leaves behind (scan's h, conv's tail, the cache) is rounded to its stored type between calls only.
class ReferenceDevice : public Device {
 public:
  explicit ReferenceDevice(Arithmetic arithmetic) : arithmetic_(arithmetic) {}

  using Device::matmul;
  void matmul(std::span<const Product> products) override;
  void embed(const Weight& table, std::span<const std::uint32_t> ids, Mat<float> y) override;
  void rms_norm(Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y) override;
  void conv_silu(Mat<const float> x, Mat<const float> taps, std::span<const float> bias, Mat<float> tail,
                 Mat<float> u) override;
  void scan(const ScanInput& in, Mat<float> h, Mat<float> y) override;
  void rotate(const turboquant::Rotation& rotation, bool back, Mat<float> x) override;
  void attend(Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
              std::uint64_t first_position, std::size_t window, Mat<float> y) override;
  void append(Mat<const float> k, Mat<const float> v, std::uint64_t first_position, const KvCache& cache) override;
  void route(Mat<const float> logits, Mat<std::uint32_t> experts, Mat<float> scores) override;
  void swiglu(Mat<const float> gate, Mat<const float> up, Mat<float> h) override;
  void combine(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
               Mat<const float> shared, Mat<const float> shared_gate, Mat<float> x) override;

  using Device::matmul_transposed;
  void matmul_transposed(std::span<const Product> products) override;
  void add_outer(std::span<const OuterProduct> products) override;
  void scale_columns(Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add) override;
  void add_column_dots(Mat<const float> a, Mat<const float> b, std::span<float> g) override;
  void dropout(const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add) override;
  void rms_norm_backward(Mat<const float> x, std::span<const float> weight, float eps, Mat<const float> dy,
                         Mat<float> dx) override;
  void conv_silu_backward(Mat<const float> x, Mat<const float> taps, std::span<const float> bias, Mat<const float> tail,
                          Mat<const float> du, Mat<float> carry, Mat<float> dx) override;
  void scan_backward(const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh, Mat<float> du,
                     Mat<float> dz, Mat<float> dbcdt) override;
  void attend_alone(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads, std::size_t window,
                    Mat<float> y, Mat<float> log_sums) override;
  void attend_backward(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                       std::size_t window, Mat<const float> y, Mat<const float> log_sums, Mat<const float> dy,
                       Mat<float> dq, Mat<float> dk, Mat<float> dv) override;
  void route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                      Mat<float> dlogits) override;
  void swiglu_backward(Mat<const float> gate, Mat<const float> up, Mat<const float> dh, Mat<float> dgate,
                       Mat<float> dup) override;
  void combine_backward(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                        Mat<const float> shared, Mat<const float> shared_gate, Mat<const float> dy, Mat<float> drouted,
                        Mat<float> dscores, Mat<float> dshared, Mat<float> dshared_gate) override;
  void add_rows(Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) override;
  void cross_entropy(Mat<const float> logits, std::span<const std::uint32_t> labels, std::span<float> loss) override;
  void cross_entropy_backward(Mat<float> logits, std::span<const std::uint32_t> labels,
                              std::span<const float> factors) override;

 private:
  Arithmetic arithmetic_;
};

}  // namespace axon
