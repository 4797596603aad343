#include "kernels/cpu/moe.h"

#include <vector>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class MoeBackwardTest : public EachLevel {};
AXON_EACH_LEVEL(MoeBackwardTest);

TEST_P(MoeBackwardTest, RouteAgreesWithReference) {
  for (const std::size_t experts : {1u, 2u, 8u, 60u}) {
    for (const std::size_t top_k : {1u, 2u, 5u}) {
      for (const float scale : {1.0f, 50.0f}) {
        if (top_k > experts) continue;
        const std::size_t T = 13;
        Matrix logits = Matrix::normal(T, experts, 1, scale), scores(T, top_k), dscores = Matrix::normal(T, top_k, 2);
        std::vector<std::uint32_t> chosen(T * top_k);
        const Mat<std::uint32_t> places{chosen.data(), T, top_k};
        device().route(logits.mat(), places, scores.mat());
        Matrix dlogits(T, experts), expected(T, experts);
        device().route_backward(logits.mat(), places, dscores.mat(), dlogits.mat());
        reference_.route_backward(logits.mat(), places, dscores.mat(), expected.mat());
        // p is off by a rounding for each expert, and dp - mean by as much of the largest.
        const double n = static_cast<double>(experts + top_k) + 60.0;
        EXPECT_TRUE(close(dlogits.mat(), expected.mat(), n * 2.0 * double{dscores.largest()} * 0x1p-24, 0.0));
        EXPECT_TRUE(dlogits.intact());
        device().route_backward(logits.mat(), places, dscores.mat(), logits.mat());
        EXPECT_TRUE(close(logits.mat(), dlogits.mat(), 0.0, 0.0));
      }
    }
  }
}

struct CombineCase {
  std::size_t T, top_k;
  Matrix routed, scores, shared, gate, dy;
  std::vector<std::uint32_t> slots;
  CombineCase(std::size_t tokens, std::size_t D, std::size_t k)
      : T(tokens),
        top_k(k),
        routed(Matrix::normal(T * k + 2, D, 1)),
        scores(Matrix::normal(T, k, 2)),
        shared(Matrix::normal(T, D, 3)),
        gate(Matrix::normal(T, 1, 4, 2.0f)),
        dy(Matrix::normal(T, D, 5)),
        slots(T * k) {
    for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<std::uint32_t>(slots.size() + 1 - i);
    if (T > 1) gate.row(1)[0] = -80.0f;
    if (T > 2) gate.row(2)[0] = 80.0f;
  }
  Mat<const std::uint32_t> places() const { return {slots.data(), T, top_k}; }
};

struct CombineGradients {
  Matrix drouted, dscores, dshared, dgate;
  explicit CombineGradients(CombineCase& c)
      : drouted(c.routed.mat().rows, c.dy.mat().cols),
        dscores(c.T, c.top_k),
        dshared(c.T, c.dy.mat().cols),
        dgate(c.T, 1) {}
  void compute(Device& device, CombineCase& c) {
    device.combine_backward(c.routed.mat(), c.places(), c.scores.mat(), c.shared.mat(), c.gate.mat(), c.dy.mat(),
                            drouted.mat(), dscores.mat(), dshared.mat(), dgate.mat());
  }
};

TEST_P(MoeBackwardTest, CombineAgreesWithReference) {
  for (const std::size_t top_k : {1u, 2u, 8u}) {
    for (const std::size_t T : {1u, 2u, 19u}) {
      for (const std::size_t D : {1u, 3u, 64u, 133u}) {
        CombineCase c(T, D, top_k);
        CombineGradients is(c), expected(c);
        is.compute(device(), c);
        expected.compute(reference_, c);
        // One rounding for each of D products and sums, as of D terms of the largest size.
        const double n = static_cast<double>(D);
        const double dot = n * double{c.dy.largest()} * double{std::max(c.routed.largest(), c.shared.largest())};
        const double dots = (n / 4.0 + 8.0) * 0x1p-24 * dot;
        EXPECT_TRUE(close(is.drouted.mat(), expected.drouted.mat(), 0.0, 0x1p-23));
        EXPECT_TRUE(close(is.dscores.mat(), expected.dscores.mat(), dots, 0.0));
        EXPECT_TRUE(close(is.dshared.mat(), expected.dshared.mat(), 1e-38, 0x1p-21));
        EXPECT_TRUE(close(is.dgate.mat(), expected.dgate.mat(), 0.25 * dots, 0x1p-20));  // sigmoid' is below 1/4
        EXPECT_TRUE(is.drouted.intact() && is.dscores.intact() && is.dshared.intact() && is.dgate.intact());

        const Matrix unused = c.routed;  // rows 0 and 1: no choice has them, nothing may be written there
        device().combine_backward(c.routed.mat(), c.places(), c.scores.mat(), c.shared.mat(), c.gate.mat(), c.dy.mat(),
                                  c.routed.mat(), is.dscores.mat(), c.shared.mat(), is.dgate.mat());
        Matrix before = unused;
        EXPECT_TRUE(close(c.routed.mat().rows_from(0, 2), before.mat().rows_from(0, 2), 0.0, 0.0));
        EXPECT_TRUE(close(c.routed.mat().rows_from(2, T * top_k), is.drouted.mat().rows_from(2, T * top_k), 0.0, 0.0));
        EXPECT_TRUE(close(c.shared.mat(), is.dshared.mat(), 0.0, 0.0));
        EXPECT_TRUE(close(is.dscores.mat(), expected.dscores.mat(), dots, 0.0));
        EXPECT_TRUE(close(is.dgate.mat(), expected.dgate.mat(), dots, 0.0));
      }
    }
  }
}

TEST_P(MoeBackwardTest, AddRowsAgreesWithReference) {
  for (const std::size_t top_k : {1u, 2u, 8u}) {
    for (const std::size_t D : {1u, 3u, 64u, 133u}) {
      const CombineCase c(19, D, top_k);
      Matrix rows = Matrix::normal(19 * top_k + 2, D, 1), x = Matrix::normal(19, D, 2), expected = x;
      device().add_rows(rows.mat(), c.places(), x.mat());
      reference_.add_rows(rows.mat(), c.places(), expected.mat());
      const double n = static_cast<double>(top_k) + 1.0;
      EXPECT_TRUE(close(x.mat(), expected.mat(), n * n * 5.0 * 0x1p-24, 0.0));
      EXPECT_TRUE(x.intact());
    }
  }
}

}  // namespace
}  // namespace axon::cpu
