#include "quant/turboquant_rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "quant/turboquant_test_data.h"

namespace axon::turboquant {
namespace {

// max |R R^T - I| of [n, n].
double departure(const std::vector<float>& matrix, std::size_t n) {
  double worst = 0;
  for (std::size_t r = 0; r < n; ++r) {
    for (std::size_t c = 0; c < n; ++c) {
      const double entry = dot({matrix.data() + r * n, n}, {matrix.data() + c * n, n});
      worst = std::max(worst, std::fabs(entry - (r == c ? 1 : 0)));
    }
  }
  return worst;
}

double largest(const std::vector<float>& matrix) {
  double out = 0;
  for (const float v : matrix) out = std::max(out, std::fabs(static_cast<double>(v)));
  return out;
}

class EachDim : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(TurboquantRotation, EachDim,
                         testing::Values(16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 240, 256, 576));

TEST_P(EachDim, IsOrthogonal) { EXPECT_LE(departure(Rotation(GetParam()).matrix(), GetParam()), 2e-6); }

TEST_P(EachDim, ApplyIsTheMatrixAndInvertUndoesIt) {
  const std::size_t n = GetParam();
  const Rotation rotation(n);
  const std::vector<float> matrix = rotation.matrix();
  const CounterRng rng(2);
  std::vector<float> x(n), y, back;
  for (std::size_t i = 0; i < n; ++i) x[i] = rng.normal(i);
  y = x;
  rotation.apply(y);
  for (std::size_t r = 0; r < n; ++r) {
    EXPECT_NEAR(static_cast<double>(y[r]), dot({matrix.data() + r * n, n}, x), 1e-5);
  }
  back = y;
  rotation.invert(back);
  for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(back[i], x[i], 1e-5f);
}

TEST(TurboquantRotation, KeepsNormsAndProducts) {
  const Rotation rotation(kDim);
  const std::vector<float> rows = gaussian(4000, 1);
  for (std::size_t i = 0; i + 1 < 4000; i += 2) {
    std::vector<float> q(row(rows, i).begin(), row(rows, i).end()), k(row(rows, i + 1).begin(), row(rows, i + 1).end());
    const double qq = dot(q, q), kk = dot(k, k), qk = dot(q, k);
    rotation.apply(q);
    rotation.apply(k);
    EXPECT_NEAR(std::sqrt(dot(q, q) / qq), 1, 1e-6);
    EXPECT_NEAR(dot(q, k), qk, 1e-6 * std::sqrt(qq * kk));
  }
}

TEST(TurboquantRotation, LeavesNoCoordinateAlone) {
  EXPECT_LE(largest(Rotation(80).matrix()), 0.31);
  for (const std::size_t n : {64u, 96u, 128u, 256u}) EXPECT_LE(largest(Rotation(n).matrix()), 0.35);
}

TEST(TurboquantRotation, ASliceOfALargerHadamardIsNotOrthogonal) {
  std::vector<float> slice(80 * 80);
  for (std::size_t r = 0; r < 80; ++r) {
    for (std::size_t c = 0; c < 80; ++c) {
      slice[r * 80 + c] = (std::popcount(r & c) % 2 == 0 ? 1.0f : -1.0f) / std::sqrt(128.0f);
    }
  }
  EXPECT_GT(departure(slice, 80), 0.1);
}

TEST(TurboquantRotation, FoldsIntoWeights) {
  const Rotation rotation(kDim);
  const std::vector<float> matrix = rotation.matrix();
  constexpr std::size_t kHidden = 320;
  const CounterRng rng(3);
  std::vector<float> weights(kDim * kHidden), x(kHidden), folded(kDim), plain(kDim);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.05f * rng.normal(i);
  for (std::size_t i = 0; i < kHidden; ++i) x[i] = rng.normal(weights.size() + i);
  for (std::size_t r = 0; r < kDim; ++r) {
    std::vector<float> rw(kHidden, 0.0f);
    for (std::size_t k = 0; k < kDim; ++k) {
      for (std::size_t c = 0; c < kHidden; ++c) rw[c] += matrix[r * kDim + k] * weights[k * kHidden + c];
    }
    folded[r] = static_cast<float>(dot(rw, x));
    plain[r] = static_cast<float>(dot({weights.data() + r * kHidden, kHidden}, x));
  }
  rotation.apply(plain);
  EXPECT_LE(std::sqrt(relative_error(plain, folded)), 1e-5);
}

TEST(TurboquantRotation, OtherDimsAreRefusedByName) {
  for (const std::size_t n : {0u, 8u, 72u, 100u, 1040u}) {
    EXPECT_FALSE(supports_head_dim(n));
    const Status status = check_head_dim(n);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(status.error().message.find(fmt::format("head_dim {} ", n)), std::string::npos);
  }
  EXPECT_TRUE(check_head_dim(80).ok());
}

}  // namespace
}  // namespace axon::turboquant
