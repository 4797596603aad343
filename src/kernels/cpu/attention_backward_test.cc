#include "kernels/cpu/attention_backward.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <rapidcheck.h>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class AttentionBackwardTest : public EachLevel {};
AXON_EACH_LEVEL(AttentionBackwardTest);

struct Shape {
  std::size_t T, H, A, window;
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "T " << s.T << " H " << s.H << " A " << s.A << " window " << s.window;
}

// What a layer has at hand: its inputs, the gradient of its output, and room for the rest.
struct Layer {
  Shape shape;
  Matrix q, k, v, dy, y, log_sums, dq, dk, dv;
  Layer(const Shape& s, float scale)
      : shape(s),
        q(Matrix::normal(s.T, s.H * s.A, 1, scale)),
        k(Matrix::normal(s.T, s.H * s.A, 2, scale)),
        v(Matrix::normal(s.T, s.H * s.A, 3)),
        dy(Matrix::normal(s.T, s.H * s.A, 4)),
        y(s.T, s.H * s.A),
        log_sums(s.H, s.T),
        dq(s.T, s.H * s.A),
        dk(s.T, s.H * s.A),
        dv(s.T, s.H * s.A) {}
  void forward(Device& device) {
    device.attend_alone(q.mat(), k.mat(), v.mat(), shape.H, shape.window, y.mat(), log_sums.mat());
  }
  void backward(Device& device) {
    device.attend_backward(q.mat(), k.mat(), v.mat(), shape.H, shape.window, y.mat(), log_sums.mat(), dy.mat(),
                           dq.mat(), dk.mat(), dv.mat());
  }
  bool intact() const {
    for (const Matrix* m : {&q, &k, &v, &dy, &y, &log_sums, &dq, &dk, &dv}) {
      if (!m->intact()) return false;
    }
    return true;
  }
};

double longest(Matrix& m, std::size_t A) {
  double most = 0.0;
  for (std::size_t t = 0; t < m.mat().rows; ++t) {
    for (std::size_t a = 0; a < m.mat().cols; a += A) {
      double squares = 0.0;
      for (std::size_t i = a; i < a + A; ++i) squares += double{m.row(t)[i]} * double{m.row(t)[i]};
      most = std::max(most, squares);
    }
  }
  return std::sqrt(most);
}

// The most weight that all queries together give to a key.
double heaviest_key(Layer& layer) {
  const auto [T, H, A, window] = layer.shape;
  double most = 0.0;
  for (std::size_t head = 0; head < H; ++head) {
    std::vector<double> weight(T, 0.0);
    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t j = t + 1 - std::min(window, t + 1); j <= t; ++j) {
        double dot = 0.0;
        for (std::size_t a = head * A; a < head * A + A; ++a)
          dot += double{layer.q.row(t)[a]} * double{layer.k.row(j)[a]};
        weight[j] += std::exp(dot / std::sqrt(static_cast<double>(A)) - double{layer.log_sums.row(head)[t]});
      }
    }
    most = std::max(most, *std::max_element(weight.begin(), weight.end()));
  }
  return most;
}

// A product of vectors of lengths x and y in float32: 8 * 2^-24 * x y leaves room for the rounding of A terms and of
// their sums, whose errors are independent. A score is such a product; log of the sum of exp is off by as much, by its
// own rounding and by its terms' exp2, 2e-6.
struct Tolerance {
  double y, log_sum, dq, dk, dv;
};
Tolerance tolerance(Layer& layer) {
  const std::size_t A = layer.shape.A;
  const double n = static_cast<double>(std::min(layer.shape.window, layer.shape.T)), dot = 8.0 * 0x1p-24;
  const double root = std::sqrt(static_cast<double>(A)), score = longest(layer.q, A) * longest(layer.k, A) / root;
  const double exponent = dot * (score + std::log(n)) + 2e-6;  // of a weight, so the weight's relative error
  const double sum = 0x1p-23 * std::sqrt(n);                   // of n terms
  // dp and dy.y are no larger than d; ds is a weight times their difference.
  const double d = longest(layer.dy, A) * longest(layer.v, A);
  const double ds = d * (2.0 * exponent + 2.0 * dot + 2.0 * sum);
  const double weight = heaviest_key(layer);  // sums over queries; those over keys have weight 1
  return {.y = double{layer.v.largest()} * (2.0 * exponent + sum),
          .log_sum = exponent + sum,
          .dq = double{layer.k.largest()} / root * ds,
          .dk = double{layer.q.largest()} / root * ds * weight,
          .dv = double{layer.dy.largest()} * (exponent + sum) * weight};
}

