// Attention over a compressed past: ring, kernels and threads against the slow twin and against attention over floats.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <rapidcheck.h>

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

using turboquant::Layout;

class CodedAttentionTest : public EachLevel {
 protected:
  CodedAttentionTest() : ledger_(Bytes{std::uint64_t{1} << 30}) {
    const DeviceLimits limits{
        .x_elements_max = 1 << 16, .rows_of_x_max = 256, .cols_max = 1024, .head_dim_max = 128, .states_max = 32};
    fast_ = CpuDevice::create(ledger_, limits, std::get<1>(GetParam()), Arithmetic::kFast).value();
  }
  Ledger ledger_;
  std::unique_ptr<CpuDevice> fast_;
};
AXON_EACH_LEVEL(CodedAttentionTest);

const Layout& layout_of(std::size_t i) { return i == 0 ? turboquant::int8_layout() : turboquant::layouts()[i - 1]; }
constexpr std::size_t kLayouts = 5;
// Largest mean squared error of an output, relative, at logits with a deviation of 1 (docs/turboquant.md's table with
// some room for short windows).
double allowed_error(const Layout& layout) {
  if (layout.name == "q8") return 3e-4;
  if (layout.name == "tq4") return 0.02;
  if (layout.name == "tq3.5") return 0.05;
  return layout.name == "tq3" ? 0.15 : 0.2;
}

struct Shape {
  std::size_t T, H, A, window;
};

// A sequence, and a compressed cache that takes it in piece by piece.
struct Sequence {
  Shape shape;
  Matrix q, k, v;
  std::vector<std::uint8_t> bytes;
  KvCache cache;

  Sequence(const Shape& s, const Layout& layout)
      : shape(s),
        q(Matrix::normal(s.T, s.H * s.A, 1)),
        k(Matrix::normal(s.T, s.H * s.A, 2)),
        v(Matrix::normal(s.T, s.H * s.A, 3)) {
    cache.heads = s.H;
    cache.capacity = std::min(s.window, s.T);
    cache.head_dim = s.A;
    cache.layout = &layout;
    cache.head_plan = turboquant::plan_head(layout, s.A, cache.capacity).value();
    // A slot that holds no token is never read: its scale would be a NaN in the tail, and large in a tile.
    bytes.assign(s.H * cache.head_plan.bytes.count + kCodesSlack, 0xFF);
    cache.compressed = bytes.data();
    for (std::size_t h = 0; h < s.H; ++h) cache.head(h).header() = {};
  }
  Mat<const float> part(Matrix& m, std::size_t t, std::size_t n) { return m.mat().rows_from(t, n); }
  // Pieces of both devices alternate on one cache: judge(t, n, y of `device`, y of `reference`).
  template <class Judge>
  void run(Device& device, ReferenceDevice& reference, const std::vector<std::size_t>& pieces, Judge&& judge) {
    std::size_t t = 0;
    for (const std::size_t n : pieces) {
      Matrix fast(n, shape.H * shape.A), slow(n, shape.H * shape.A);
      device.attend(part(q, t, n), part(k, t, n), part(v, t, n), cache, t, shape.window, fast.mat());
      reference.attend(part(q, t, n), part(k, t, n), part(v, t, n), cache, t, shape.window, slow.mat());
      judge(t, n, fast, slow);
      device.append(part(k, t, n), part(v, t, n), t, cache);
      t += n;
    }
  }
};

struct Difference {
  double error = 0, energy = 0;
  double relative() const { return std::sqrt(error / energy); }
  void add(std::span<const float> a, std::span<const float> b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double d = double{a[i]} - double{b[i]};
      error += d * d;
      energy += double{b[i]} * double{b[i]};
    }
  }
};

std::vector<std::size_t> random_pieces(std::size_t total) {
  const auto longest = *rc::gen::element<std::size_t>(1, 9, 70, 300);
  std::vector<std::size_t> pieces;
  for (std::size_t left = total; left > 0; left -= pieces.back()) {
    pieces.push_back(*rc::gen::inRange<std::size_t>(1, std::min(left, longest) + 1));
  }
  return pieces;
}

void expect_reference(Device& device, ReferenceDevice& reference, double allowed) {
  const Layout& layout = layout_of(*rc::gen::inRange<std::size_t>(0, kLayouts));
  Shape shape{};
  shape.T = *rc::gen::inRange<std::size_t>(1, 240);
  shape.H = *rc::gen::inRange<std::size_t>(1, 4);
  shape.A = *rc::gen::element<std::size_t>(16, 64, 80);
  shape.window = *rc::gen::element<std::size_t>(1, 2, 31, 41, 77, 100, 150, SIZE_MAX);
  Sequence s(shape, layout);
  Difference sum;
  s.run(device, reference, random_pieces(shape.T), [&](std::size_t, std::size_t n, Matrix& fast, Matrix& slow) {
    for (std::size_t r = 0; r < n; ++r) sum.add(fast.row(r), slow.row(r));
    RC_ASSERT(fast.intact());
  });
  if (!(sum.relative() <= allowed)) RC_FAIL(fmt::format("{}: {}", layout.name, sum.relative()));
}

// Test 11 of the acceptance list: 1e-5 in float32, 1e-2 with int8 queries and 8-bit weights.
TEST_P(CodedAttentionTest, ExactEqualsTheReference) {
  EXPECT_TRUE(rc::check([&] { expect_reference(device(), reference_, 1e-5); }));
}
TEST_P(CodedAttentionTest, FastIsWithinItsRounding) {
  EXPECT_TRUE(rc::check([&] { expect_reference(*fast_, reference_, 1e-2); }));
}

