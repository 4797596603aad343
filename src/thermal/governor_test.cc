// The governor on a made-up clock, and its thread on the real one.

#include "thermal/governor.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "thermal/trace.h"

namespace axon {
namespace {

using Action = ThermalAction;

// A sensor that says what the test says.
struct Said {
  ThermalReading reading{.celsius = 60};
  int reads = 0;
};
class SaidSensor : public Sensor {
 public:
  explicit SaidSensor(Said& said) : said_(said) {}
  ThermalReading read() override {
    ++said_.reads;
    return said_.reading;
  }
  std::string source() const override { return "a test"; }

 private:
  Said& said_;
};

class OnAMadeUpClock : public testing::Test {
 protected:
  Governor make(ThermalLimits limits = {}) {
    return Governor(std::make_unique<SaidSensor>(said), limits, 1,
                    {.now = [this] { return seconds; },
                     .sleep =
                         [this](double s) {
                           slept.push_back(s);
                           seconds += s;
                           if (while_asleep) while_asleep();
                         }});
  }
  void later(double s, double celsius) {
    seconds += s;
    said.reading.celsius = celsius;
  }

  Said said;
  double seconds = 1000;
  std::vector<double> slept;
  std::function<void()> while_asleep;
};

TEST_F(OnAMadeUpClock, FullSpeedBelowTheLimits) {
  Governor governor = make();
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  later(1, 61);
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  later(1, 76);
  const ThermalDecision decision = governor.before_step();
  EXPECT_EQ(decision.action, Action::kHalfRank);
  EXPECT_EQ(decision.rank_fraction(), 0.5);
  EXPECT_TRUE(slept.empty());
}

TEST_F(OnAMadeUpClock, PausesUntilCooler) {
  said.reading.celsius = 88;
  Governor governor = make({.pause_s = 0.25});
  while_asleep = [&] {
    if (slept.size() >= 6) said.reading.celsius = 84;
  };
  EXPECT_EQ(governor.before_step().action, Action::kHalfRank);
  EXPECT_EQ(slept, std::vector<double>(8, 0.25));  // the sensor is read once a second
  EXPECT_DOUBLE_EQ(governor.status().paused_s, 2);
  EXPECT_EQ(said.reads, 3);
}

TEST_F(OnAMadeUpClock, LearnsWhatAStepHeats) {
  Governor governor = make();
  said.reading.celsius = 60;
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  later(60, 78);  // 18 C a step: from 78 it would be 96
  while_asleep = [&] { said.reading.celsius = *said.reading.celsius - 0.5; };
  const ThermalDecision decision = governor.before_step();
  EXPECT_EQ(decision.action, Action::kHalfRank);
  EXPECT_LT(*governor.status().celsius + 18, 94);
  EXPECT_GT(*governor.status().celsius + 18, 92);
  // The rest does not count as part of the step.
  const double began = *governor.status().celsius;
  later(60, began + 3);
  EXPECT_EQ(governor.before_step().action, Action::kHalfRank);
  EXPECT_EQ(governor.decision().reason, fmt::format("{:.1f} C is not below 75 C", began + 3));
}

TEST_F(OnAMadeUpClock, StopsAndGoesOnWhenCool) {
  Governor governor = make();
  later(1, 95);
  EXPECT_EQ(governor.before_step().action, Action::kStop);
  later(1, 80);
  EXPECT_EQ(governor.before_step().action, Action::kStop) << "below pause, but not yet cool";
  while_asleep = [&] { said.reading.celsius = *said.reading.celsius - 1; };
  EXPECT_TRUE(governor.wait_until_cool());
  EXPECT_EQ(slept, std::vector<double>(6, 1));
  EXPECT_DOUBLE_EQ(governor.status().stopped_s, 6);
  EXPECT_EQ(*governor.status().celsius, 74);
  EXPECT_LT(governor.before_step().action, Action::kPause);
}

// The hour in which it cooled is no step.
TEST_F(OnAMadeUpClock, AStopLeavesWhatWasLearned) {
  Governor governor = make();
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  later(60, 96);
  EXPECT_EQ(governor.before_step().action, Action::kStop);
  later(3600, 50);
  EXPECT_TRUE(governor.wait_until_cool());
  seconds += 1;
  EXPECT_EQ(governor.before_step().reason, "50.0 C, and 86.0 C after one more step");
}

TEST_F(OnAMadeUpClock, AFlagEndsEveryWait) {
  std::atomic<bool> stop = false;
  said.reading.celsius = 90;
  Governor governor = make();
  while_asleep = [&] { stop = slept.size() == 3; };
  EXPECT_EQ(governor.before_step(&stop).action, Action::kPause);
  EXPECT_EQ(slept.size(), 3u);
  stop = false;
  slept.clear();
  later(1, 99);
  EXPECT_EQ(governor.before_step(&stop).action, Action::kStop);
  EXPECT_FALSE(governor.wait_until_cool(&stop));
  EXPECT_EQ(slept.size(), 3u);
}

TEST_F(OnAMadeUpClock, SlowOnBatteryRestsAsLongAsItWorks) {
  said.reading.power = PowerSource::kBattery;
  Governor governor = make({.on_battery = OnBattery::kSlow});
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  later(1.25, 60);
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  EXPECT_EQ(slept, (std::vector<double>{0.5, 0.5, 0.25}));
}

TEST_F(OnAMadeUpClock, ASensorThatFallsSilent) {
  Governor governor = make();
  EXPECT_EQ(governor.before_step().action, Action::kFull);
  said.reading.celsius.reset();
  seconds += 11;
  EXPECT_EQ(governor.before_step().action, Action::kHalfRank);
  EXPECT_EQ(slept, std::vector<double>{0.5});
  EXPECT_EQ(governor.status().celsius, std::nullopt);
  EXPECT_EQ(governor.status().decision.reason, "no reading from the sensor");
}

TEST_F(OnAMadeUpClock, Status) {
  said.reading.power = PowerSource::kMains;
  Governor governor = make();
  for (int i = 0; i < 20; ++i) {
    later(1, 60 + 0.1 * i);
    governor.before_step();
  }
  const ThermalStatus status = governor.status();
  EXPECT_DOUBLE_EQ(*status.celsius, 61.9);
  EXPECT_NEAR(*status.trend_c_per_minute, 6, 1e-6);
  EXPECT_EQ(status.decision.action, Action::kFull);
  EXPECT_EQ(status.power, PowerSource::kMains);
  EXPECT_EQ(status.source, "a test");
  EXPECT_EQ(status.paused_s, 0);
}

// The real clock. A reader and a trainer at once, for ThreadSanitizer.
TEST(GovernorThread, ReadsInTheBackground) {
  std::atomic<int> reads = 0;
  class Counting : public Sensor {
   public:
    explicit Counting(std::atomic<int>& reads_made) : reads_(reads_made) {}
    ThermalReading read() override { return {.celsius = 60.0 + ++reads_ % 5}; }
    std::string source() const override { return "counting"; }

   private:
    std::atomic<int>& reads_;
  };
  Governor governor(std::make_unique<Counting>(reads), {}, 0.001);
  std::thread display([&] {
    while (reads < 50) EXPECT_EQ(governor.status().source, "counting");
  });
  while (reads < 50) EXPECT_EQ(governor.before_step().action, Action::kFull);
  display.join();
}

TEST(GovernorThread, ClosesAndStopsAtOnce) {
  const auto began = std::chrono::steady_clock::now();
  {
    auto hot = ThermalTrace::parse("0 90\n", "hot");
    Governor governor(trace_sensor(std::move(hot).value(), [] { return 0.0; }), {.pause_s = 60}, 3600);
    std::atomic<bool> stop = false;
    std::thread user([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      stop = true;
    });
    EXPECT_EQ(governor.before_step(&stop).action, Action::kPause);
    user.join();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
}

}  // namespace
}  // namespace axon