::testing::AssertionResult agree(Device& device, Device& reference, const Shape& shape, float scale) {
  Layer fast(shape, scale), slow(shape, scale);
  slow.forward(reference);
  fast.forward(device);
  const Tolerance allowed = tolerance(slow);
  const auto check = [&](const char* name, Matrix& a, Matrix& b, double tolerated) {
    const auto verdict = close(a.mat(), b.mat(), tolerated, 0.0);
    return verdict ? verdict : ::testing::AssertionFailure() << name << " of " << shape << ": " << verdict.message();
  };
  auto verdict = check("y", fast.y, slow.y, allowed.y);
  if (verdict) verdict = check("log_sums", fast.log_sums, slow.log_sums, allowed.log_sum);
  if (!verdict) return verdict;
  fast.y = slow.y;
  fast.log_sums = slow.log_sums;
  slow.backward(reference);
  fast.backward(device);
  verdict = check("dq", fast.dq, slow.dq, allowed.dq);
  if (verdict) verdict = check("dk", fast.dk, slow.dk, allowed.dk);
  if (verdict) verdict = check("dv", fast.dv, slow.dv, allowed.dv);
  if (verdict && !fast.intact()) return ::testing::AssertionFailure() << shape << ": written between the rows";
  return verdict;
}

// Heads of every number of vectors, blocks of keys and tiles of queries that end just before, at and after a token.
TEST_P(AttentionBackwardTest, AgreesWithReferenceAtTheEdgesOfTiles) {
  for (const std::size_t A : {8u, 33u, 64u, 80u, 96u, 112u, 128u}) {
    for (const std::size_t T : {1u, 60u, 65u, 129u}) {
      for (const std::size_t window : {1u, 61u, 128u, 1000u}) {
        EXPECT_TRUE(agree(device(), reference_, {T, 1, A, window}, 1.0f));
      }
    }
  }
}

TEST_P(AttentionBackwardTest, AgreesWithReferenceAnywhere) {
  EXPECT_TRUE(rc::check([&] {
    const Shape shape{*rc::gen::inRange<std::size_t>(1, 140), *rc::gen::inRange<std::size_t>(1, 4),
                      *rc::gen::inRange<std::size_t>(1, 90), *rc::gen::inRange<std::size_t>(1, 160)};
    const auto verdict = agree(device(), reference_, shape, *rc::gen::element(0.1f, 1.0f, 6.0f));
    if (!verdict) RC_FAIL(verdict.message());
  }));
}

TEST_P(AttentionBackwardTest, GradientsMayReplaceWhatTheyAreOf) {
  for (const std::size_t T : {1u, 64u, 150u}) {
    for (const std::size_t window : {20u, 100u}) {
      Layer apart({T, 3, 20, window}, 1.0f);
      apart.forward(device());
      apart.backward(device());
      for (const bool over_y : {false, true}) {
        Layer over = apart;
        Matrix& dq = over_y ? over.y : over.q;
        device().attend_backward(over.q.mat(), over.k.mat(), over.v.mat(), 3, window, over.y.mat(), over.log_sums.mat(),
                                 over.dy.mat(), dq.mat(), over.k.mat(), over.v.mat());
        EXPECT_TRUE(close(dq.mat(), apart.dq.mat(), 0.0, 0.0));
        EXPECT_TRUE(close(over.k.mat(), apart.dk.mat(), 0.0, 0.0));
        EXPECT_TRUE(close(over.v.mat(), apart.dv.mat(), 0.0, 0.0));
        EXPECT_TRUE(over.intact());
      }
    }
  }
}

