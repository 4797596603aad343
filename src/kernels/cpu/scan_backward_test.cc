#include "kernels/cpu/scan_backward.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_device_testing.h"
#include "memory/no_allocation.h"

namespace axon::cpu {
namespace {

class ScanBackwardTest : public EachLevel {};
AXON_EACH_LEVEL(ScanBackwardTest);

struct Case {
  std::size_t T, E, N;
  Matrix u, z, bcdt, dt_weight, dt_bias, a, d, h, dy, dh;
  // dt_scale 0: dt = log 2; 1000: from far below the lower clip to far above the upper one.
  Case(std::size_t tokens, std::size_t channels, std::size_t states, float dt_scale)
      : T(tokens),
        E(channels),
        N(states),
        u(Matrix::normal(T, E, 1)),
        z(Matrix::normal(T, E, 2, 3.0f)),
        bcdt(Matrix::normal(T, 2 * N + 1, 3)),
        dt_weight(Matrix::normal(1, E, 4, dt_scale)),
        dt_bias(Matrix::normal(1, E, 5, dt_scale)),
        a(N, E),
        d(Matrix::normal(1, E, 6)),
        h(Matrix::normal(N, E, 7)),
        dy(Matrix::normal(T, E, 8)),
        dh(Matrix::normal(N, E, 9)) {
    for (std::size_t n = 0; n < N; ++n) {
      for (std::size_t e = 0; e < E; ++e) {
        a.row(n)[e] = -static_cast<float>(n + 1) * (0.5f + static_cast<float>(e % 7) / 7.0f);
      }
    }
  }
  ScanInput input(std::size_t first, std::size_t count) {
    return {u.mat().rows_from(first, count),
            z.mat().rows_from(first, count),
            bcdt.mat().rows_from(first, count),
            dt_weight.row(0),
            dt_bias.row(0),
            a.mat(),
            d.row(0)};
  }
  ScanInput input() { return input(0, T); }
};

struct Gradients {
  Matrix dh, du, dz, dbcdt;
  explicit Gradients(Case& c) : dh(c.dh), du(c.T, c.E), dz(c.T, c.E), dbcdt(c.T, 2 * c.N + 1) {}
  void compute(Device& device, Case& c) {
    device.scan_backward(c.input(), c.h.mat(), c.dy.mat(), dh.mat(), du.mat(), dz.mat(), dbcdt.mat());
  }
};

// The sums behind each result, with all terms as magnitudes: what its error is to be measured by.
struct Magnitudes {
  std::vector<double> dh, du, dz, dbcdt;
};

// One channel.
void add_magnitudes(Case& c, std::size_t e, Magnitudes& m) {
  const std::size_t T = c.T, N = c.N, S = 2 * N + 1;
  const auto size = [](float v) { return std::fabs(double{v}); };
  const double w = size(c.dt_weight.row(0)[e]), skip = size(c.d.row(0)[e]);
  std::vector<double> dt(T), states((T + 1) * N);
  for (std::size_t n = 0; n < N; ++n) states[n] = size(c.h.row(n)[e]);
  for (std::size_t t = 0; t < T; ++t) {
    const double raw = double{c.bcdt.row(t)[2 * N]} * double{c.dt_weight.row(0)[e]} + double{c.dt_bias.row(0)[e]};
    dt[t] = std::clamp(std::max(raw, 0.0) + std::log1p(std::exp(-std::fabs(raw))), 1e-4, 100.0);
    for (std::size_t n = 0; n < N; ++n) {
      states[(t + 1) * N + n] = std::exp(dt[t] * double{c.a.row(n)[e]}) * states[t * N + n] +
                                dt[t] * size(c.u.row(t)[e]) * size(c.bcdt.row(t)[n]);
    }
  }
  std::vector<double> ds(N);
  for (std::size_t n = 0; n < N; ++n) ds[n] = size(c.dh.row(n)[e]);
  for (std::size_t t = T; t-- > 0;) {
    const double u = size(c.u.row(t)[e]), z = size(c.z.row(t)[e]), dy = size(c.dy.row(t)[e]);
    double sum = skip * u, du = dy * z * skip, ddt = 0.0;
    for (std::size_t n = 0; n < N; ++n) {
      const double b = size(c.bcdt.row(t)[n]), g = size(c.bcdt.row(t)[N + n]), a = double{c.a.row(n)[e]};
      sum += g * states[(t + 1) * N + n];
      m.dbcdt[t * S + N + n] += dy * z * states[(t + 1) * N + n];
      ds[n] += dy * z * g;
      m.dbcdt[t * S + n] += ds[n] * dt[t] * u;
      du += ds[n] * dt[t] * b;
      ddt += ds[n] * (std::fabs(a) * std::exp(dt[t] * a) * states[t * N + n] + u * b);
      ds[n] *= std::exp(dt[t] * a);
    }
    m.dbcdt[t * S + 2 * N] += ddt * w;
    m.du[t * c.E + e] = du;
    m.dz[t * c.E + e] = dy * sum * (1.0 + z);
  }
  for (std::size_t n = 0; n < N; ++n) m.dh[n * c.E + e] = ds[n];
}

Magnitudes magnitudes(Case& c) {
  Magnitudes m{std::vector<double>(c.N * c.E), std::vector<double>(c.T * c.E), std::vector<double>(c.T * c.E),
               std::vector<double>(c.T * (2 * c.N + 1))};
  for (std::size_t e = 0; e < c.E; ++e) add_magnitudes(c, e, m);
  return m;
}

::testing::AssertionResult close_by(Matrix& a, Matrix& b, const std::vector<double>& size, double relative) {
  for (std::size_t r = 0; r < a.mat().rows; ++r) {
    for (std::size_t c = 0; c < a.mat().cols; ++c) {
      const double off = std::fabs(double{a.row(r)[c]} - double{b.row(r)[c]});
      const double allowed = 1e-30 + relative * size[r * a.mat().cols + c];
      if (!(off <= allowed)) {
        return ::testing::AssertionFailure() << "[" << r << "," << c << "] is " << a.row(r)[c] << ", not "
                                             << b.row(r)[c] << ": off by " << off << ", allowed " << allowed;
      }
    }
  }
  return ::testing::AssertionSuccess();
}

// As in scan_test.cc, for the way there and the way back.
double tolerance(const Case& c) {
  return 2.0 * ((static_cast<double>(std::min<std::size_t>(c.T, 64)) + static_cast<double>(c.N)) * 1e-6 + 1e-5);
}
// All of dh has gone through a decay, exp(v) with v off by 3e-6 of itself; below -70 it is nothing.
constexpr double kDecayTolerance = 70.0 * 3e-6;

void expect_close(Gradients& is, Gradients& expected, Case& c, const Magnitudes& size) {
  EXPECT_TRUE(close_by(is.du, expected.du, size.du, tolerance(c)));
  EXPECT_TRUE(close_by(is.dz, expected.dz, size.dz, tolerance(c)));
  EXPECT_TRUE(close_by(is.dbcdt, expected.dbcdt, size.dbcdt, tolerance(c)));
  EXPECT_TRUE(close_by(is.dh, expected.dh, size.dh, tolerance(c) + kDecayTolerance));
  EXPECT_TRUE(is.dh.intact() && is.du.intact() && is.dz.intact() && is.dbcdt.intact());
}

bool same(Gradients& a, Gradients& b) {
  return close(a.dh.mat(), b.dh.mat(), 0.0, 0.0) && close(a.du.mat(), b.du.mat(), 0.0, 0.0) &&
         close(a.dz.mat(), b.dz.mat(), 0.0, 0.0) && close(a.dbcdt.mat(), b.dbcdt.mat(), 0.0, 0.0);
}

TEST_P(ScanBackwardTest, AgreesWithReference) {
  struct Shape {
    std::size_t T, E, N;
  };
  // A token, a piece of tokens (32), a block (64) and a slice (256) of channels, and a little more and less.
  for (const Shape& s : std::vector<Shape>{
           {1, 1, 1}, {2, 7, 2}, {1, 257, 16}, {31, 64, 3}, {32, 63, 4}, {33, 300, 5}, {65, 130, 16}, {150, 21, 12}}) {
    for (const float dt_scale : {0.0f, 1.0f, 1000.0f}) {
      SCOPED_TRACE(testing::Message() << s.T << " tokens " << s.E << " channels " << s.N << " states, " << dt_scale);
      Case c(s.T, s.E, s.N, dt_scale);
      Gradients is(c), expected(c);
      is.compute(device(), c);
      expected.compute(reference_, c);
      expect_close(is, expected, c, magnitudes(c));
    }
  }
}

TEST_P(ScanBackwardTest, ClippedStepsHaveNoGradient) {
  for (const float raw : {-12.0f, 120.0f}) {
    Case c(3, 70, 4, 0.0f);
    for (std::size_t e = 0; e < c.E; ++e) {
      c.dt_weight.row(0)[e] = 0.001f;
      c.dt_bias.row(0)[e] = raw;
    }
    Gradients is(c);
    is.compute(device(), c);
    for (std::size_t t = 0; t < c.T; ++t) EXPECT_EQ(is.dbcdt.row(t)[2 * c.N], 0.0f);
    EXPECT_GT(is.du.largest(), 0.0f);
  }
}

TEST_P(ScanBackwardTest, GradientsMayReplaceInputs) {
  Case c(40, 75, 16, 1.0f), over_dy = c, over_u = c, only_dz = c;
  Gradients apart(c), first(c), second(c), third(c);
  apart.compute(device(), c);
  const auto run = [&](Case& in, Gradients& g, Matrix& du, Matrix& dz) {
    {
      const NoAllocation sealed;
      device().scan_backward(in.input(), in.h.mat(), in.dy.mat(), g.dh.mat(), du.mat(), dz.mat(), g.dbcdt.mat());
    }
    g.du = du;
    g.dz = dz;
  };
  run(over_dy, first, over_dy.dy, over_dy.z);
  run(over_u, second, over_u.u, over_u.dy);
  run(only_dz, third, only_dz.u, only_dz.z);
  EXPECT_TRUE(same(first, apart));
  EXPECT_TRUE(same(second, apart));
  EXPECT_TRUE(same(third, apart));
}

TEST_P(ScanBackwardTest, DoesNotDependOnTheNumberOfThreads) {
  Case c(37, 600, 8, 1.0f);
  Ledger ledger(64_MiB);
  const DeviceLimits limits{.states_max = 8, .back_tokens_max = 37, .back_channels_max = 600};
  auto two = CpuDevice::create(ledger, limits, 2, Arithmetic::kExact).value();
  Gradients a(c), b(c);
  a.compute(device(), c);
  b.compute(*two, c);
  EXPECT_TRUE(same(a, b));
}

// dh carries what later tokens want of the state.
TEST_P(ScanBackwardTest, SplitAnywhereEqualsOneShot) {
  Case c(70, 66, 16, 1.0f);
  Gradients once(c);
  once.compute(reference_, c);
  const Magnitudes size = magnitudes(c);
  for (const std::size_t cut : {1u, 32u, 45u, 69u}) {
    Gradients g(c);
    Matrix middle = c.h, y(c.T, c.E);
    device().scan(c.input(0, cut), middle.mat(), y.mat().rows_from(0, cut));
    const auto part = [&](std::size_t first, std::size_t count, Matrix& h) {
      device().scan_backward(c.input(first, count), h.mat(), c.dy.mat().rows_from(first, count), g.dh.mat(),
                             g.du.mat().rows_from(first, count), g.dz.mat().rows_from(first, count),
                             g.dbcdt.mat().rows_from(first, count));
    };
    part(cut, c.T - cut, middle);
    part(0, cut, c.h);
    expect_close(g, once, c, size);
  }
}

TEST(ScanBackward, CostsNothingWithoutTokens) {
  const DeviceLimits forward{.states_max = 16};
  DeviceLimits back = forward;
  back.back_channels_max = 960;
  EXPECT_EQ(CpuDevice::scratch(back, 2).peak(), CpuDevice::scratch(forward, 2).peak());
  back.back_tokens_max = 1;
  EXPECT_GT(CpuDevice::scratch(back, 2).peak(), CpuDevice::scratch(forward, 2).peak());
}

}  // namespace
}  // namespace axon::cpu
