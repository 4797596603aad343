#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <rapidcheck.h>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class AttentionTest : public EachLevel {};
AXON_EACH_LEVEL(AttentionTest);

struct Shape {
  std::size_t T, H, A, window, capacity;
  DType dtype;
};

// The whole sequence, and a ring that fills as it goes.
struct Sequence {
  Shape shape;
  Matrix q, k, v;
  std::vector<std::byte> ring_k, ring_v;
  Sequence(const Shape& s, float scale)
      : shape(s), q(Matrix::normal(s.T, s.H * s.A, 1, scale)), k(Matrix::normal(s.T, s.H * s.A, 2, scale)),
        v(Matrix::normal(s.T, s.H * s.A, 3)), ring_k(s.H * s.capacity * s.A * size_of(s.dtype), kPoison),
        ring_v(ring_k.size(), kPoison) {}
  KvCache cache() {
    return {shape.dtype, ring_k.data(), ring_v.data(), shape.H, shape.capacity, shape.A};
  }
  // Attends and appends piece by piece.
  void run(Device& device, const std::vector<std::size_t>& pieces, Mat<float> y) {
    std::size_t t = 0;
    for (const std::size_t n : pieces) {
      const auto part = [&](Matrix& m) { return Mat<const float>(m.mat().rows_from(t, n)); };
      device.attend(part(q), part(k), part(v), cache(), t, shape.window, y.rows_from(t, n));
      device.append(part(k), part(v), t, cache());
      t += n;
    }
  }

 private:
  static constexpr std::byte kPoison{0xFF};  // a NaN in either type: a slot that holds no token is never read
};

// Softmax over the whole sequence's visible keys, in double: it knows neither ring nor block.
Matrix naive(Sequence& s) {
  const auto [T, H, A, window, capacity, dtype] = s.shape;
  const auto stored = [half = dtype == DType::kF16](float x) {
    return half ? double{f16_to_float(float_to_f16(x))} : double{x};
  };
  Matrix y(T, H * A);
  for (std::size_t head = 0; head < H; ++head) {
    for (std::size_t t = 0; t < T; ++t) {
      const std::size_t first = t + 1 - std::min(window, t + 1);
      std::vector<double> weights;
      for (std::size_t p = first; p <= t; ++p) {
        double dot = 0.0;
        for (std::size_t a = head * A; a < head * A + A; ++a) dot += double{s.q.row(t)[a]} * stored(s.k.row(p)[a]);
        weights.push_back(dot / std::sqrt(static_cast<double>(A)));
      }
      const double largest = *std::max_element(weights.begin(), weights.end());
      for (double& w : weights) w = std::exp(w - largest);
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (std::size_t a = head * A; a < head * A + A; ++a) {
        double out = 0.0;
        for (std::size_t p = first; p <= t; ++p) out += weights[p - first] * stored(s.v.row(p)[a]);
        y.row(t)[a] = static_cast<float>(out / sum);
      }
    }
  }
  return y;
}

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

// A score of size S is off by its rounding and its sum's, 8 * 2^-24 * S leaves room for both with A terms whose errors
// are independent; a weight by as much of itself, and exp2's 2e-6; y is a mean of v with such weights, twice (sum and
// quotient), its float32 sum over n keys off by sqrt(n) roundings.
double tolerance(Sequence& s) {
  const double score = longest(s.q, s.shape.A) * longest(s.k, s.shape.A) / std::sqrt(static_cast<double>(s.shape.A));
  const double n = static_cast<double>(std::min(s.shape.window, s.shape.T));
  return double{s.v.largest()} * (2.0 * (8.0 * 0x1p-24 * score + 2e-6) + 0x1p-23 * std::sqrt(n));
}

struct Case {
  Shape shape{};
  float scale = 1.0f;
  std::vector<std::size_t> pieces;
};

