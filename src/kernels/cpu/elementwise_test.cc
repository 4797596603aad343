#include "kernels/cpu/elementwise.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/cpu_device_testing.h"
#include "tensor/dtype.h"

namespace axon::cpu {
namespace {

class ElementwiseTest : public EachLevel {};
AXON_EACH_LEVEL(ElementwiseTest);

using Function = void (*)(std::span<const float>, std::span<float>);

// The contract of math-inl.h: relative error 2e-6 where the result is normal, below that anything under 2^-125.
void expect_accurate(Function f, double (*truth)(double), float lowest, float highest) {
  std::vector<float> x;
  const CounterRng rng(7);
  for (std::size_t i = 0; i < 20001; ++i) {
    x.push_back(lowest + (highest - lowest) * static_cast<float>(rng.uniform(i)));
    x.push_back(std::ldexp(i % 2 == 0 ? lowest : highest, -static_cast<int>(i % 60)));  // towards zero
  }
  x.insert(x.end(), {lowest, highest});
  std::vector<float> y(x.size());
  f(x, y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = truth(double{x[i]});
    // x * f(x) of an underflown f is below |x| * 2^-125.
    const double floor = std::max(1.0, std::fabs(double{x[i]})) * 0x1p-125;
    ASSERT_NEAR(double{y[i]}, expected, 2e-6 * std::fabs(expected) + floor) << "at " << x[i];
  }
}

TEST_P(ElementwiseTest, ExpIsAccurate) {
  expect_accurate(elementwise::exp_nonpositive, [](double x) { return std::exp(x); }, -200.0f, 0.0f);
  std::vector<float> zero{0.0f, -0.0f}, one(2);
  elementwise::exp_nonpositive(zero, one);
  EXPECT_EQ(one, (std::vector<float>{1.0f, 1.0f}));
}
TEST_P(ElementwiseTest, SigmoidIsAccurate) {
  expect_accurate(elementwise::sigmoid, [](double x) { return 1.0 / (1.0 + std::exp(-x)); }, -200.0f, 200.0f);
}
TEST_P(ElementwiseTest, SiluIsAccurate) {
  expect_accurate(elementwise::silu, [](double x) { return x / (1.0 + std::exp(-x)); }, -200.0f, 200.0f);
  expect_accurate(elementwise::silu, [](double x) { return x / (1.0 + std::exp(-x)); }, -1e6f, 1e30f);
}
TEST_P(ElementwiseTest, SoftplusIsAccurate) {
  const auto truth = [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); };
  expect_accurate(elementwise::softplus, truth, -200.0f, 200.0f);
  expect_accurate(elementwise::softplus, truth, -1e6f, 1e30f);
}

TEST_P(ElementwiseTest, EveryHalfIsReadExactly) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> y(halves.size());
  elementwise::from_half(halves, y);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float expected = f16_to_float(halves[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(y[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST_P(ElementwiseTest, HalvesAreRoundedToNearestEven) {
  std::vector<float> x;
  for (std::uint32_t h = 0; h < 0x7C00; ++h) {  // every half, what lies midway to the next, and beside that
    const float low = f16_to_float(static_cast<std::uint16_t>(h));
    const float middle = low + (h + 1 < 0x7C00 ? (f16_to_float(static_cast<std::uint16_t>(h + 1)) - low) / 2 : 16.0f);
    for (const float v : {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      x.push_back(v);
      x.push_back(-v);
    }
  }
  x.insert(x.end(), {1e-30f, -1e-30f, 1e30f, -1e30f, std::numeric_limits<float>::infinity()});
  std::vector<std::uint16_t> y(x.size());
  elementwise::to_half(x, y);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], float_to_f16(x[i])) << x[i];
}

TEST_P(ElementwiseTest, SwigluAgreesWithReference) {
  for (const std::size_t cols : {1u, 3u, 16u, 37u, 200u}) {
    for (const std::size_t rows : {1u, 2u, 19u}) {
      Matrix gate = Matrix::normal(rows, cols, 1, 20.0f), up = Matrix::normal(rows, cols, 2), h(rows, cols);
      Matrix expected(rows, cols);
      device().swiglu(gate.mat(), up.mat(), h.mat());
      reference_.swiglu(gate.mat(), up.mat(), expected.mat());
      // silu's 2e-6 and two roundings.
      EXPECT_TRUE(close(h.mat(), expected.mat(), 1e-30, 2.2e-6));
      EXPECT_TRUE(h.intact());
      device().swiglu(gate.mat(), up.mat(), gate.mat());
      EXPECT_TRUE(close(gate.mat(), h.mat(), 0.0, 0.0));
    }
  }
}

TEST_P(ElementwiseTest, SwigluBackwardAgreesWithReference) {
  for (const std::size_t cols : {1u, 3u, 16u, 37u, 200u}) {
    for (const float scale : {0.01f, 2.0f, 20.0f, 1e4f}) {
      const std::size_t rows = 19;
      Matrix gate = Matrix::normal(rows, cols, 1, scale), up = Matrix::normal(rows, cols, 2);
      Matrix dh = Matrix::normal(rows, cols, 3), dgate(rows, cols), dup(rows, cols);
      Matrix expected_gate(rows, cols), expected_up(rows, cols);
      device().swiglu_backward(gate.mat(), up.mat(), dh.mat(), dgate.mat(), dup.mat());
      reference_.swiglu_backward(gate.mat(), up.mat(), dh.mat(), expected_gate.mat(), expected_up.mat());
      EXPECT_TRUE(close(dup.mat(), expected_up.mat(), 1e-30, 2.2e-6));
      // silu' is zero at -1.28, where its terms are 0.22.
      const double size = double{up.largest()} * double{dh.largest()};
      EXPECT_TRUE(close(dgate.mat(), expected_gate.mat(), 0.22 * size * 4e-6, 4e-6));
      EXPECT_TRUE(dgate.intact() && dup.intact());

      Matrix over_gate = gate, over_up = up;
      device().swiglu_backward(over_gate.mat(), over_up.mat(), dh.mat(), over_gate.mat(), over_up.mat());
      EXPECT_TRUE(close(over_gate.mat(), dgate.mat(), 0.0, 0.0) && close(over_up.mat(), dup.mat(), 0.0, 0.0));
      device().swiglu_backward(gate.mat(), up.mat(), dh.mat(), gate.mat(), dh.mat());
      EXPECT_TRUE(close(gate.mat(), dgate.mat(), 0.0, 0.0) && close(dh.mat(), dup.mat(), 0.0, 0.0));
    }
  }
}

}  // namespace
}  // namespace axon::cpu
