// The table, the step ahead, hysteresis, power, and limits that are none.

#include "thermal/policy.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <vector>

namespace axon {
namespace {

constexpr ThermalAction kFull = ThermalAction::kFull, kHalfRank = ThermalAction::kHalfRank,
                        kPause = ThermalAction::kPause, kStop = ThermalAction::kStop;

// A machine that has been at this temperature for 20 s.
std::vector<Temperature> steady(double celsius) {
  std::vector<Temperature> history;
  for (int s = 0; s <= 20; ++s) history.push_back({static_cast<double>(s), celsius});
  return history;
}

ThermalAction at(double celsius, StepHeat step = {}, bool stopped = false) {
  const auto history = steady(celsius);
  return decide({}, {.now_s = 20, .history = history, .last_step = step, .stopped = stopped}).action;
}

TEST(ThermalPolicy, TheTable) {
  EXPECT_EQ(at(20), kFull);
  EXPECT_EQ(at(74.9), kFull);
  EXPECT_EQ(at(75), kHalfRank);
  EXPECT_EQ(at(84.9), kHalfRank);
  EXPECT_EQ(at(85), kPause);
  EXPECT_EQ(at(94.9), kPause);
  EXPECT_EQ(at(95), kStop);
  EXPECT_EQ(at(120), kStop);
}

TEST(ThermalPolicy, WhatADecisionSays) {
  const auto history = steady(86.25);
  const ThermalDecision decision = decide({.pause_s = 2}, {.now_s = 20, .history = history});
  EXPECT_EQ(decision.pause_s, 2);
  EXPECT_EQ(decision.reason, "86.2 C is not below 85 C");
  EXPECT_EQ(decision.rank_fraction(), 0.5);
  EXPECT_EQ(decide({}, {.history = std::span(history).first(1)}).rank_fraction(), 0.5);
  EXPECT_EQ(ThermalDecision{}.rank_fraction(), 1.0);
}

TEST(ThermalPolicy, StoppedUntilCool) {
  EXPECT_EQ(at(94, {}, true), kStop);
  EXPECT_EQ(at(75, {}, true), kStop);
  EXPECT_EQ(at(74.9, {}, true), kFull);
}

TEST(ThermalPolicy, OneStepAheadTheNextMilderAction) {
  EXPECT_EQ(at(74, {60, 10.9}), kFull);      // would pass max_speed: the milder action is none
  EXPECT_EQ(at(74, {60, 11.1}), kHalfRank);  // would pass pause
  EXPECT_EQ(at(80, {60, 13.9}), kHalfRank);
  EXPECT_EQ(at(80, {60, 14.1}), kPause);  // would pass stop, less the margin
  EXPECT_EQ(at(80, {60, -30}), kHalfRank) << "a step that cooled promises nothing";
}

// Waiting for less than resume_c could be for ever.
TEST(ThermalPolicy, AStepThatHeatsMoreThanTheLimitsAreApart) {
  EXPECT_EQ(at(75, {60, 40}), kPause);
  EXPECT_EQ(at(74, {60, 40}), kHalfRank);
  const auto history = steady(74);
  EXPECT_EQ(decide({}, {.now_s = 20, .history = history, .last_step = {60, 40}}).reason,
            "74.0 C, but one step heats by 40.0 C: shorter steps would hold the limit");
}

TEST(ThermalPolicy, TrendActsBeforeTheLimit) {
  std::vector<Temperature> rising;
  for (int s = 0; s <= 20; ++s) rising.push_back({1.0 * s, 60 + 0.7 * s});  // 74 C, 0.7 C a second
  EXPECT_NEAR(thermal_trend(rising).value(), 0.7, 1e-12);
  EXPECT_EQ(decide({}, {.now_s = 20, .history = rising, .last_step = {5, 0}}).action, kFull);       // 77.5
  EXPECT_EQ(decide({}, {.now_s = 20, .history = rising, .last_step = {600, 0}}).action, kFull);     // 81, not 494
  for (Temperature& t : rising) t.celsius += 2.0 * (t.seconds - 20) * 0.4;                          // 1.5 a second
  EXPECT_EQ(decide({}, {.now_s = 20, .history = rising, .last_step = {10, 0}}).action, kHalfRank);  // 89
  EXPECT_EQ(decide({}, {.now_s = 20, .history = rising, .last_step = {5, 0}}).action, kFull);       // 81.5
}

TEST(ThermalPolicy, TrendOfTheLastTenSeconds) {
  std::vector<Temperature> history = {{0, 10}, {1, 90}, {20, 50}, {22, 51}, {24, 51}, {26, 52}, {30, 54}};
  // Over 20, 22, 24, 26, 30: means 24.4 and 51.6; 22.8 / 59.2 by hand.
  EXPECT_NEAR(thermal_trend(history).value(), 22.8 / 59.2, 1e-12);
  EXPECT_EQ(thermal_trend({}), std::nullopt);
  EXPECT_EQ(thermal_trend(std::span(history).first(2)), std::nullopt);
  const std::vector<Temperature> brief = {{0, 10}, {0.5, 12}, {1, 14}};
  EXPECT_EQ(thermal_trend(brief), std::nullopt);
}

TEST(ThermalPolicy, PressureWhereThereAreNoDegrees) {
  const auto action = [](ThermalPressure pressure, bool stopped = false) {
    return decide({}, {.pressure = pressure, .stopped = stopped}).action;
  };
  EXPECT_EQ(action(ThermalPressure::kNominal), kFull);
  EXPECT_EQ(action(ThermalPressure::kModerate), kHalfRank);
  EXPECT_EQ(action(ThermalPressure::kHeavy), kPause);
  EXPECT_EQ(action(ThermalPressure::kTrapping), kStop);
  EXPECT_EQ(action(ThermalPressure::kSleeping), kStop);
  EXPECT_EQ(action(ThermalPressure::kModerate, true), kStop);
  EXPECT_EQ(action(ThermalPressure::kNominal, true), kFull);
  const auto history = steady(50);  // the harsher of the two
  EXPECT_EQ(decide({}, {.now_s = 20, .history = history, .pressure = ThermalPressure::kHeavy}).action, kPause);
}

TEST(ThermalPolicy, PressureWords) {
  for (const auto pressure : {ThermalPressure::kNominal, ThermalPressure::kModerate, ThermalPressure::kHeavy,
                              ThermalPressure::kTrapping, ThermalPressure::kSleeping}) {
    EXPECT_EQ(thermal_pressure(name_of(pressure)), pressure);
  }
  EXPECT_EQ(thermal_pressure("Fair"), ThermalPressure::kModerate);
  EXPECT_EQ(thermal_pressure("SERIOUS"), ThermalPressure::kHeavy);
  EXPECT_EQ(thermal_pressure("Critical"), ThermalPressure::kTrapping);
  EXPECT_EQ(thermal_pressure("warm"), std::nullopt);
}

TEST(ThermalPolicy, OnBattery) {
  const auto history = steady(50);
  ThermalView view{
      .now_s = 20, .history = history, .power = PowerSource::kBattery, .last_step = {.seconds = 3}, .rested_s = 2.8};
  EXPECT_EQ(decide({}, view).action, kFull);
  const ThermalDecision rest = decide({.on_battery = OnBattery::kSlow}, view);
  EXPECT_EQ(rest.action, kPause);
  EXPECT_NEAR(rest.pause_s, 0.2, 1e-12);
  EXPECT_EQ(decide({.on_battery = OnBattery::kStop}, view).action, kStop);
  view.rested_s = 3;
  EXPECT_EQ(decide({.on_battery = OnBattery::kSlow}, view).action, kFull);
  view.power = PowerSource::kMains;
  EXPECT_EQ(decide({.on_battery = OnBattery::kStop}, view).action, kFull);
  view.power = PowerSource::kUnknown;
  EXPECT_EQ(decide({.on_battery = OnBattery::kStop}, view).action, kFull);
}

TEST(ThermalPolicy, ASilentSensorSlowsAndLetsGoOn) {
  const auto history = steady(50);
  EXPECT_EQ(decide({}, {.now_s = 30, .history = history}).action, kFull);
  EXPECT_EQ(decide({}, {.now_s = 30.5, .history = history}).action, kPause);
  EXPECT_EQ(decide({}, {.now_s = 30.5, .history = history, .rested_s = 0.5}).action, kHalfRank);
  EXPECT_EQ(decide({}, {}).action, kPause);
  EXPECT_EQ(decide({}, {.rested_s = 0.5}).action, kHalfRank);
}

TEST(ThermalLimits, AreChecked) {
  EXPECT_TRUE(check_limits({}).ok());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<ThermalLimits> wrong = {
      {.max_speed_c = 85}, {.pause_c = 95},  {.stop_c = 85},   {.max_speed_c = 0},  {.stop_c = 151},
      {.stop_c = nan},     {.pause_c = nan}, {.resume_c = 0},  {.resume_c = 86},    {.resume_c = nan},
      {.pause_s = 0},      {.pause_s = 61},  {.pause_s = nan}, {.max_speed_c = nan}};
  for (const ThermalLimits& limits : wrong) {
    const Status status = check_limits(limits);
    ASSERT_FALSE(status.ok()) << limits.max_speed_c << " " << limits.pause_c << " " << limits.stop_c;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(check_limits({.max_speed_c = 90}).error().message,
            "temperature limits must be 0 < max-speed < pause < stop <= 150 C, not 90, 85 and 95");
}

// A hotter machine is never treated more mildly.
RC_GTEST_PROP(ThermalPolicy, IsMonotonic, ()) {
  const double cooler = *rc::gen::inRange(0, 1500) * 0.1, hotter = cooler + *rc::gen::inRange(0, 500) * 0.1;
  const StepHeat step{*rc::gen::inRange(0, 1000) * 0.1, *rc::gen::inRange(-100, 200) * 0.1};
  const bool stopped = *rc::gen::arbitrary<bool>();
  RC_ASSERT(at(cooler, step, stopped) <= at(hotter, step, stopped));
}

}  // namespace
}  // namespace axon
