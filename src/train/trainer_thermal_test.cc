// A training under a governor with a clock and a sensor of the test's own.

#include <gtest/gtest.h>

#include "train/training_for_test.h"

namespace axon::train {
namespace {

using namespace testing;

// A machine whose heat the test sets: each step takes two seconds, and each second of rest cools.
class Machine {
 public:
  explicit Machine(double celsius) : celsius_(celsius) {}
  double cooling = 0;  // in a rest, degrees a call
  double seconds = 0;

  void set(double celsius) { celsius_ = celsius; }
  std::unique_ptr<Governor> governor() {
    return std::make_unique<Governor>(std::make_unique<Said>(*this), ThermalLimits{}, 1.0,
                                      ThermalClock{.now = [this] { return seconds; },
                                                   .sleep =
                                                       [this](double s) {
                                                         seconds += s;
                                                         celsius_ -= cooling;
                                                       }});
  }

 private:
  class Said : public Sensor {
   public:
    explicit Said(const Machine& machine) : machine_(machine) {}
    ThermalReading read() override { return {.celsius = machine_.celsius_}; }
    std::string source() const override { return "a test"; }

   private:
    const Machine& machine_;
  };
  double celsius_;
};

// Runs with `after_step` before the next step may begin.
Result<TrainEnd> run_on(Machine& machine, Training& training, const std::string& folder,
                        const std::function<void(std::uint64_t step)>& after_step, bool resume = false) {
  const auto governor = machine.governor();
  return run(training, folder,
             {.resume = resume, .governor = governor.get(), .on_metrics = [&](const MetricsLine& line) {
                if (!std::holds_alternative<TrainMetrics>(line)) return;
                machine.seconds += 2;
                if (after_step) after_step(step_of(line));
              }});
}

// Ranks that do not learn, of each tensor that has ranks.
template <class F>
void each_late(Training& training, std::size_t learning, F&& f) {
  for (const AdapterTensor& t : training.adapters().tensors()) {
    if (t.part == AdapterTensor::Part::kMagnitude) continue;
    for (std::size_t i = t.first + learning * t.cols; i < t.first + t.size(); ++i) f(i);
  }
}

class HalfRank : public ::testing::TestWithParam<std::tuple<AdapterKind, std::uint64_t>> {};
INSTANTIATE_TEST_SUITE_P(All, HalfRank,
                         ::testing::Combine(::testing::Values(AdapterKind::kLora, AdapterKind::kDora),
                                            ::testing::Values(4u, 3u, 1u)));

TEST_P(HalfRank, LeavesTheLaterRanksAsTheyWere) {
  Recipe recipe;
  recipe.settings.adapter = std::get<0>(GetParam());
  recipe.settings.rank = std::get<1>(GetParam());
  const std::size_t learning = std::max<std::size_t>(1, recipe.settings.rank / 2);
  const auto training = training_of(recipe);
  const Parameters before(*training);
  Machine machine(80);  // above 75
  const Folder folder;
  std::optional<Parameters> half;
  EXPECT_EQ(ok(run_on(machine, *training, folder.path(),
                      [&](std::uint64_t step) {
                        if (step != 4) return;
                        half.emplace(*training);  // after an update, in the next window
                        machine.set(60);
                      })),
            TrainEnd::kDone);
  ASSERT_TRUE(half);
  std::size_t late = 0;
  each_late(*training, learning, [&](std::size_t i) {
    ++late;
    ASSERT_EQ(half->values[i], before.values[i]);
    ASSERT_EQ(half->first_moments[i], 0);
    ASSERT_EQ(half->second_moments[i], 0);
  });
  EXPECT_EQ(late == 0, learning == recipe.settings.rank);
  // The first ones do learn: B is zero at first.
  for (const AdapterTensor& t : training->adapters().tensors()) {
    if (t.part != AdapterTensor::Part::kB || training->adapters().shape().linears[t.linear].name == "input_proj")
      continue;
    double moved = 0;
    for (std::size_t i = t.first; i < t.first + learning * t.cols; ++i) moved += std::fabs(half->values[i]);
    EXPECT_GT(moved, 0) << training->adapters().shape().linears[t.linear].name;
  }
  // The window that was open ends with half of the ranks; the next has all.
  const auto steps = steps_of(folder.path());
  ASSERT_EQ(steps.size(), 7u);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(steps[i].ranks, i < 6 ? learning : recipe.settings.rank) << i;
  // Their first update is that of young moments: B moves by about the rate, whatever the others did before.
  const Parameters after(*training);
  std::size_t young = 0;
  each_late(*training, learning, [&](std::size_t i) {
    const double step =
        std::fabs(double{after.values[i]} - double{before.values[i]} * (1 - steps[6].learning_rate * 0.01));
    ASSERT_LE(step, 1.01 * steps[6].learning_rate + 1e-9);
    young += step > 0.9 * steps[6].learning_rate ? 1u : 0u;
  });
  if (late != 0) {
    EXPECT_GT(young, late / 4);
  }
  std::vector<std::string> states;
  for (const EventMetrics& event : events_of(folder.path())) {
    if (event.event == "thermal") states.push_back(fmt::format("{} {}", event.step, *event.state));
  }
  EXPECT_EQ(states, (std::vector<std::string>{"0 half-rank", "4 full"}));
}

// Stopped in a window of half rank and gone on with in the cold: the window ends as it began.
TEST(Thermal, AResumedWindowKeepsItsRanks) {
  Recipe recipe;
  const auto whole = training_of(recipe);
  const Folder folder, stopped;
  const auto cool = [](Machine& machine) {
    return [&machine](std::uint64_t step) { machine.set(step >= 4 ? 60 : 80); };
  };
  Machine one(80), two(80), cold(60);
  ok(run_on(one, *whole, folder.path(), cool(one)));
  const auto first = training_of(recipe), second = training_of(recipe);
  const auto governor = two.governor();
  EXPECT_EQ(ok(run(*first, stopped.path(), {.stop_after = 4, .governor = governor.get()})), TrainEnd::kStopped);
  EXPECT_EQ(ok(run_on(cold, *second, stopped.path(), {}, /*resume=*/true)), TrainEnd::kDone);
  EXPECT_TRUE(Parameters(*second) == Parameters(*whole));
}

TEST(Thermal, PausesAreCounted) {
  Recipe recipe;
  const auto training = training_of(recipe);
  Machine machine(60);
  machine.cooling = 2;
  const Folder folder;
  ok(run_on(machine, *training, folder.path(), [&](std::uint64_t step) { machine.set(step == 2 ? 88 : 60); }));
  const auto steps = steps_of(folder.path());
  ASSERT_EQ(steps.size(), 7u);
  for (std::size_t i = 0; i < 7; ++i) {
    if (i == 2) {
      EXPECT_GE(steps[i].paused_seconds, 1);
    } else {
      EXPECT_EQ(steps[i].paused_seconds, 0) << i;
    }
    EXPECT_TRUE(steps[i].celsius) << i;
    EXPECT_EQ(steps[i].ranks, 4u) << i;
  }
  EXPECT_TRUE(Parameters(*training) == Whole(recipe).parameters) << "a rest changes no number";
}

TEST(Thermal, AStopSavesAndGoesOnWhenCool) {
  Recipe recipe;
  const auto training = training_of(recipe);
  Machine machine(60);
  machine.cooling = 5;
  const Folder folder;
  std::vector<std::string> at_rest;
  EXPECT_EQ(ok(run_on(machine, *training, folder.path(),
                      [&](std::uint64_t step) {
                        if (step == 5) at_rest = checkpoints_in(folder.path());
                        machine.set(step == 4 ? 97 : 60);
                      })),
            TrainEnd::kDone);
  EXPECT_EQ(at_rest, std::vector<std::string>{"step-00000004"}) << "in the middle of a window";
  EXPECT_EQ(checkpoints_in(folder.path()), (std::vector<std::string>{"step-00000004", "step-00000007"}));
  EXPECT_EQ(steps_of(folder.path()).size(), 7u);
  EXPECT_EQ(steps_of(folder.path())[4].paused_seconds, 0) << "it stood still, and did not pause";
  std::vector<std::string> said;
  for (const EventMetrics& event : events_of(folder.path()))
    said.push_back(event.event + " " + event.state.value_or(""));
  EXPECT_EQ(said, (std::vector<std::string>{"start ", "thermal stop", "thermal half-rank", "thermal full", "done "}));
  // From that checkpoint, too.
  std::filesystem::remove_all(folder / "checkpoints/step-00000007");
  const auto again = training_of(recipe);
  Machine warm(60);
  EXPECT_EQ(
      ok(run_on(
          warm, *again, folder.path(), [&](std::uint64_t step) { warm.set(step == 4 ? 97 : 60); }, /*resume=*/true)),
      TrainEnd::kDone);
}

TEST(Thermal, ValidationRestsToo) {
  for (const double celsius : {90.0, 97.0}) {
    Recipe recipe;
    recipe.settings.batch_size = 1;
    recipe.validation = some_examples(3, false, 8);
    const auto training = training_of(recipe);
    Machine machine(celsius);
    machine.cooling = 1;
    const auto governor = machine.governor();
    const auto ranks = single_process();
    Trainer trainer(*training, *ranks, governor.get(), {.folder = "nowhere", .data = "", .write_adapter = {}});
    EXPECT_TRUE(trainer.validate().ok());
    EXPECT_GT(machine.seconds, 0);
    EXPECT_LT(*governor->status().celsius, 85);
  }
}

TEST(Thermal, AStopFlagEndsItsWaits) {
  for (const double celsius : {90.0, 99.0}) {  // in a pause; in a stop
    Recipe recipe;
    const auto training = training_of(recipe);
    std::atomic<bool> stop = false;
    double seconds = 0;
    int sleeps = 0;
    class Hot : public Sensor {
     public:
      explicit Hot(double c) : celsius_(c) {}
      ThermalReading read() override { return {.celsius = celsius_}; }
      std::string source() const override { return "a test"; }

     private:
      double celsius_;
    };
    Governor governor(std::make_unique<Hot>(celsius), ThermalLimits{}, 1.0,
                      {.now = [&] { return seconds; },
                       .sleep =
                           [&](double s) {
                             seconds += s;
                             stop = ++sleeps == 3;
                           }});
    const Folder folder;
    const auto ranks = single_process();
    Trainer trainer(*training, *ranks, &governor, {.folder = folder.path(), .data = "", .write_adapter = {}});
    EXPECT_EQ(ok(trainer.run(stop)), TrainEnd::kStopped);
    EXPECT_EQ(sleeps, 3);
    EXPECT_EQ(trainer.steps_done(), 0u);
    EXPECT_EQ(checkpoints_in(folder.path()), std::vector<std::string>{"step-00000000"});
  }
}

}  // namespace
}  // namespace axon::train