Case random_case() {
  Case c;
  Shape& shape = c.shape;
  shape.T = *rc::gen::inRange<std::size_t>(1, 130);
  shape.H = *rc::gen::inRange<std::size_t>(1, 4);
  shape.A = *rc::gen::element<std::size_t>(1, 4, 16, 20, 33, 64, 80);
  shape.window = *rc::gen::element<std::size_t>(1, 2, 3, 7, 16, 31, 64, 100, 200, SIZE_MAX);
  const std::size_t least = std::max<std::size_t>(1, std::min(shape.window, shape.T) - 1);
  shape.capacity = least + *rc::gen::inRange<std::size_t>(0, 5);
  shape.dtype = *rc::gen::element(DType::kF16, DType::kF32);
  c.scale = *rc::gen::element(0.1f, 1.0f, 6.0f);
  const auto longest_piece = *rc::gen::element<std::size_t>(1, 12, 130);
  for (std::size_t left = shape.T; left > 0; left -= c.pieces.back()) {
    c.pieces.push_back(*rc::gen::inRange<std::size_t>(1, std::min(left, longest_piece) + 1));
  }
  return c;
}

void expect_masked_softmax(Device& device, const Case& c) {
  Sequence s(c.shape, c.scale);
  Matrix expected = naive(s), y(c.shape.T, c.shape.H * c.shape.A);
  s.run(device, c.pieces, y.mat());
  const auto verdict = close(y.mat(), expected.mat(), tolerance(s), 0.0);
  if (!verdict) RC_FAIL(verdict.message());
  RC_ASSERT(y.intact());
}

TEST_P(AttentionTest, SplitAnywhereEqualsMaskedSoftmax) {
  EXPECT_TRUE(rc::check([&] { expect_masked_softmax(device(), random_case()); }));
}

TEST(ReferenceAttention, SplitAnywhereEqualsMaskedSoftmax) {
  ReferenceDevice reference(Arithmetic::kExact);
  EXPECT_TRUE(rc::check([&] { expect_masked_softmax(reference, random_case()); }));
}

TEST_P(AttentionTest, CrossesTheWindowManyTimes) {
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    for (const std::size_t piece : {1u, 5u, 34u, 37u, 64u}) {
      const Shape shape{400, 2, 80, 33, 33, dtype};
      Sequence s(shape, 1.0f);
      Matrix expected = naive(s), y(shape.T, shape.H * shape.A);
      std::vector<std::size_t> pieces(shape.T / piece, piece);
      if (shape.T % piece != 0) pieces.push_back(shape.T % piece);
      s.run(device(), pieces, y.mat());
      EXPECT_TRUE(close(y.mat(), expected.mat(), tolerance(s), 0.0)) << piece;
    }
  }
}

TEST_P(AttentionTest, LargeScoresStayFinite) {
  for (const std::size_t piece : {1u, 50u}) {
    const Shape shape{100, 1, 16, 60, 60, DType::kF16};
    Sequence s(shape, 200.0f);  // scores up to some 1e6: the softmax is a choice
    Matrix y(shape.T, shape.A);
    s.run(device(), std::vector<std::size_t>(shape.T / piece, piece), y.mat());
    Matrix expected = naive(s);
    EXPECT_TRUE(close(y.mat(), expected.mat(), tolerance(s), 0.0));
  }
}

TEST_P(AttentionTest, ResultMayReplaceTheQuery) {
  for (const std::size_t T : {1u, 8u, 9u, 70u}) {
    const Shape shape{T, 3, 20, 40, 40, DType::kF16};
    Sequence s(shape, 1.0f), over = s;
    Matrix y(T, shape.H * shape.A);
    s.run(device(), {T}, y.mat());
    over.run(device(), {T}, over.q.mat());
    EXPECT_TRUE(close(over.q.mat(), y.mat(), 0.0, 0.0));
    EXPECT_TRUE(over.q.intact());
  }
}

TEST_P(AttentionTest, AppendKeepsTheLastOfTooMany) {
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    const Shape shape{50, 3, 17, 8, 11, dtype};
    Sequence fast(shape, 1.0f), slow(shape, 1.0f);
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{7}, std::uint64_t{1} << 40}) {
      device().append(fast.k.mat(), fast.v.mat(), first, fast.cache());
      reference_.append(slow.k.mat(), slow.v.mat(), first, slow.cache());
      EXPECT_EQ(fast.ring_k, slow.ring_k);
      EXPECT_EQ(fast.ring_v, slow.ring_v);
    }
  }
}

}  // namespace
}  // namespace axon::cpu
