#include "kernels/cpu/scan.h"

#include <algorithm>
#include <vector>

#include <rapidcheck.h>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class ConvTest : public EachLevel {};
AXON_EACH_LEVEL(ConvTest);
class ScanTest : public EachLevel {};
AXON_EACH_LEVEL(ScanTest);

// A prompt of T in pieces: sizes of at least 1 that sum to T.
std::vector<std::size_t> random_cut(std::size_t T) {
  std::vector<std::size_t> pieces;
  while (T > 0) {
    const auto piece = *rc::gen::inRange<std::size_t>(1, T + 1);
    pieces.push_back(piece);
    T -= piece;
  }
  return pieces;
}

struct ConvCase {
  Matrix x, taps, bias, tail;
  ConvCase(std::size_t T, std::size_t E, std::size_t K)
      : x(Matrix::normal(T, E, 1)), taps(Matrix::normal(K, E, 2)), bias(Matrix::normal(1, E, 3)),
        tail(Matrix::normal(K - 1, E, 4)) {}
  // K products and a sum of K + 1 terms, each rounded once; silu's slope is below 1.1 and its error 2e-6.
  double tolerance() {
    const auto K = static_cast<double>(taps.mat().rows);
    const double most = K * double{taps.largest()} * double{std::max(x.largest(), tail.largest())} + 4.0;
    return most * ((K + 2.0) * 0x1p-24 + 2e-6);
  }
};

TEST_P(ConvTest, AgreesWithReference) {
  for (const std::size_t K : {1u, 2u, 3u, 4u, 5u, 8u}) {
    for (const std::size_t T : {1u, 2u, 3u, 4u, 9u, 70u}) {
      for (const std::size_t E : {1u, 19u, 64u, 300u, 1030u}) {
        ConvCase c(T, E, K), e(T, E, K);
        Matrix u(T, E), expected(T, E);
        device().conv_silu(c.x.mat(), c.taps.mat(), c.bias.row(0), c.tail.mat(), u.mat());
        reference_.conv_silu(e.x.mat(), e.taps.mat(), e.bias.row(0), e.tail.mat(), expected.mat());
        ASSERT_TRUE(close(u.mat(), expected.mat(), c.tolerance(), 0.0)) << K << " " << T << " " << E;
        ASSERT_TRUE(close(c.tail.mat(), e.tail.mat(), 0.0, 0.0)) << K << " " << T << " " << E;
        ASSERT_TRUE(u.intact() && c.tail.intact());
      }
    }
  }
}

TEST_P(ConvTest, SplitAnywhereEqualsOneShot) {
  EXPECT_TRUE(rc::check([&] {
    const auto T = *rc::gen::inRange<std::size_t>(1, 30), K = *rc::gen::inRange<std::size_t>(1, 9);
    const std::size_t E = 21;
    ConvCase once(T, E, K), cut(T, E, K);
    Matrix expected(T, E), u(T, E);
    reference_.conv_silu(once.x.mat(), once.taps.mat(), once.bias.row(0), once.tail.mat(), expected.mat());
    std::size_t t = 0;
    for (const std::size_t n : random_cut(T)) {
      device().conv_silu(cut.x.mat().rows_from(t, n), cut.taps.mat(), cut.bias.row(0), cut.tail.mat(),
                         u.mat().rows_from(t, n));
      t += n;
    }
    RC_ASSERT(close(u.mat(), expected.mat(), once.tolerance(), 0.0));
    RC_ASSERT(close(cut.tail.mat(), once.tail.mat(), 0.0, 0.0));
  }));
}

struct ScanCase {
  Matrix u, z, bcdt, dt_weight, dt_bias, a, d, h;
  ScanCase(std::size_t T, std::size_t E, std::size_t N, float dt_scale)
      : u(Matrix::normal(T, E, 1)), z(Matrix::normal(T, E, 2)), bcdt(Matrix::normal(T, 2 * N + 1, 3)),
        dt_weight(Matrix::normal(1, E, 4, dt_scale)), dt_bias(Matrix::normal(1, E, 5, dt_scale)), a(N, E),
        d(Matrix::normal(1, E, 6)), h(Matrix::normal(N, E, 7)) {
    for (std::size_t n = 0; n < N; ++n) {
      for (std::size_t e = 0; e < E; ++e) {
        a.row(n)[e] = -static_cast<float>(n + 1) * (0.5f + static_cast<float>(e % 7) / 7.0f);
      }
    }
  }
  ScanInput input(std::size_t first, std::size_t count) {
    return {u.mat().rows_from(first, count), z.mat().rows_from(first, count), bcdt.mat().rows_from(first, count),
            dt_weight.row(0), dt_bias.row(0), a.mat(), d.row(0)};
  }
};