// Test 16: positions 0 to 3 W in random pieces, against attention over floats with the true mask: what is left is the
// quantiser's own error, whatever was flushed when; an evicted token or a wrong one would be far outside.
TEST_P(CodedAttentionTest, RandomFlushesCostOnlyTheQuantisersError) {
  EXPECT_TRUE(rc::check([&] {
    const Layout& layout = layout_of(*rc::gen::inRange<std::size_t>(0, kLayouts));
    const Shape shape{*rc::gen::element<std::size_t>(150, 330), 1, 80, *rc::gen::element<std::size_t>(50, 110)};
    Sequence s(shape, layout);
    std::vector<float> ring_k(shape.window * shape.A), ring_v(ring_k.size());
    KvCache floats;
    floats.dtype = DType::kF32;
    floats.k = ring_k.data();
    floats.v = ring_v.data();
    floats.heads = 1, floats.capacity = shape.window, floats.head_dim = shape.A;
    Difference sum;
    std::size_t t = 0;
    for (const std::size_t n : random_pieces(shape.T)) {
      Matrix coded(n, shape.A), exact(n, shape.A);
      const auto [q, k, v] = std::tuple{s.part(s.q, t, n), s.part(s.k, t, n), s.part(s.v, t, n)};
      fast_->attend(q, k, v, s.cache, t, shape.window, coded.mat());
      reference_.attend(q, k, v, floats, t, shape.window, exact.mat());
      for (std::size_t r = 0; r < n; ++r) {
        Difference one;
        one.add(coded.row(r), exact.row(r));
        if (!(one.error <= 6 * allowed_error(layout) * one.energy)) {
          RC_FAIL(fmt::format("{} token {}: {}", layout.name, t + r, one.relative()));
        }
        sum.add(coded.row(r), exact.row(r));
      }
      fast_->append(k, v, t, s.cache);
      reference_.append(k, v, t, floats);
      t += n;
    }
    if (!(sum.error <= allowed_error(layout) * sum.energy)) {
      RC_FAIL(fmt::format("{}: {}", layout.name, sum.relative()));
    }
  }));
}

TEST_P(CodedAttentionTest, AppendWritesTheReferencesBytes) {
  for (std::size_t i = 0; i < kLayouts; ++i) {
    for (const std::size_t piece : {1u, 7u, 90u}) {
      const Shape shape{270, 3, 80, 130};
      Sequence fast(shape, layout_of(i)), slow(shape, layout_of(i));
      fast.k.row(100)[5] = slow.k.row(100)[5] = std::numeric_limits<float>::quiet_NaN();
      fast.v.row(20)[90] = slow.v.row(20)[90] = 1e30f;
      for (std::size_t t = 0; t < shape.T; t += piece) {
        const std::size_t n = std::min(piece, shape.T - t);
        fast_->append(fast.part(fast.k, t, n), fast.part(fast.v, t, n), t, fast.cache);
        reference_.append(slow.part(slow.k, t, n), slow.part(slow.v, t, n), t, slow.cache);
        ASSERT_EQ(fast.bytes, slow.bytes) << layout_of(i).name << " after " << t + n << " by " << piece;
      }
    }
  }
}

// A query and its keys are multiplied by one thread: any number of them gives the same bits.
TEST_P(CodedAttentionTest, ThreadsDoNotChangeTheResult) {
  const std::unique_ptr<CpuDevice> one =
      CpuDevice::create(ledger_, {.head_dim_max = 128}, 1, Arithmetic::kFast).value();
  const Shape shape{300, 4, 80, 130};
  Sequence s(shape, *turboquant::find_layout("tq3"));
  std::size_t t = 0;
  for (const std::size_t n : {100u, 1u, 150u, 5u, 44u}) {
    Matrix many(n, shape.H * shape.A), single(n, shape.H * shape.A);
    fast_->attend(s.part(s.q, t, n), s.part(s.k, t, n), s.part(s.v, t, n), s.cache, t, shape.window, many.mat());
    one->attend(s.part(s.q, t, n), s.part(s.k, t, n), s.part(s.v, t, n), s.cache, t, shape.window, single.mat());
    EXPECT_TRUE(close(many.mat(), single.mat(), 0, 0));
    fast_->append(s.part(s.k, t, n), s.part(s.v, t, n), t, s.cache);
    t += n;
  }
}

// Codes follow from it, so it may not differ in a bit.
TEST_P(CodedAttentionTest, RotationIsTheSameOnEveryLevel) {
  for (const std::size_t A : {16u, 80u, 128u}) {
    const turboquant::Rotation rotation(A);
    for (const auto& [T, H] : {std::pair{1u, 2u}, {33u, 5u}}) {
      const Matrix start = Matrix::normal(T, H * A, 4);
      Matrix x = start, slow = start, by_head = start, unrotated = start;
      fast_->rotate(rotation, false, x.mat());
      reference_.rotate(rotation, false, slow.mat());
      for (std::size_t t = 0; t < T; ++t) {
        for (std::size_t h = 0; h < H; ++h) rotation.apply(by_head.row(t).subspan(h * A, A));
      }
      EXPECT_TRUE(close(x.mat(), by_head.mat(), 0, 0));
      EXPECT_TRUE(close(x.mat(), slow.mat(), 1e-5, 0));
      EXPECT_FALSE(close(x.mat(), unrotated.mat(), 0.5, 0));
      reference_.rotate(rotation, true, slow.mat());
      fast_->rotate(rotation, true, x.mat());
      EXPECT_TRUE(close(x.mat(), unrotated.mat(), 1e-5, 0));
      EXPECT_TRUE(close(slow.mat(), unrotated.mat(), 1e-5, 0));
      EXPECT_TRUE(x.intact());
    }
  }
}

}  // namespace
}  // namespace axon::cpu
