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

 private:
  Arithmetic arithmetic_;
};

}  // namespace axon
