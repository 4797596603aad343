#include "kernels/cpu/loss.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class LossTest : public EachLevel {};
AXON_EACH_LEVEL(LossTest);

std::vector<std::uint32_t> labels_of(std::size_t rows, std::size_t cols) {
  std::vector<std::uint32_t> labels(rows);
  for (std::size_t t = 0; t < rows; ++t) {
    labels[t] = t % 3 == 1 ? kNoLabel : static_cast<std::uint32_t>((t * 7919 + cols - 1) % cols);
  }
  return labels;
}

// Exponentials are off by 2e-6, and by a rounding of their argument, of which 20 matters still; so is their sum, and
// by a rounding for each of 1024 / 4 / 2 additions in a row at most. The logarithm passes that on as it is.
constexpr double kSumTolerance = 2e-6 + (20.0 + 128.0) * 0x1p-24;

TEST_P(LossTest, AgreesWithReference) {
  for (const std::size_t cols : {1u, 2u, 5u, 33u, 1023u, 1025u, 5000u, 32003u}) {
    for (const float scale : {0.01f, 1.0f, 30.0f, 1e4f, 1e37f}) {
      const std::size_t rows = cols > 5000 ? 2 : 9;
      Matrix logits = Matrix::normal(rows, cols, cols, scale), loss(1, rows), expected(1, rows);
      const auto labels = labels_of(rows, cols);
      device().cross_entropy(logits.mat(), labels, loss.row(0));
      reference_.cross_entropy(logits.mat(), labels, expected.row(0));
      EXPECT_TRUE(close(loss.mat(), expected.mat(), kSumTolerance, 0x1p-23)) << cols << " " << scale;
      EXPECT_TRUE(loss.intact());
    }
  }
}

TEST_P(LossTest, GradientAgreesWithReference) {
  for (const std::size_t cols : {1u, 2u, 5u, 33u, 1023u, 1025u, 5000u, 32003u}) {
    for (const float scale : {0.01f, 1.0f, 30.0f, 1e4f, 1e37f}) {
      const std::size_t rows = cols > 5000 ? 2 : 9;
      Matrix is = Matrix::normal(rows, cols, cols, scale), expected = is, factors = Matrix::normal(1, rows, 2);
      const auto labels = labels_of(rows, cols);
      device().cross_entropy_backward(is.mat(), labels, factors.row(0));
      reference_.cross_entropy_backward(expected.mat(), labels, factors.row(0));
      for (std::size_t t = 0; t < rows; ++t) {
        if (labels[t] == kNoLabel) continue;
        float &a = is.row(t)[labels[t]], &b = expected.row(t)[labels[t]];
        EXPECT_NEAR(a, b, double{factors.largest()} * (2.0 * kSumTolerance + 0x1p-22));  // p - 1: as p
        a = b = 0.0f;
      }
      // What is far below the largest is off by the rounding of up to 87, where it is taken for exp(-87).
      EXPECT_TRUE(close(is.mat(), expected.mat(), 1e-36, 2.0 * kSumTolerance + 90.0 * 0x1p-24)) << cols << " " << scale;
      EXPECT_TRUE(is.intact());
    }
  }
}

TEST_P(LossTest, NoLabelMeansNoLossAndNoGradient) {
  Matrix logits = Matrix::normal(2, 40, 1), loss = Matrix::normal(1, 2, 2), factors = Matrix::normal(1, 2, 3);
  const std::vector<std::uint32_t> labels{kNoLabel, kNoLabel};
  device().cross_entropy(logits.mat(), labels, loss.row(0));
  device().cross_entropy_backward(logits.mat(), labels, factors.row(0));
  EXPECT_EQ(loss.largest(), 0.0f);
  EXPECT_EQ(logits.largest(), 0.0f);
}

TEST_P(LossTest, DoesNotHideWhatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const std::size_t at : {0u, 17u, 40u, 1023u, 1024u, 1050u}) {
      Matrix logits = Matrix::normal(1, 1051, 1), loss(1, 1), factors = Matrix::normal(1, 1, 3);
      logits.row(0)[at] = bad;
      const std::vector<std::uint32_t> labels{5};
      device().cross_entropy(logits.mat(), labels, loss.row(0));
      EXPECT_FALSE(std::isfinite(loss.row(0)[0])) << at;
      device().cross_entropy_backward(logits.mat(), labels, factors.row(0));
      EXPECT_TRUE(std::isnan(logits.row(0)[5]) && std::isnan(logits.row(0)[1050])) << at;
    }
  }
}

}  // namespace
}  // namespace axon::cpu
