#include "quant/turboquant_tables.h"

#include <array>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "quant/turboquant_scalar.h"

namespace axon::turboquant {
namespace {

struct ScalarCase {
  Code code;
  double distortion;
  std::vector<double> centroids, thresholds;  // positive halves; thresholds from 0
};
const std::vector<ScalarCase>& scalar_cases() {
  static const std::vector<ScalarCase> cases = {
      {Code::kScalar1, 0.3593890, {0.800382}, {0}},
      {Code::kScalar2, 0.1151146, {0.452254, 1.502061}, {0, 0.977157}},
      {Code::kScalar3, 0.0336201, {0.244022, 0.751727, 1.332239, 2.119338}, {0, 0.497874, 1.041983, 1.725788}},
      {Code::kScalar4,
       0.0092045,
       {0.127560, 0.385383, 0.651742, 0.933970, 1.242739, 1.596221, 2.032299, 2.663219},
       {0, 0.256472, 0.518562, 0.792856, 1.088355, 1.419480, 1.814260, 2.347759}}};
  return cases;
}

// Moments over [a, b] of one coordinate of the sphere in 80 dimensions, unit variance; by Simpson's rule.
struct Moments {
  double mass = 0, mean = 0, square = 0;
};
Moments moments(double a, double b) {
  constexpr int kSteps = 4000;
  Moments out;
  for (int i = 0; i <= kSteps; ++i) {
    const double x = a + (b - a) * i / kSteps;
    const double simpson = i == 0 || i == kSteps ? 1 : i % 2 == 1 ? 4 : 2;
    const double density = std::pow(std::max(0.0, 1 - x * x / 80), 38.5) * simpson * (b - a) / (3 * kSteps);
    out.mass += density;
    out.mean += density * x;
    out.square += density * x * x;
  }
  return out;
}

TEST(TurboquantTables, ScalarCodesAreTheOptimumForTheSphere) {
  const double end = std::sqrt(80.0);
  const double half_mass = moments(0, end).mass;
  for (const ScalarCase& want : scalar_cases()) {
    const auto& exact = codebook(want.code).exact;
    const std::size_t n = want.centroids.size();
    ASSERT_EQ(exact.size(), 2 * n);
    double distortion = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double c = static_cast<double>(exact[n + i]);
      EXPECT_NEAR(c, want.centroids[i], 1e-5);
      EXPECT_EQ(exact[n + i], -exact[n - 1 - i]);
      const double low = i == 0 ? 0 : (c + static_cast<double>(exact[n + i - 1])) / 2;
      const double high = i + 1 == n ? end : (c + static_cast<double>(exact[n + i + 1])) / 2;
      EXPECT_NEAR(low, want.thresholds[i], 1e-5);
      const Moments m = moments(low, high);
      EXPECT_NEAR(m.mean / m.mass, c, 1e-5);
      distortion += (m.square - 2 * c * m.mean + c * c * m.mass) / half_mass;
    }
    EXPECT_NEAR(distortion, want.distortion, 1e-6);
  }
}

TEST(TurboquantTables, EncodingChangesIndexAtTheThresholds) {
  for (const ScalarCase& want : scalar_cases()) {
    const std::size_t n = want.centroids.size();
    for (std::size_t i = 0; i < n; ++i) {
      const auto at = static_cast<float>(want.thresholds[i]);
      std::array<float, 16> x{};
      for (std::size_t j = 0; j < 16; ++j) x[j] = (j < 8 ? at : -at) + (j % 2 == 0 ? -2e-5f : 2e-5f);
      std::array<std::uint8_t, 16> indices{};
      std::vector<std::uint8_t> planes(code_bytes(want.code, 16));
      encode_scalar(want.code, x, planes);
      read_indices(want.code, planes, indices);
      EXPECT_EQ(indices[0], n + i - 1);
      EXPECT_EQ(indices[1], n + i);
      EXPECT_EQ(indices[14], n - i - 1);
      EXPECT_EQ(indices[15], n - i);
    }
  }
}

TEST(TurboquantTables, Int8ValuesAreTheFloatTablesRounded) {
  for (const Code code : kCodes) {
    const Codebook& book = codebook(code);
    ASSERT_EQ(book.values.size(), book.exact.size());
    int largest = 0;
    for (std::size_t i = 0; i < book.values.size(); ++i) {
      const double value = static_cast<double>(book.values[i]) * static_cast<double>(book.step);
      EXPECT_NEAR(value, static_cast<double>(book.exact[i]), 0.500001 * static_cast<double>(book.step));
      largest = std::max(largest, std::abs(static_cast<int>(book.values[i])));
    }
    EXPECT_EQ(largest, 127);
  }
}

TEST(TurboquantTables, TrellisTablesAreOddUnderReversalOfAllBits) {
  for (const Code code : kCodes) {
    if (!is_trellis(code)) continue;
    const auto& values = codebook(code).values;
    ASSERT_EQ(values.size(), 256u);
    for (std::size_t w = 0; w < 256; ++w) EXPECT_EQ(values[w], -values[255 - w]);
    EXPECT_GT(std::set<int>(values.begin(), values.end()).size(), 120u);
  }
}

TEST(TurboquantTables, BytesOfAVectorAreItsBits) {
  const std::size_t want[] = {10, 20, 30, 40, 20, 25, 30, 35, 40};
  std::size_t i = 0;
  for (const Code code : kCodes) {
    EXPECT_EQ(code_bytes(code, 80), want[i++]);
    if (!is_trellis(code)) continue;
    std::size_t bits = 0;
    for (std::size_t t = 0; t < 80; ++t) bits += symbol_bits(code, t);
    EXPECT_EQ(bits, 8 * code_bytes(code, 80));
  }
}

}  // namespace
}  // namespace axon::turboquant
