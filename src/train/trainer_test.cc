// Steps, updates, files and failures of a training; what batches, accumulation and chunks must not change.

#include "train/trainer.h"

#include <gtest/gtest.h>

#include <set>

#include "train/training_for_test.h"

namespace axon::train {
namespace {

using namespace testing;
using testing_model::distance;

// Updates.

TEST(Trainer, LearnsItsData) {
  Recipe recipe;
  recipe.settings.max_steps = 120;
  recipe.settings.grad_accum = 1;
  recipe.examples = some_examples(4, false);
  recipe.validation = recipe.examples;
  const Whole whole(recipe);
  const auto steps = steps_of(whole.folder.path());
  EXPECT_LT(steps.back().loss, 0.25 * steps.front().loss);
}

TEST(Trainer, PrefersWhatIsChosen) {
  Recipe recipe;
  recipe.settings.objective = Objective::kPreference;
  recipe.settings.orpo_lambda = 1;
  recipe.settings.max_steps = 60;
  recipe.settings.grad_accum = 1;
  recipe.examples = some_examples(4, true);
  const Whole whole(recipe);
  const auto steps = steps_of(whole.folder.path());
  EXPECT_GT(steps.back().pairs->reward_margin, steps.front().pairs->reward_margin + 1);
  EXPECT_EQ(steps.back().pairs->reward_accuracy, 1);
}

// Tokens count the same wherever they stand: the mean is over a whole window.
void expect_same_updates(const Recipe& one, const Recipe& other) {
  const Whole a(one), b(other);
  EXPECT_LE(distance(b.parameters.values, a.parameters.values), 1e-6);
  EXPECT_LE(distance(b.parameters.first_moments, a.parameters.first_moments), 1e-5);
  const auto steps_a = steps_of(a.folder.path()), steps_b = steps_of(b.folder.path());
  EXPECT_EQ(steps_a.back().update, steps_b.back().update);
  EXPECT_NEAR(steps_a.back().gradient_norm, steps_b.back().gradient_norm, 1e-5 * steps_a.back().gradient_norm);
  EXPECT_EQ(steps_a.back().learning_rate, steps_b.back().learning_rate);
}

TEST(Trainer, ABatchIsItsExamplesAccumulated) {
  for (const Objective objective : {Objective::kSupervised, Objective::kPreference}) {
    for (const bool pack : {false, true}) {
      Recipe one;
      one.settings.objective = objective;
      one.settings.pack = pack;
      one.settings.batch_size = 4;
      one.settings.grad_accum = 1;
      one.settings.max_steps = 3;
      Recipe four = one;
      four.settings.batch_size = 1;
      four.settings.grad_accum = 4;
      four.settings.max_steps = 12;
      expect_same_updates(one, four);
    }
  }
}

TEST(Trainer, ChunksChangeNoUpdate) {
  Recipe one, other;
  one.settings.chunk = 16;
  other.settings.chunk = 512;
  expect_same_updates(one, other);
}

TEST(Trainer, TheGradientIsTheMeanOverItsWindow) {
  Recipe recipe;
  recipe.settings.max_steps = 3;
  const auto training = training_of(recipe);
  double targets = 0;
  for (int step = 0; step < 3; ++step) targets += static_cast<double>(ok(training->batches().next()).targets);
  ok(training->batches().restore({}));
  const Folder folder;
  ok(run(*training, folder.path()));
  double squares = 0;
  for (const float g : training->gradients()) squares += double{g} * double{g};
  const double norm = steps_of(folder.path()).back().gradient_norm;
  EXPECT_NEAR(norm, std::sqrt(squares) / targets, 1e-6 * norm);
}

TEST(Trainer, WhatDropsOutIsAnotherInEachStepAndProcess) {
  Recipe recipe;
  recipe.settings.dropout = 0.5;
  recipe.settings.learning_rate = 1e-12;
  recipe.settings.batch_size = recipe.settings.grad_accum = 1;
  recipe.examples = some_examples(1, false);
  const auto losses = [&](const Recipe& r, std::size_t rank) {
    const auto training = training_of(r);
    for (const AdapterTensor& t : training->adapters().tensors()) {
      const std::span<float> values = training->adapters().values_of(t);  // the same for every seed
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * CounterRng(t.first).normal(i);
    }
    class Numbered final : public Ranks {  // alone, with another's number
     public:
      explicit Numbered(std::size_t number) : number_(number) {}
      std::size_t rank() const override { return number_; }
      std::size_t count() const override { return 1; }
      void sum(std::span<float>) override {}
      void sum(std::span<double>) override {}
      void broadcast(std::span<std::byte>) override {}
      void barrier() override {}
      [[noreturn]] void abort(int status) override { std::_Exit(status); }

     private:
      std::size_t number_;
    };
    Numbered ranks(rank);
    std::set<double> seen;
    const Folder folder;
    ok(run(*training, folder.path(), {.ranks = &ranks, .on_metrics = [&](const MetricsLine& line) {
                                        if (const auto* step = std::get_if<TrainMetrics>(&line))
                                          seen.insert(step->loss);
                                      }}));
    return seen;
  };
  const auto first = losses(recipe, 0);
  EXPECT_EQ(first.size(), 7u);
  EXPECT_EQ(losses(recipe, 0), first);
  Recipe other = recipe;
  other.settings.seed = 43;
  for (const double loss : losses(other, 0)) EXPECT_FALSE(first.contains(loss));
  EXPECT_FALSE(first.contains(*losses(recipe, 9).begin()));
  recipe.settings.dropout = 0;
  EXPECT_EQ(losses(recipe, 0).size(), 1u);
}

// Steps and windows.

TEST(Trainer, TheLastWindowMayBeShort) {
  const Whole whole(Recipe{});  // 7 steps, 3 a window
  const auto steps = steps_of(whole.folder.path());
  ASSERT_EQ(steps.size(), 7u);
  const std::vector<std::uint64_t> updates = {0, 0, 1, 1, 1, 2, 3};
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(steps[i].update, updates[i]) << i;
  EXPECT_EQ(steps[0].gradient_norm, 0);
  EXPECT_GT(steps[2].gradient_norm, 0);
}

TEST(Trainer, CompatDiscardsTheUnfinishedWindow) {
  Recipe recipe;
  recipe.settings.compat = true;
  std::optional<Parameters> before;
  Training* training = nullptr;
  const auto own = training_of(recipe);
  training = own.get();
  const Folder folder;
  ok(run(*own, folder.path(), {.on_metrics = [&](const MetricsLine& line) {
    if (std::holds_alternative<TrainMetrics>(line) && step_of(line) == 6) before.emplace(*training);
  }}));
  ASSERT_TRUE(before);
  EXPECT_TRUE(Parameters(*own) == *before);
  const auto steps = steps_of(folder.path());
  EXPECT_EQ(steps.size(), 7u);
  EXPECT_EQ(steps.back().update, 2u);
}

// Its rows are as long as the documents, so that half of the batches have nothing to learn.
TEST(Trainer, CompatPassesOverBatchesWithoutTargets) {
  Recipe recipe;
  recipe.settings.compat = true;
  recipe.settings.batch_size = 1;
  recipe.examples.resize(8);
  for (std::size_t i = 0; i < 8; ++i) {
    TokenSequence& sequence = recipe.examples[i].sequences[0];
    sequence.ids = testing_model::some_ids(kLongest, 41, i);
    sequence.trained.assign(kLongest, i % 2 == 0 ? 1 : 0);
  }
  const Whole whole(recipe);
  const auto steps = steps_of(whole.folder.path());
  ASSERT_EQ(steps.size(), 7u);
  for (const TrainMetrics& step : steps) EXPECT_GT(step.loss, 0);
  EXPECT_EQ(steps.back().epoch, 1) << "seven of four an epoch";
  for (Example& example : recipe.examples) std::ranges::fill(example.sequences[0].trained, std::uint8_t{0});
  const auto training = training_of(recipe);
  const Folder folder;
  const auto refused = run(*training, folder.path());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "data.jsonl: no batch of a whole epoch has anything to learn");
}

std::uint64_t steps_in(const Recipe& recipe) {
  const auto training = training_of(recipe);
  const auto ranks = single_process();
  return Trainer(*training, *ranks, nullptr, {.folder = "nowhere", .data = "", .write_adapter = {}}).total_steps();
}

TEST(Trainer, EpochsAreSteps) {
  Recipe recipe;  // 9 examples
  recipe.settings.max_steps = 0;
  recipe.settings.epochs = 1;
  recipe.settings.batch_size = 1;
  EXPECT_EQ(steps_in(recipe), 9u);
  recipe.settings.batch_size = 2;
  EXPECT_EQ(steps_in(recipe), 5u);
  recipe.settings.epochs = 2;
  EXPECT_EQ(steps_in(recipe), 9u);
  recipe.settings.epochs = 0.01;
  EXPECT_EQ(steps_in(recipe), 1u);
  recipe.settings.max_steps = 3;
  EXPECT_EQ(steps_in(recipe), 3u);

  recipe.settings.max_steps = 0;
  recipe.settings.epochs = 3;
  recipe.settings.batch_size = 1;
  const Whole whole(recipe);
  EXPECT_EQ(steps_of(whole.folder.path()).back().epoch, 3);
  EXPECT_DOUBLE_EQ(steps_of(whole.folder.path())[3].epoch, 4.0 / 9);

  recipe.settings.pack = true;  // about as many rows as they fill
  const Whole packed(recipe);
  const auto steps = steps_of(packed.folder.path());
  EXPECT_LT(steps.size(), 27u);
  EXPECT_NEAR(steps.back().epoch, 3, 0.5);

  recipe.settings.pack = false;
  recipe.settings.compat = true;  // packs tokens: 24 a row
  std::size_t held = 0, rows = 0;
  for (const Example& example : some_examples(9, false)) {
    held += example.sequences[0].ids.size() + (held == 0 ? 0 : 1);
    for (; held >= kLongest; held -= kLongest) ++rows;
  }
  rows += held == 0 ? 0 : 1;
  EXPECT_EQ(steps_in(recipe), 3 * rows);
  const Whole compat(recipe);
  EXPECT_GE(steps_of(compat.folder.path()).back().epoch, 2);
  recipe.settings.objective = Objective::kPreference;
  recipe.settings.batch_size = 2;
  EXPECT_EQ(steps_in(recipe), 15u) << "five an epoch, the last of one pair";
  EXPECT_EQ(steps_of(Whole(recipe).folder.path()).back().epoch, 3);
}

TEST(Trainer, ValidatesAtTheStartNowAndThenAndAtTheEnd) {
  Recipe recipe;
  recipe.validation = some_examples(5, false, 8);
  const auto validations = [&](std::uint64_t every) {
    recipe.settings.eval_every = every;
    std::vector<std::uint64_t> at;
    const Whole whole(recipe, {.on_metrics = [&](const MetricsLine& line) {
                        const auto* validation = std::get_if<ValidationMetrics>(&line);
                        if (validation == nullptr) return;
                        at.push_back(validation->step);
                        EXPECT_NEAR(validation->perplexity, std::exp(validation->loss), 1e-9);
                      }});
    return at;
  };
  EXPECT_EQ(validations(0), (std::vector<std::uint64_t>{0, 7}));
  EXPECT_EQ(validations(3), (std::vector<std::uint64_t>{0, 3, 6, 7}));
  EXPECT_EQ(validations(7), (std::vector<std::uint64_t>{0, 7}));
}

// The mean over the targets of all batches, or of the first few; dropout is for learning alone.
TEST(Trainer, ValidationIsTheMeanOverItsTargets) {
  Recipe recipe;
  recipe.settings.dropout = 0.5;
  recipe.validation = some_examples(5, false, 8);
  const auto ranks = single_process();
  const auto mean = [&](std::uint64_t batches, std::vector<Example> examples) {
    recipe.settings.eval_batches = batches;
    recipe.validation = std::move(examples);
    const auto training = training_of(recipe);
    const LossSums sums =
        ok(Trainer(*training, *ranks, nullptr, {.folder = "nowhere", .data = "", .write_adapter = {}}).validate());
    return sums.mean();
  };
  const std::vector<Example> all = some_examples(5, false, 8), first(all.begin(), all.begin() + 2);
  const double few = mean(1, all);
  EXPECT_EQ(few, mean(0, first)) << "a batch holds two";
  EXPECT_NE(few, mean(0, all));
  double loss = 0, weight = 0;
  for (const Example& one : all) {
    const double targets = static_cast<double>(one.sequences[0].ids.size() - 3);
    loss += targets * mean(0, {one});
    weight += targets;
  }
  EXPECT_NEAR(mean(0, all), loss / weight, 1e-6);
}

TEST(Trainer, NothingDropsOutInValidation) {
  Recipe recipe;
  recipe.settings.dropout = 0.5;
  recipe.validation = some_examples(5, false, 8);
  double last = 0;
  const Whole whole(recipe, {.on_metrics = [&](const MetricsLine& line) {
                      if (const auto* validation = std::get_if<ValidationMetrics>(&line)) last = validation->loss;
                    }});
  recipe.settings.dropout = 0;
  const auto same = training_of(recipe);
  std::ranges::copy(whole.parameters.values, same->adapters().values().begin());
  const auto ranks = single_process();
  Trainer trainer(*same, *ranks, nullptr, {.folder = "nowhere", .data = "", .write_adapter = {}});
  EXPECT_EQ(ok(trainer.validate()).mean(), last);
}

// Files and failures.

TEST(Trainer, KeepsTheLastCheckpoints) {
  Recipe recipe;
  recipe.settings.save_every = 2;
  recipe.settings.keep = 2;
  std::vector<std::string> adapters;
  const Whole whole(recipe, {.write_adapter = [&](const std::string& folder) -> Status {
                      adapters.push_back(folder);
                      testing_model::put_file(folder + "/adapter.txt", "here");
                      return Ok{};
                    }});
  EXPECT_EQ(checkpoints_in(whole.folder.path()), (std::vector<std::string>{"step-00000006", "step-00000007"}));
  EXPECT_EQ(adapters.size(), 4u);  // 2, 4, 6, 7
  EXPECT_TRUE(std::filesystem::exists(whole.folder / "checkpoints/step-00000007/adapter.txt"));
}

TEST(Trainer, SaysWhatHappened) {
  Recipe recipe;
  const Folder folder;
  const auto training = training_of(recipe);
  EXPECT_EQ(ok(run(*training, folder.path(), {.stop_after = 4})), TrainEnd::kStopped);
  const auto again = training_of(recipe);
  EXPECT_EQ(ok(run(*again, folder.path(), {.resume = true})), TrainEnd::kDone);
  std::vector<std::string> said;
  for (const EventMetrics& event : events_of(folder.path()))
    said.push_back(fmt::format("{} {}", event.step, event.event));
  EXPECT_EQ(said, (std::vector<std::string>{"0 start", "4 stop", "4 resume", "7 done"}));
}

TEST(Trainer, ALossThatIsNoNumberNamesTheBatch) {
  Recipe recipe;
  recipe.settings.save_every = 2;
  recipe.settings.grad_accum = 1;
  const auto training = training_of(recipe);
  Batches& batches = training->batches();
  std::vector<std::uint32_t> lines;
  for (int step = 0; step < 4; ++step) {
    const Batch batch = ok(batches.next());
    lines.clear();
    for (const Row& row : batch.rows) lines.insert(lines.end(), row.lines.begin(), row.lines.end());
  }
  ok(batches.restore({}));
  const Folder folder;
  const auto end = run(*training, folder.path(), {.on_metrics = [&](const MetricsLine& line) {
    if (step_of(line) == 3) training->adapters().values()[5] = NAN;
  }});
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(
      end.error().message,
      fmt::format("step 4: the loss is not a number; its batch is line {}, {} of data.jsonl. The last checkpoint, "
                  "of step 2, is whole: {}",
                  lines.at(0), lines.at(1), folder / "checkpoints/step-00000002"));
  EXPECT_EQ(checkpoints_in(folder.path()), std::vector<std::string>{"step-00000002"});
  const auto again = training_of(recipe);
  EXPECT_EQ(ok(run(*again, folder.path(), {.resume = true})), TrainEnd::kDone);
  EXPECT_TRUE(Parameters(*again) == Whole(recipe).parameters);
}

TEST(Trainer, AGradientThatIsNoNumberChangesNothing) {
  Recipe recipe;
  recipe.settings.grad_accum = 2;
  const auto training = training_of(recipe);
  std::optional<Parameters> before;
  const Folder folder;
  const auto end = run(*training, folder.path(), {.on_metrics = [&](const MetricsLine& line) {
    if (!std::holds_alternative<TrainMetrics>(line) || step_of(line) != 3) return;
    training->gradients()[7] = INFINITY;  // of the window that is open
    before.emplace(*training);
  }});
  ASSERT_FALSE(end.ok());
  EXPECT_NE(end.error().message.find("step 4: the gradient is not a number"), std::string::npos);
  EXPECT_NE(end.error().message.find("There is no checkpoint yet"), std::string::npos);
  EXPECT_TRUE(Parameters(*training) == *before);
}

TEST(Trainer, ACheckpointThatCannotBeWrittenLeavesTheLast) {
  Recipe recipe;
  recipe.settings.save_every = 2;
  recipe.settings.keep = 1;
  const auto training = training_of(recipe);
  const Folder folder;
  int saves = 0;
  const auto end = run(*training, folder.path(), {.write_adapter = [&](const std::string&) -> Status {
    if (++saves < 3) return Ok{};
    return make_error(ErrorCode::kIo, "no space left");
  }});
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code, ErrorCode::kIo);
  EXPECT_EQ(checkpoints_in(folder.path()), std::vector<std::string>{"step-00000004"});
  const auto again = training_of(recipe);
  EXPECT_EQ(ok(run(*again, folder.path(), {.resume = true})), TrainEnd::kDone);
  EXPECT_TRUE(Parameters(*again) == Whole(recipe).parameters);
}

TEST(Trainer, AFolderThatCannotBe) {
  const Folder folder;
  testing_model::put_file(folder / "file", "");
  const auto training = training_of({});
  const auto end = run(*training, folder / "file");
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code, ErrorCode::kIo);
  EXPECT_NE(end.error().message.find(folder / "file"), std::string::npos);
}

}  // namespace
}  // namespace axon::train
