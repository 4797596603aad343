// What the governor holds, and what it costs, on a model of a laptop: beside pausing alone (what the Python original
// does: sleep 0.5 s while at or over 85 C, die at 95 C) and the bare table (a pause of 0.5 s a step from 85 C).

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <tuple>

#include "thermal/thermal_model_for_test.h"

namespace axon {
namespace {

constexpr double kHours = 10;  // a step of a minute is 2 % of an hour

// A temperature that is read once a second.
class Thermometer {
 public:
  explicit Thermometer(const FanlessLaptop& laptop) : laptop_(laptop) {}
  double read() {
    if (laptop_.seconds - read_s_ >= 1) {
      read_s_ = laptop_.seconds;
      celsius_ = laptop_.celsius;
    }
    return celsius_;
  }

 private:
  const FanlessLaptop& laptop_;
  double read_s_ = -1, celsius_ = 0;
};

bool goes_on(const FanlessLaptop& laptop) { return laptop.seconds < kHours * 3600; }

Outcome outcome(const FanlessLaptop& laptop, double steps, double half) {
  return {.steps = steps / kHours, .half_share = half / steps, .hottest_c = laptop.hottest_c};
}

Outcome pausing_alone(FanlessLaptop laptop, const StepCost& step) {
  Thermometer thermometer(laptop);
  double steps = 0;
  bool died = false;
  while (goes_on(laptop) && !died) {
    died = thermometer.read() >= 95;
    if (died) break;
    while (thermometer.read() >= 85) laptop.rest(0.5);
    step.take(laptop, false);
    ++steps;
  }
  Outcome result = outcome(laptop, steps, 0);
  result.died = died;
  return result;
}

Outcome bare_table(FanlessLaptop laptop, const StepCost& step) {
  Thermometer thermometer(laptop);
  double steps = 0, half = 0;
  int stops = 0;
  while (goes_on(laptop)) {
    const double celsius = thermometer.read();
    if (celsius >= 95) {
      ++stops;
      while (thermometer.read() >= 75) laptop.rest(0.5);
      continue;
    }
    if (celsius >= 85) laptop.rest(0.5);
    step.take(laptop, celsius >= 75);
    ++steps;
    half += celsius >= 75 ? 1 : 0;
  }
  Outcome result = outcome(laptop, steps, half);
  result.stops = stops;
  return result;
}

Outcome governed(FanlessLaptop laptop, const StepCost& step, const ThermalLimits& limits = {}, bool whole = false) {
  Governor governor(std::make_unique<LaptopSensor>(laptop, whole), limits, 1,
                    {.now = [&] { return laptop.seconds; }, .sleep = [&](double s) { laptop.rest(s); }});
  double steps = 0, half = 0;
  int stops = 0;
  while (goes_on(laptop)) {
    const ThermalDecision decision = governor.before_step();
    if (decision.action == ThermalAction::kStop) {
      ++stops;
      EXPECT_TRUE(governor.wait_until_cool());
      continue;
    }
    step.take(laptop, decision.action == ThermalAction::kHalfRank);
    ++steps;
    half += decision.action == ThermalAction::kHalfRank ? 1 : 0;
  }
  Outcome result = outcome(laptop, steps, half);
  result.stops = stops;
  return result;
}

// How much one step heats that begins at `from_c`.
double rise(FanlessLaptop laptop, const StepCost& step, double from_c) {
  laptop.celsius = from_c;
  step.take(laptop, false);
  return laptop.celsius - from_c;
}

void print(const char* name, const FanlessLaptop& laptop, const StepCost& step, const Outcome& result) {
  std::printf("%4.1f s steps, %2.0f C outside, %-14s %7.1f steps an hour, %3.0f %% half, at most %5.1f C, %d stops%s\n",
              step.seconds, laptop.ambient_c, name, result.steps, 100 * result.half_share, result.hottest_c,
              result.stops, result.died ? ", died" : "");
}

class EachStep : public testing::TestWithParam<std::tuple<double, double>> {
 protected:
  StepCost step{.seconds = std::get<0>(GetParam())};
  FanlessLaptop laptop{.ambient_c = std::get<1>(GetParam())};
};

TEST_P(EachStep, HoldsTheLimitWithMoreStepsThanPausingAlone) {
  const Outcome ours = governed(laptop, step), pausing = pausing_alone(laptop, step), table = bare_table(laptop, step);
  print("governor", laptop, step, ours);
  print("pausing alone", laptop, step, pausing);
  print("bare table", laptop, step, table);
  EXPECT_EQ(ours.stops, 0);
  EXPECT_LT(ours.hottest_c, 95);
  // A step begins below 85 C, on a reading that may be a second old.
  EXPECT_LE(ours.hottest_c, 85 + rise(laptop, step, 85) + rise(laptop, {.seconds = 1}, 85));
  // Pausing alone gets as many only where it comes within a degree of its end.
  if (pausing.hottest_c < 94) {
    EXPECT_GT(ours.steps, pausing.steps);
  } else {
    EXPECT_GE(ours.steps, pausing.steps);
  }
}

INSTANTIATE_TEST_SUITE_P(Holding, EachStep,
                         testing::Combine(testing::Values(0.5, 5.0, 60.0), testing::Values(15., 25., 35.)),
                         [](const auto& cell) {
                           return std::to_string(static_cast<int>(10 * std::get<0>(cell.param))) + "ds_" +
                                  std::to_string(static_cast<int>(std::get<1>(cell.param))) + "C";
                         });

// The last degree.
TEST(Holding, WherePausingAloneDies) {
  const StepCost step{.seconds = 60, .watts = 20};
  const FanlessLaptop laptop{.ambient_c = 35};
  const Outcome ours = governed(laptop, step), pausing = pausing_alone(laptop, step);
  EXPECT_TRUE(pausing.died);
  EXPECT_LT(pausing.steps * kHours, 20);  // of a night
  EXPECT_LT(ours.hottest_c, 95);
  EXPECT_EQ(ours.stops, 0);
  EXPECT_GT(ours.steps, 15);
}

TEST(Holding, SensorsOfWholeDegrees) {
  for (const double seconds : {0.5, 5.0, 60.0}) {
    const Outcome ours = governed({.ambient_c = 35}, {.seconds = seconds}, {}, /*whole=*/true);
    EXPECT_LT(ours.hottest_c, 95) << seconds;
    EXPECT_EQ(ours.stops, 0) << seconds;
  }
}

// A limit that is as warm as the bare table lets the machine become: then there are more steps than with the table, and
// still no stop.
TEST(Holding, AsWarmAsTheBareTableWithMoreSteps) {
  for (const double seconds : {0.5, 5.0, 60.0}) {
    for (const double ambient_c : {25.0, 35.0}) {
      const FanlessLaptop laptop{.ambient_c = ambient_c};
      const StepCost step{.seconds = seconds};
      const Outcome ours = governed(laptop, step, {.pause_c = 93}), table = bare_table(laptop, step);
      print("pause at 93 C", laptop, step, ours);
      EXPECT_GT(ours.steps, table.steps) << seconds << " s, " << ambient_c << " C";
      EXPECT_LT(ours.hottest_c, 95);
      EXPECT_EQ(ours.stops, 0);
      EXPECT_GT(table.hottest_c, 95);
    }
  }
}

// A little machine that one step of a minute takes from cool past the limit: nothing between steps can hold that.
// Asked before every micro-batch, the same governor does.
TEST(Holding, StepsThatAreTooLongAreHeldBetweenTheirMicroBatches) {
  const FanlessLaptop little{.joules_per_c = 15};
  const Outcome whole = governed(little, {.seconds = 60}), parts = governed(little, {.seconds = 5});
  EXPECT_GT(whole.hottest_c, 95);
  EXPECT_LT(parts.hottest_c, 90);
  EXPECT_EQ(parts.stops, 0);
}

// What half the rank brings is what it saves: without it, the governor takes the steps that pausing alone does.
TEST(Holding, HalfOfTheRankIsTwoPercent) {
  const FanlessLaptop laptop;
  const StepCost step{.seconds = 0.5};
  const double pausing = pausing_alone(laptop, step).steps;
  EXPECT_NEAR(governed(laptop, step).steps / pausing, 1.02, 0.003);
  EXPECT_NEAR(governed(laptop, {.seconds = 0.5, .half_saves = 0}).steps / pausing, 1, 0.003);
}

}  // namespace
}  // namespace axon