// Scores up to some 1e9: the softmax is a choice, and rounding puts scores above the sum, by whole numbers.
TEST_P(AttentionBackwardTest, LargeScoresStayFinite) {
  Layer layer({100, 2, 16, 60}, 1e4f);
  layer.forward(device());
  layer.backward(device());
  for (Matrix* m : {&layer.y, &layer.log_sums, &layer.dq, &layer.dk, &layer.dv}) {
    EXPECT_TRUE(std::isfinite(m->largest()));
    EXPECT_TRUE(close(m->mat(), m->mat(), 0.0, 0.0));
  }
  EXPECT_LE(layer.dv.largest(), 60.0f * layer.dy.largest());  // of 60 queries, no weight above 1
}

// Which thread takes a head changes nothing.
TEST_P(AttentionBackwardTest, ThreadsDoNotChangeABit) {
  Ledger ledger(64_MiB);
  const DeviceLimits limits{.head_dim_max = 80, .attend_backward_tokens_max = 130};
  auto other = CpuDevice::create(ledger, limits, device().threads() + 1, Arithmetic::kExact).value();
  Layer a({100, 32, 20, 70}, 1.0f), b = a;
  a.forward(device());
  a.backward(device());
  b.forward(*other);
  b.backward(*other);
  for (const auto& [x, y] : {std::pair{&a.y, &b.y}, {&a.dq, &b.dq}, {&a.dk, &b.dk}, {&a.dv, &b.dv}}) {
    EXPECT_TRUE(close(x->mat(), y->mat(), 0.0, 0.0));
  }
}

TEST(AttentionBackward, TakesItsPanelsOnlyForTraining) {
  Carver none, some;
  AttentionBackward(0, 80, 2, none);
  AttentionBackward(2048, 80, 2, some);
  EXPECT_EQ(none.peak(), 0_B);
  const std::uint64_t panels = 3 * 2048 * 80 * sizeof(float);
  EXPECT_GE(some.peak().count, 2 * panels);
  EXPECT_LE(some.peak().count, 2 * (panels + 200 * 1024));
}

// The twin's gradients are slopes of its own loss, sum of dy * y: central differences, in float32 inputs that hold the
// steps exactly enough and float32 outputs, so off by the third derivative's part and by 2^-24 / step a term.
TEST(ReferenceAttention, GradientsAreSlopes) {
  ReferenceDevice reference(Arithmetic::kExact);
  constexpr float kStep = 0x1p-6f;
  Layer layer({7, 2, 3, 4}, 1.0f);
  const auto loss = [&] {
    layer.forward(reference);
    double sum = 0.0;
    for (std::size_t t = 0; t < layer.shape.T; ++t) {
      for (std::size_t i = 0; i < layer.y.mat().cols; ++i)
        sum += double{layer.dy.row(t)[i]} * double{layer.y.row(t)[i]};
    }
    return sum;
  };
  loss();
  layer.backward(reference);
  for (const auto& [x, dx] : {std::pair{&layer.q, &layer.dq}, {&layer.k, &layer.dk}, {&layer.v, &layer.dv}}) {
    for (std::size_t t = 0; t < layer.shape.T; ++t) {
      for (std::size_t i = 0; i < x->mat().cols; ++i) {
        float& at = x->row(t)[i];
        const float before = at, above = before + kStep, below = before - kStep;
        at = above;
        const double more = loss();
        at = below;
        const double less = loss();
        at = before;
        EXPECT_NEAR((more - less) / (double{above} - double{below}), double{dx->row(t)[i]}, 2e-3) << t << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace axon::cpu
