#pragma once
// For the tests of this folder: matrices whose rows are unaligned and far apart, and a fixture that runs a test on
// every level of this processor with 1 and with 3 threads.

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/level.h"
#include "kernels/reference_device.h"

namespace axon::cpu {

// Rows start at odd offsets and have a gap of canaries between them, which intact() looks at.
class Matrix {
 public:
  Matrix(std::size_t rows, std::size_t cols, std::size_t gap = 3)
      : rows_(rows), cols_(cols), stride_(cols + gap), data_(1 + rows * stride_, kCanary) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (float& v : mat().row(r)) v = 0.0f;
    }
  }
  static Matrix normal(std::size_t rows, std::size_t cols, std::uint64_t seed, float scale = 1.0f) {
    Matrix m(rows, cols);
    const CounterRng rng(seed);
    for (std::size_t i = 0; i < rows * cols; ++i) m.mat().row(i / cols)[i % cols] = scale * rng.normal(i);
    return m;
  }
  Mat<float> mat() { return {data_.data() + 1, rows_, cols_, stride_}; }
  std::span<float> row(std::size_t r) { return mat().row(r); }
  bool intact() const {
    for (std::size_t i = 0; i < data_.size(); ++i) {
      const bool gap = i == 0 || (i - 1) % stride_ >= cols_;
      if (gap && data_[i] != kCanary) return false;
    }
    return true;
  }
  float largest() {
    float most = 0.0f;
    for (std::size_t r = 0; r < rows_; ++r) {
      for (const float v : row(r)) most = std::max(most, std::fabs(v));
    }
    return most;
  }

 private:
  static constexpr float kCanary = 12345.678f;
  std::size_t rows_, cols_, stride_;
  std::vector<float> data_;
};

// |a - b| <= absolute + relative * |b| everywhere; and a is finite.
inline ::testing::AssertionResult close(Mat<const float> a, Mat<const float> b, double absolute, double relative) {
  if (a.rows != b.rows || a.cols != b.cols) return ::testing::AssertionFailure() << "shapes differ";
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (std::size_t c = 0; c < a.cols; ++c) {
      const double x = double{a.row(r)[c]}, y = double{b.row(r)[c]};
      if (!(std::fabs(x - y) <= absolute + relative * std::fabs(y))) {
        return ::testing::AssertionFailure() << "[" << r << "," << c << "] is " << x << ", not " << y << ": off by "
                                             << x - y << ", allowed " << absolute + relative * std::fabs(y);
      }
    }
  }
  return ::testing::AssertionSuccess();
}

// Parameters: level, threads.
class EachLevel : public ::testing::TestWithParam<std::tuple<Level, std::size_t>> {
 protected:
  EachLevel() : before_(level()), ledger_(Bytes{std::uint64_t{1} << 30}) {
    EXPECT_TRUE(force(name_of(std::get<0>(GetParam()))).ok());
    const DeviceLimits limits{.x_elements_max = 1 << 16,
                              .rows_of_x_max = 256,
                              .cols_max = 1024,
                              .head_dim_max = 128,
                              .states_max = 32,
                              .attend_backward_tokens_max = 512,
                              .back_tokens_max = 150,
                              .back_channels_max = 600,
                              .back_taps_max = 8,
                              .transposed_rows_max = 1024};
    device_ = CpuDevice::create(ledger_, limits, std::get<1>(GetParam()), Arithmetic::kExact).value();
  }
  ~EachLevel() override { EXPECT_TRUE(force(name_of(before_)).ok()); }
  CpuDevice& device() { return *device_; }

  ReferenceDevice reference_{Arithmetic::kExact};

 private:
  Level before_;
  Ledger ledger_;
  std::unique_ptr<CpuDevice> device_;
};

inline std::string name_of_case(const ::testing::TestParamInfo<std::tuple<Level, std::size_t>>& info) {
  return std::string(name_of(std::get<0>(info.param))) + "_threads" + std::to_string(std::get<1>(info.param));
}

}  // namespace axon::cpu

#define AXON_EACH_LEVEL(Fixture)                                                                    \
  INSTANTIATE_TEST_SUITE_P(Levels, Fixture,                                                         \
                           ::testing::Combine(::testing::ValuesIn(::axon::cpu::supported_levels()), \
                                              ::testing::Values(std::size_t{1}, std::size_t{3})),   \
                           ::axon::cpu::name_of_case)