// Errors of h and y relative to the sum of the magnitudes of their terms, which positive inputs make the value itself.
// A step's decay is exp2(v), v rounded to 2^-24 of up to 126 before it matters no more (2^-126): |v| 2^v is below
// 0.54, so a decay is off by 2e-6 of itself plus 0.54 * 2^-22 at most; dt by 3e-6; and what decays forgets its errors
// too. What remains is bounded by the number of tokens that are remembered, at most T.
double scan_tolerance(std::size_t T, std::size_t N) {
  return (static_cast<double>(std::min<std::size_t>(T, 64)) + static_cast<double>(N)) * 1e-6 + 1e-5;
}

void make_positive(Matrix& m) {
  for (std::size_t r = 0; r < m.mat().rows; ++r) {
    for (float& v : m.row(r)) v = std::fabs(v);
  }
}

TEST_P(ScanTest, AgreesWithReference) {
  for (const std::size_t N : {1u, 4u, 12u, 16u, 32u}) {
    for (const std::size_t T : {1u, 2u, 33u}) {
      for (const std::size_t E : {1u, 7u, 63u, 64u, 130u, 200u}) {
        // dt_scale 0: dt = log 2; 1000: softplus from far below the lower clip to far above the upper one.
        for (const float dt_scale : {0.0f, 1.0f, 1000.0f}) {
          ScanCase c(T, E, N, dt_scale);
          for (Matrix* m : {&c.u, &c.d, &c.h}) make_positive(*m);
          for (std::size_t t = 0; t < T; ++t) {
            for (std::size_t n = 0; n < 2 * N; ++n) c.bcdt.row(t)[n] = std::fabs(c.bcdt.row(t)[n]);
          }
          Matrix h = c.h, expected_h = c.h, y(T, E), expected(T, E);
          device().scan(c.input(0, T), h.mat(), y.mat());
          reference_.scan(c.input(0, T), expected_h.mat(), expected.mat());
          ASSERT_TRUE(close(y.mat(), expected.mat(), 1e-30, scan_tolerance(T, N))) << N << " " << T << " " << E;
          ASSERT_TRUE(close(h.mat(), expected_h.mat(), 1e-30, scan_tolerance(T, N))) << N << " " << T << " " << E;
          ASSERT_TRUE(y.intact() && h.intact());
        }
      }
    }
  }
}

TEST_P(ScanTest, OutputMayReplaceEitherInput) {
  ScanCase c(20, 75, 16, 1.0f), over_u = c, over_z = c;
  Matrix y(20, 75);
  device().scan(c.input(0, 20), c.h.mat(), y.mat());
  device().scan(over_u.input(0, 20), over_u.h.mat(), over_u.u.mat());
  device().scan(over_z.input(0, 20), over_z.h.mat(), over_z.z.mat());
  EXPECT_TRUE(close(over_u.u.mat(), y.mat(), 0.0, 0.0));
  EXPECT_TRUE(close(over_z.z.mat(), y.mat(), 0.0, 0.0));
}

TEST_P(ScanTest, SplitAnywhereEqualsOneShot) {
  EXPECT_TRUE(rc::check([&] {
    const auto T = *rc::gen::inRange<std::size_t>(1, 40), E = *rc::gen::inRange<std::size_t>(1, 90);
    const std::size_t N = 16;
    ScanCase once(T, E, N, 1.0f), cut = once;
    Matrix expected(T, E), y(T, E);
    device().scan(once.input(0, T), once.h.mat(), expected.mat());
    std::size_t t = 0;
    for (const std::size_t n : random_cut(T)) {
      device().scan(cut.input(t, n), cut.h.mat(), y.mat().rows_from(t, n));
      t += n;
    }
    // The state passes through memory as it is: the same operations on the same numbers.
    RC_ASSERT(close(y.mat(), expected.mat(), 0.0, 0.0));
    RC_ASSERT(close(cut.h.mat(), once.h.mat(), 0.0, 0.0));
  }));
}

}  // namespace
}  // namespace axon::cpu
