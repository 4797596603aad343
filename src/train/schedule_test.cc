#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace axon::train {
namespace {

TEST(Schedule, CompatIsTheOriginals) {  // its own numbers, printed by running it
  const Schedule s{.peak = 1e-4, .warmup = 100, .total = 10000, .compat = true};
  EXPECT_EQ(s.rate(0), 0);
  EXPECT_NEAR(s.rate(1), 1e-6, 1e-15);
  EXPECT_NEAR(s.rate(100), 1e-4, 1e-15);
  EXPECT_NEAR(s.rate(101), 1e-4, 1e-15);
  EXPECT_NEAR(s.rate(2499), 8.6209e-5, 5e-10);
  EXPECT_NEAR(s.rate(5000), 5.0809e-5, 5e-10);
  EXPECT_NEAR(s.rate(20000), 0, 1e-15);
}

TEST(Schedule, CompatIsTheRecordedRun) {  // golden trace: peak 1e-3, warmup 3, 12 micro-steps, two an update
  const Schedule s{.peak = 1e-3, .warmup = 3, .total = 12, .compat = true};
  EXPECT_EQ(s.rate(0), 0);
  EXPECT_NEAR(s.rate(1), 0.00033333332976326346, 1e-10);
  EXPECT_NEAR(s.rate(2), 2e-3 / 3, 1e-10);
  EXPECT_NEAR(s.rate(3), 1e-3, 1e-10);
  EXPECT_NEAR(s.rate(4), 1e-3, 1e-10);
}

TEST(Schedule, CompatWithoutWarmUpIsACosine) {
  const Schedule s{.peak = 2, .warmup = 0, .total = 10, .compat = true};
  EXPECT_DOUBLE_EQ(s.rate(0), 2);
  EXPECT_DOUBLE_EQ(s.rate(5), 1);
  EXPECT_NEAR(s.rate(10), 0, 1e-15);
}

TEST(Schedule, WarmUpGivesTheFirstUpdateARate) {
  const Schedule s{.peak = 8, .warmup = 4, .total = 100};
  EXPECT_DOUBLE_EQ(s.rate(0), 2);
  EXPECT_DOUBLE_EQ(s.rate(1), 4);
  EXPECT_DOUBLE_EQ(s.rate(3), 8);
  EXPECT_DOUBLE_EQ(s.rate(4), 8);
  EXPECT_LT(s.rate(5), 8);
  EXPECT_DOUBLE_EQ((Schedule{.peak = 8, .warmup = 0, .total = 100}).rate(0), 8);
}

TEST(Schedule, EachWayDownEndsAtItsFloor) {
  const Schedule cosine{.peak = 3, .floor = 1, .warmup = 10, .total = 110};
  EXPECT_DOUBLE_EQ(cosine.rate(10), 3);
  EXPECT_DOUBLE_EQ(cosine.rate(60), 2);
  EXPECT_NEAR(cosine.rate(35), 2 + std::sqrt(0.5), 1e-12);
  EXPECT_DOUBLE_EQ(cosine.rate(110), 1);
  EXPECT_DOUBLE_EQ(cosine.rate(100000), 1);
  Schedule linear = cosine;
  linear.decay = Decay::kLinear;
  EXPECT_DOUBLE_EQ(linear.rate(10), 3);
  EXPECT_DOUBLE_EQ(linear.rate(35), 2.5);
  EXPECT_DOUBLE_EQ(linear.rate(110), 1);
  Schedule constant = cosine;
  constant.decay = Decay::kConstant;
  EXPECT_DOUBLE_EQ(constant.rate(0), 0.3);
  EXPECT_DOUBLE_EQ(constant.rate(109), 3);
}

TEST(Schedule, NoUpdateOfARunIsAtRestAndItNeverRises) {
  for (const Decay decay : {Decay::kCosine, Decay::kLinear, Decay::kConstant}) {
    for (const std::uint64_t warmup : {0u, 1u, 7u, 50u}) {
      const Schedule s{.peak = 1e-3, .warmup = warmup, .total = 50, .decay = decay};
      for (std::uint64_t k = 0; k < s.total; ++k) {
        EXPECT_GT(s.rate(k), 0) << k;
        EXPECT_LE(s.rate(k), s.peak) << k;
        EXPECT_TRUE(k <= warmup || s.rate(k) <= s.rate(k - 1)) << k;
      }
    }
  }
}

TEST(Schedule, AWarmUpThatIsLongerThanTheRunOnlyRises) {
  const Schedule s{.peak = 1, .warmup = 10, .total = 5};
  EXPECT_DOUBLE_EQ(s.rate(4), 0.5);
}

TEST(Schedule, SaysWhatIsOutOfRange) {
  const auto message = [](const Schedule& s) {
    const Status status = s.check();
    return status.ok() ? "" : status.error().message;
  };
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.peak = 0}), "the learning rate must be above 0, not 0");
  EXPECT_EQ(message({.peak = std::numeric_limits<double>::quiet_NaN()}), "the learning rate must be above 0, not nan");
  EXPECT_EQ(message({.peak = 1, .floor = 2}), "the lowest learning rate must be from 0 to 1, not 2");
  EXPECT_EQ(message({.total = 0}), "a run needs at least one update, not 0");
  EXPECT_EQ(message({.decay = Decay::kLinear, .compat = true}), "compat has the cosine schedule alone, not linear");
}

TEST(Schedule, NamesGoThereAndBack) {
  for (const Decay decay : {Decay::kCosine, Decay::kLinear, Decay::kConstant}) {
    auto parsed = parse_decay(name_of(decay));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(parsed.value(), decay);
  }
  const auto wrong = parse_decay("cosin");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message, "no schedule \"cosin\": there are cosine, linear and constant");
}

}  // namespace
}  // namespace axon::train
