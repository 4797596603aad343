#pragma once
// For tests: trainings of a model of three blocks on examples made of random ids, run from and to anywhere.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "model/adapted_model_for_test.h"
#include "train/trainer.h"

namespace axon::train::testing {

using testing_model::Folder;
using testing_model::ok;

constexpr std::size_t kLongest = 24;  // tokens of an example

// Documents or pairs of 5 to kLongest tokens, the first ones of which are not learned.
inline std::vector<Example> some_examples(std::size_t count, bool pairs, std::uint64_t seed = 1) {
  const CounterRng rng(seed);
  std::vector<Example> list(count);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t s = 0; s < (pairs ? 2u : 1u); ++s) {
      TokenSequence& sequence = list[i].sequences[s];
      const std::size_t length = 5 + rng.bits(2 * i + s) % (kLongest - 4);
      sequence.ids = testing_model::some_ids(length, 41, seed * 1000 + 2 * i + s);
      for (std::size_t t = 0; t < length; ++t) sequence.trained.push_back(t < 3 ? 0 : 1);
    }
  }
  return list;
}

// The model in 8 bits, written once; `seed` makes another.
inline const std::string& model_folder(std::uint64_t seed = 3) {
  static std::map<std::uint64_t, Folder> folders;
  Folder& folder = folders[seed];
  if (folder.entries() == 0) {
    const WeightFormat q8{.kind = WeightFormat::kAffine, .bits = 8, .group_size = 32};
    const Config config = testing_model::three_block_config();
    testing_model::put_model(folder, config, testing_model::tiny_tensors(config, seed, q8));
  }
  return folder.path();
}

inline TrainSettings some_settings() {
  return {.rank = 4,
          .batch_size = 2,
          .grad_accum = 3,
          .max_seq_len = kLongest,
          .max_steps = 7,  // the last window of accumulation is not full
          .learning_rate = 1e-2,
          .warmup = 1,
          .exact = true,
          .chunk = 16,
          .save_every = 1000};
}

struct Recipe {
  TrainSettings settings = some_settings();
  std::vector<Example> examples{};    // empty: some
  std::vector<Example> validation{};  // empty: none
  std::size_t threads = 1;
  std::size_t ranks = 1, rank = 0;
  std::uint64_t model = 3;
};

inline std::unique_ptr<Training> training_of(const Recipe& recipe, Bytes limit = 1_GiB) {
  const TrainingInputs inputs{.settings = recipe.settings,
                              .threads = recipe.threads,
                              .ranks = recipe.ranks,
                              .rank = recipe.rank,
                              .data = {},
                              .validation = {}};
  const bool pairs = recipe.settings.objective == Objective::kPreference;
  const auto source = [&](std::vector<Example> list) -> Training::OpenData {
    return [list, pairs, longest = recipe.settings.max_seq_len](const Tokenizer*,
                                                                Ledger&) -> Result<std::unique_ptr<ExampleSource>> {
      return std::unique_ptr<ExampleSource>(
          std::make_unique<TokenExamples>(AXON_TRY(TokenExamples::create(list, longest, pairs))));
    };
  };
  const Training::Data data{source(recipe.examples.empty() ? some_examples(9, pairs) : recipe.examples),
                            recipe.validation.empty() ? Training::OpenData{} : source(recipe.validation)};
  return ok(Training::create(ok(open_model(model_folder(recipe.model))), nullptr, {}, inputs, data, limit));
}

// What a training is after a run.
struct Parameters {
  std::vector<float> values, first_moments, second_moments;
  explicit Parameters(Training& t)
      : values(t.adapters().values().begin(), t.adapters().values().end()),
        first_moments(t.optimizer().first_moments().begin(), t.optimizer().first_moments().end()),
        second_moments(t.optimizer().second_moments().begin(), t.optimizer().second_moments().end()) {}
  bool operator==(const Parameters&) const = default;
};

// Lines of metrics.jsonl of steps and validations, as text, without what no two runs have in common.
inline std::vector<std::string> comparable_lines(const std::string& folder) {
  std::vector<std::string> lines;
  const Status read = each_metrics(folder + "/metrics.jsonl", [&](const MetricsLine& line) -> Status {
    MetricsLine kept = line;
    if (auto* train = std::get_if<TrainMetrics>(&kept)) {
      train->tokens_per_second = train->seconds = 0;
      train->memory = {};
    }
    if (!std::holds_alternative<EventMetrics>(kept)) lines.push_back(metrics_text(kept));
    return Ok{};
  });
  EXPECT_TRUE(read.ok()) << (read.ok() ? "" : read.error().message);
  return lines;
}

struct RunOptions {
  bool resume = false;
  std::uint64_t stop_after = ~std::uint64_t{0};  // steps; 0: before the first
  Governor* governor = nullptr;
  Ranks* ranks = nullptr;
  OnMetrics on_metrics = {};
  std::function<Status(const std::string&)> write_adapter = {};
};

inline Result<TrainEnd> run(Training& training, const std::string& folder, const RunOptions& options = {}) {
  const auto alone = single_process();
  Trainer trainer(
      training, options.ranks == nullptr ? *alone : *options.ranks, options.governor,
      {.folder = folder, .data = "data.jsonl", .write_adapter = options.write_adapter, .resume = options.resume});
  std::atomic<bool> stop = options.stop_after == 0;
  return trainer.run(stop, [&](const MetricsLine& line) {
    const auto* step = std::get_if<TrainMetrics>(&line);
    if (step != nullptr && step->step >= options.stop_after) stop = true;
    if (options.on_metrics) options.on_metrics(line);
  });
}

inline Parameters done(Training& training, const std::string& folder, const RunOptions& options) {
  EXPECT_EQ(ok(run(training, folder, options)), TrainEnd::kDone);
  return Parameters(training);
}

// A whole training in a folder of its own.
struct Whole {
  Folder folder;
  std::unique_ptr<Training> training;
  Parameters parameters;
  explicit Whole(const Recipe& recipe, const RunOptions& options = {})
      : training(training_of(recipe)), parameters(done(*training, folder.path(), options)) {}
  std::vector<std::string> lines() const { return comparable_lines(folder.path()); }
};

inline std::vector<TrainMetrics> steps_of(const std::string& folder) {
  std::vector<TrainMetrics> steps;
  const Status read = each_metrics(folder + "/metrics.jsonl", [&](const MetricsLine& line) -> Status {
    if (const auto* step = std::get_if<TrainMetrics>(&line)) steps.push_back(*step);
    return Ok{};
  });
  EXPECT_TRUE(read.ok());
  return steps;
}

// "start", "stop after 3", ...
inline std::vector<EventMetrics> events_of(const std::string& folder) {
  std::vector<EventMetrics> events;
  const Status read = each_metrics(folder + "/metrics.jsonl", [&](const MetricsLine& line) -> Status {
    if (const auto* event = std::get_if<EventMetrics>(&line)) events.push_back(*event);
    return Ok{};
  });
  EXPECT_TRUE(read.ok());
  return events;
}

inline std::vector<std::string> checkpoints_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/checkpoints", error)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace axon::train::testing
