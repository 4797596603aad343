#include "kernels/cpu/conv_backward.h"

#include <algorithm>

#include <rapidcheck.h>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class ConvBackwardTest : public EachLevel {};
AXON_EACH_LEVEL(ConvBackwardTest);

struct Case {
  Matrix input, taps, bias, du, carry;  // input: of the tail and then x
  std::size_t T, K;
  Case(std::size_t tokens, std::size_t E, std::size_t taps_count)
      : input(Matrix::normal(taps_count - 1 + tokens, E, 1)),
        taps(Matrix::normal(taps_count, E, 2)),
        bias(Matrix::normal(1, E, 3)),
        du(Matrix::normal(tokens, E, 4)),
        carry(Matrix::normal(taps_count - 1, E, 5)),
        T(tokens),
        K(taps_count) {}
  Mat<float> x() { return input.mat().rows_from(K - 1, T); }
  // Tokens [first, first + count); dx over them.
  void compute(Device& device, std::size_t first, std::size_t count, Matrix& want, Mat<float> dx) {
    device.conv_silu_backward(input.mat().rows_from(K - 1 + first, count), taps.mat(), bias.row(0),
                              input.mat().rows_from(first, K - 1), du.mat().rows_from(first, count), want.mat(),
                              dx.rows_from(first, count));
  }
  // A sum of K products and the bias is off by a rounding for each; silu's slope is below 1.1, has itself a slope of
  // at most 0.5, and is off by 3e-6; then there are K products again, and what is carried.
  double tolerance() {
    const double taps_count = static_cast<double>(K), tap = double{taps.largest()}, rounding = 0x1p-24;
    const double sum = taps_count * tap * double{input.largest()} + double{bias.largest()};
    const double slope = 0.5 * sum * (taps_count + 2.0) * rounding + 3e-6;
    const double most = taps_count * tap * double{du.largest()};
    return most * (slope + 1.1 * (taps_count + 2.0) * rounding) + (taps_count + 2.0) * rounding * 10.0;
  }
};

TEST_P(ConvBackwardTest, AgreesWithReference) {
  for (const std::size_t K : {1u, 2u, 3u, 4u, 5u, 8u}) {
    for (const std::size_t T : {1u, 2u, 3u, 4u, 6u, 7u, 9u, 40u}) {
      for (const std::size_t E : {1u, 19u, 64u, 300u}) {
        Case c(T, E, K);
        Matrix want = c.carry, expected_want = c.carry, dx(T, E), expected(T, E);
        c.compute(device(), 0, T, want, dx.mat());
        c.compute(reference_, 0, T, expected_want, expected.mat());
        ASSERT_TRUE(close(dx.mat(), expected.mat(), c.tolerance(), 0.0)) << K << " " << T << " " << E;
        ASSERT_TRUE(close(want.mat(), expected_want.mat(), c.tolerance(), 0.0)) << K << " " << T << " " << E;
        ASSERT_TRUE(dx.intact() && want.intact());
      }
    }
  }
}

TEST_P(ConvBackwardTest, GradientMayReplaceEitherInput) {
  for (const std::size_t K : {3u, 4u}) {
    Case c(20, 75, K), over_x = c, over_du = c;
    Matrix dx(20, 75), want = c.carry, want_x = c.carry, want_du = c.carry;
    c.compute(device(), 0, 20, want, dx.mat());
    over_x.compute(device(), 0, 20, want_x, over_x.x());
    over_du.compute(device(), 0, 20, want_du, over_du.du.mat());
    EXPECT_TRUE(close(over_x.x(), dx.mat(), 0.0, 0.0));
    EXPECT_TRUE(close(over_du.du.mat(), dx.mat(), 0.0, 0.0));
    EXPECT_TRUE(close(want_x.mat(), want.mat(), 0.0, 0.0));
    EXPECT_TRUE(close(want_du.mat(), want.mat(), 0.0, 0.0));
  }
}

TEST_P(ConvBackwardTest, SplitAnywhereEqualsOneShot) {
  EXPECT_TRUE(rc::check([&] {
    const auto T = *rc::gen::inRange<std::size_t>(1, 30), K = *rc::gen::inRange<std::size_t>(1, 9);
    Case c(T, 21, K);
    Matrix want = c.carry, expected_want = c.carry, dx(T, 21), expected(T, 21);
    c.compute(reference_, 0, T, expected_want, expected.mat());
    for (std::size_t left = T; left > 0;) {
      const auto count = *rc::gen::inRange<std::size_t>(1, left + 1);
      left -= count;
      c.compute(device(), left, count, want, dx.mat());
    }
    RC_ASSERT(close(dx.mat(), expected.mat(), c.tolerance(), 0.0));
    RC_ASSERT(close(want.mat(), expected_want.mat(), c.tolerance(), 0.0));
  }));
}

TEST(ConvBackward, CostsNothingWithoutTaps) {
  EXPECT_EQ(CpuDevice::scratch({}, 3).peak() + Bytes{3 * 4 * 256 * sizeof(float)},
            CpuDevice::scratch({.back_taps_max = 4}, 3).peak());
}

}  // namespace
}  // namespace axon::cpu
