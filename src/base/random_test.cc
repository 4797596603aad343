#include "base/random.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>

namespace axon {
namespace {

constexpr std::uint64_t kDraws = 200'000;

TEST(CounterRng, DependsOnSeedStreamAndCounterOnly) {
  const CounterRng a(42, hash64("x"));
  const std::uint64_t late = a.bits(1000);
  static_cast<void>(a.bits(3));
  EXPECT_EQ(a.bits(1000), late);
  EXPECT_EQ(CounterRng(42, hash64("x")).bits(1000), late);
  std::set<std::uint64_t> first;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    for (std::uint64_t stream = 0; stream < 30; ++stream) {
      for (std::uint64_t i = 0; i < 30; ++i) first.insert(CounterRng(seed, stream).bits(i));
    }
  }
  EXPECT_EQ(first.size(), 27'000u);
}

TEST(CounterRng, KnownValues) {
  EXPECT_EQ(hash64(""), 0xCBF29CE484222325ull);
  EXPECT_EQ(hash64("a"), 0xAF63DC4C8601EC8Cull);                   // the test vectors of FNV-1a
  EXPECT_EQ(mix64(0x9E3779B97F4A7C15ull), 0xE220A8397B1DCDAFull);  // SplitMix64's first output for seed 0
}

TEST(CounterRng, UniformAndSymmetricStayInRangeWithTheRightMoments) {
  const CounterRng rng(1);
  double sum = 0, sum2 = 0, ones = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double u = rng.uniform(i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    const float s = rng.symmetric(i, 0.5f);
    ASSERT_GE(s, -0.5f);
    ASSERT_LT(s, 0.5f);
    sum += u;
    sum2 += static_cast<double>(s) * static_cast<double>(s);
    ones += std::popcount(rng.bits(i));
  }
  const double n = static_cast<double>(kDraws);
  // Five standard errors: 1/sqrt(12), sqrt(1/180), 4.
  EXPECT_NEAR(sum / n, 0.5, 5 * 0.2887 / std::sqrt(n));
  EXPECT_NEAR(sum2 / n, 1.0 / 12, 5 * 0.0745 / std::sqrt(n));
  EXPECT_NEAR(ones / n, 32.0, 5 * 4 / std::sqrt(n));
}

TEST(CounterRng, NormalHasTheRightMoments) {
  const CounterRng rng(2, 7);
  double sum = 0, sum2 = 0, sum4 = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const auto x = static_cast<double>(rng.normal(i));
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    sum2 += x * x;
    sum4 += x * x * x * x;
  }
  const double n = static_cast<double>(kDraws);
  // Five standard errors: 1, sqrt(2), sqrt(96).
  EXPECT_NEAR(sum / n, 0.0, 5 / std::sqrt(n));
  EXPECT_NEAR(sum2 / n, 1.0, 5 * 1.4143 / std::sqrt(n));
  EXPECT_NEAR(sum4 / n, 3.0, 5 * 9.798 / std::sqrt(n));
}

}  // namespace
}  // namespace axon
