#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/random.h"
#include "memory/no_allocation.h"

namespace axon::train {
namespace {

constexpr std::size_t kMany = 100'011;  // twelve blocks and a part

std::vector<float> draws(std::uint64_t seed, std::size_t count, float limit) {
  std::vector<float> out(count);
  const CounterRng rng(seed);
  for (std::size_t i = 0; i < count; ++i) out[i] = rng.symmetric(i, limit);
  return out;
}

// An optimizer with its memory.
struct Learner {
  explicit Learner(std::size_t parameters, const AdamWSettings& settings = {}, std::size_t threads = 1)
      : pool(threads) {
    auto made = Arena::create(ledger, account::kOptimizer, AdamW::plan(parameters));
    arena.emplace(std::move(made).value());
    Carver carver = arena->carver();
    adam = AdamW(carver, parameters, settings);
    EXPECT_EQ(carver.peak(), arena->size());
    values = draws(1, parameters, 1);
  }
  AdamWOutcome update(const std::vector<float>& gradients, const AdamWStep& step, std::uint64_t updates) {
    const ParameterRange all{.first = 0, .count = values.size(), .updates = updates};
    return adam.update(pool, {&all, 1}, step, gradients, values);
  }
  Ledger ledger{64_MiB};
  std::optional<Arena> arena;
  cpu::ThreadPool pool;
  AdamW adam;
  std::vector<float> values;
};

TEST(AdamW, PlansTwoMomentsAndSumsOfSquares) {
  EXPECT_EQ(AdamW::plan(8192), Bytes{8192 * 8 + 64});
  EXPECT_EQ(AdamW::plan(8193), Bytes{2 * (8192 * 4 + 64) + 64});
}

// The original's lines, one operation after the other, in float32.
TEST(AdamW, CompatIsTheOriginalToTheBit) {
  Learner learner(kMany, {.bias_correction = false}, 3);
  std::vector<float> w = learner.values, m(kMany), v(kMany);
  for (std::uint64_t step = 0; step < 4; ++step) {
    const std::vector<float> gradients = draws(step + 7, kMany, 0.01f);
    double square = 0;
    for (const float g : gradients) square += static_cast<double>(g) * static_cast<double>(g);
    const float factor = static_cast<float>(std::min(0.5 / (std::sqrt(square) + 1e-6), 1.0));
    ASSERT_LT(factor, 1);
    const float rate = 1e-3f * static_cast<float>(step);
    for (std::size_t i = 0; i < kMany; ++i) {
      // volatile: no compiler joins two of them into one
      volatile float g = gradients[i] * factor, a = 0, b = 0;
      a = 1.0f - rate * 0.01f;
      w[i] = w[i] * a;
      a = 0.9f * m[i];
      b = 0.1f * g;
      m[i] = a + b;
      a = g * g;
      a = 0.001f * a;
      b = 0.999f * v[i];
      v[i] = b + a;
      a = rate * m[i];
      a = a / (std::sqrt(v[i]) + 1e-8f);
      w[i] = w[i] - a;
    }
    const AdamWOutcome outcome = learner.update(gradients, {.learning_rate = rate, .max_norm = 0.5}, step);
    EXPECT_TRUE(outcome.applied);
    EXPECT_NEAR(outcome.gradient_norm, std::sqrt(square), 1e-12);
    ASSERT_EQ(learner.values, w) << step;
    EXPECT_TRUE(std::ranges::equal(learner.adam.first_moments(), m));
    EXPECT_TRUE(std::ranges::equal(learner.adam.second_moments(), v));
  }
}

TEST(AdamW, CompatBeginsWithThreeTimesTheRate) {
  Learner learner(1, {.weight_decay = 0, .bias_correction = false});
  const float before = learner.values[0];
  learner.update({0.25f}, {.learning_rate = 0.01}, 0);
  EXPECT_NEAR(before - learner.values[0], 0.01 * 0.1 / std::sqrt(0.001), 1e-6);
}

// With a gradient that stays the same, corrected moments are that gradient and its square: every step is of the rate.
TEST(AdamW, CorrectedStepsHaveTheLengthOfTheRate) {
  Learner learner(3, {.weight_decay = 0});
  for (std::uint64_t step = 0; step < 50; ++step) {
    const std::vector<float> before = learner.values;
    learner.update({0.5f, -2e-3f, 0}, {.learning_rate = 0.01}, step);
    EXPECT_NEAR(before[0] - learner.values[0], 0.01, 2e-6) << step;
    EXPECT_NEAR(before[1] - learner.values[1], -0.01, 2e-6) << step;
    EXPECT_EQ(before[2], learner.values[2]);
  }
}

TEST(AdamW, DecayIsDecoupledFromTheGradient) {
  Learner learner(2, {.weight_decay = 0.5});
  learner.values = {2, -4};
  learner.update({0, 0}, {.learning_rate = 0.1}, 0);
  EXPECT_FLOAT_EQ(learner.values[0], 2 * 0.95f);
  EXPECT_FLOAT_EQ(learner.values[1], -4 * 0.95f);
  EXPECT_EQ(learner.adam.first_moments()[0], 0);
}

TEST(AdamW, FollowsTheDefinitionInDouble) {
  Learner learner(kMany, {.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1}, 2);
  std::vector<double> w(learner.values.begin(), learner.values.end()), m(kMany), v(kMany);
  for (std::uint64_t step = 0; step < 5; ++step) {
    const std::vector<float> gradients = draws(step + 70, kMany, 3);
    for (std::size_t i = 0; i < kMany; ++i) {
      const double g = static_cast<double>(gradients[i]) / 16, t = static_cast<double>(step + 1);
      m[i] = 0.8 * m[i] + 0.2 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      w[i] -= 0.01 * 0.1 * w[i];
      w[i] -= 0.01 * (m[i] / (1 - std::pow(0.8, t))) / (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 1e-6);
    }
    learner.update(gradients, {.learning_rate = 0.01, .average = 1.0 / 16}, step);
  }
  for (std::size_t i = 0; i < kMany; ++i) ASSERT_NEAR(static_cast<double>(learner.values[i]), w[i], 2e-6) << i;
}

TEST(AdamW, ClipsTheAveragedGradient) {
  // Norm 5 after the average. Clipped to 1, the moments are those of (0.6, 0.8).
  Learner learner(2);
  const AdamWOutcome outcome = learner.update({6, 8}, {.learning_rate = 0.1, .average = 0.5, .max_norm = 1}, 0);
  EXPECT_DOUBLE_EQ(outcome.gradient_norm, 5);
  EXPECT_NEAR(learner.adam.first_moments()[0], 0.06, 1e-7);
  EXPECT_NEAR(learner.adam.first_moments()[1], 0.08, 1e-7);
  Learner small(2);
  small.update({6, 8}, {.learning_rate = 0.1, .average = 0.05, .max_norm = 1}, 0);
  EXPECT_NEAR(small.adam.first_moments()[0], 0.03, 1e-8);
}

TEST(AdamW, TheNormIsSummedInDouble) {
  // In float32 a sum of squares of 2^24 would no longer see another 1.
  std::vector<float> gradients(3000, 1);
  gradients[0] = 4096;
  Learner learner(gradients.size());
  EXPECT_DOUBLE_EQ(learner.update(gradients, {}, 0).gradient_norm, std::sqrt(16777216.0 + 2999));
}

TEST(AdamW, LeavesWhatIsOutsideOfTheRangesAlone) {
  Learner learner(kMany, {}, 2);
  const std::vector<float> gradients = draws(5, kMany, 1), ahead = draws(6, kMany, 1);
  learner.update(ahead, {.learning_rate = 0.01}, 0);
  const std::vector<float> before = learner.values;
  const std::vector<float> m(learner.adam.first_moments().begin(), learner.adam.first_moments().end());
  const std::vector<float> v(learner.adam.second_moments().begin(), learner.adam.second_moments().end());
  const std::vector<ParameterRange> ranges{{10, 1, 1}, {11, 20, 1}, {8000, 9000, 1}, {kMany - 3, 2, 1}, {kMany, 0, 1}};
  std::vector<bool> learns(kMany);
  double square = 0;
  for (const ParameterRange& r : ranges) {
    for (std::size_t i = r.first; i < r.first + r.count; ++i) {
      learns[i] = true;
      square += static_cast<double>(gradients[i]) * static_cast<double>(gradients[i]);
    }
  }
  const auto outcome = learner.adam.update(learner.pool, ranges, {.learning_rate = 0.01}, gradients, learner.values);
  EXPECT_NEAR(outcome.gradient_norm, std::sqrt(square), 1e-9);
  for (std::size_t i = 0; i < kMany; ++i) {
    ASSERT_EQ(learner.values[i] != before[i], learns[i]) << i;
    ASSERT_EQ(learner.adam.first_moments()[i] != m[i], learns[i]) << i;
    ASSERT_EQ(learner.adam.second_moments()[i] != v[i], learns[i]) << i;
  }
}

TEST(AdamW, ARangeThatSatOutIsCorrectedByItsOwnCount) {
  Learner learner(2, {.weight_decay = 0});
  const std::vector<float> before = learner.values;
  const std::vector<ParameterRange> ranges{{0, 1, 0}, {1, 1, 1'000'000}};
  learner.adam.update(learner.pool, ranges, {.learning_rate = 0.01}, std::vector<float>{1, 1}, learner.values);
  EXPECT_NEAR(before[0] - learner.values[0], 0.01, 1e-6);
  EXPECT_NEAR(before[1] - learner.values[1], 0.01 * 0.1 / std::sqrt(0.001), 1e-6);
}

TEST(AdamW, ThreadsDoNotChangeABit) {
  Learner one(kMany), three(kMany, {}, 3);
  for (std::uint64_t step = 0; step < 3; ++step) {
    const std::vector<float> gradients = draws(step + 50, kMany, 1);
    const AdamWStep how{.learning_rate = 0.01, .average = 0.3, .max_norm = 0.7};
    const double norm = one.update(gradients, how, step).gradient_norm;
    AdamWOutcome outcome;
    {
      const NoAllocation sealed;
      outcome = three.update(gradients, how, step);
    }
    ASSERT_EQ(outcome.gradient_norm, norm);
  }
  EXPECT_EQ(one.values, three.values);
}

TEST(AdamW, AGradientThatIsNotFiniteChangesNothing) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Learner learner(3);
    const std::vector<float> before = learner.values;
    const AdamWOutcome outcome = learner.update({1, bad, 1}, {.learning_rate = 0.1, .max_norm = 1}, 0);
    EXPECT_FALSE(outcome.applied);
    EXPECT_FALSE(std::isfinite(outcome.gradient_norm));
    EXPECT_EQ(learner.values, before);
    EXPECT_EQ(learner.adam.first_moments()[0], 0);
  }
}

TEST(AdamWDeathTest, RangesAreInOrderAndInside) {
  Learner learner(10);
  const std::vector<float> gradients(10);
  const auto update = [&](std::vector<ParameterRange> ranges) {
    learner.adam.update(learner.pool, ranges, {}, gradients, learner.values);
  };
  EXPECT_DEATH(update({{5, 2}, {6, 1}}), "check failed");
  EXPECT_DEATH(update({{5, 6}}), "check failed");
  EXPECT_DEATH(update({{11, 0}}), "check failed");
}

}  // namespace
}  // namespace axon::train
