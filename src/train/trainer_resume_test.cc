// A training that was stopped, killed or refused: what comes after is what would have come without.

#include <gtest/gtest.h>

#include "io/test_files.h"
#include "train/training_for_test.h"

namespace axon::train {
namespace {

using namespace testing;

struct Case {
  const char* name;
  std::function<void(Recipe&)> change;
};
const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"Lora", [](Recipe&) {}},
      {"Dora", [](Recipe& s) { s.settings.adapter = AdapterKind::kDora; }},
      {"Dropout", [](Recipe& s) { s.settings.dropout = 0.3; }},
      {"DoraDropoutThreads",
       [](Recipe& s) {
         s.settings.adapter = AdapterKind::kDora;
         s.settings.dropout = 0.2;
         s.threads = 2;
       }},
      {"Packed", [](Recipe& s) { s.settings.pack = true; }},
      {"Pairs", [](Recipe& s) { s.settings.objective = Objective::kPreference; }},
      {"PackedPairs",
       [](Recipe& s) {
         s.settings.objective = Objective::kPreference;
         s.settings.pack = true;
       }},
      {"Mixed", [](Recipe& s) { s.settings.exact = false; }},
      {"Compat", [](Recipe& s) { s.settings.compat = true; }},
      {"CompatDora",
       [](Recipe& s) {
         s.settings.compat = true;
         s.settings.adapter = AdapterKind::kDora;
       }},
      {"CompatPairs",
       [](Recipe& s) {
         s.settings.compat = true;
         s.settings.objective = Objective::kPreference;
       }},
      {"Epochs",
       [](Recipe& s) {
         s.settings.max_steps = 0;
         s.settings.epochs = 2.2;
       }},
  };
  return list;
}

class Resumed : public ::testing::TestWithParam<Case> {
 protected:
  static Recipe recipe() {
    Recipe recipe;
    recipe.settings.eval_every = 2;
    GetParam().change(recipe);
    recipe.validation = some_examples(3, recipe.settings.objective == Objective::kPreference, 8);
    return recipe;
  }
};
INSTANTIATE_TEST_SUITE_P(All, Resumed, ::testing::ValuesIn(cases()), [](const auto& test) { return test.param.name; });

// Stopped before the first step and after every one, each time gone on with by a training that knows nothing: so also
// in the middle of every window of accumulation.
TEST_P(Resumed, AfterEveryStepIsTheUninterruptedRun) {
  const Recipe recipe = this->recipe();
  const Whole whole(recipe);
  const Folder folder;
  TrainEnd end = TrainEnd::kStopped;
  std::unique_ptr<Training> training;
  std::uint64_t stops = 0;
  for (; end == TrainEnd::kStopped && stops < 100; ++stops) {
    training = training_of(recipe);
    end = ok(run(*training, folder.path(), {.resume = stops != 0, .stop_after = stops}));
  }
  EXPECT_EQ(stops, steps_of(whole.folder.path()).size() + 1);
  EXPECT_TRUE(Parameters(*training) == whole.parameters);
  EXPECT_EQ(comparable_lines(folder.path()), whole.lines());
}

// Killed between checkpoints: the steps since the last are made again, and said once.
TEST_P(Resumed, AfterAKillIsTheUninterruptedRun) {
  Recipe recipe = this->recipe();
  const Whole whole(recipe);
  const Folder folder, killed;
  recipe.settings.save_every = 2;
  auto training = training_of(recipe);
  const auto at_death = [&](const MetricsLine& line) {
    const auto* step = std::get_if<TrainMetrics>(&line);
    if (step == nullptr || step->step != 5) return;
    std::filesystem::copy(folder.path(), killed.path(), std::filesystem::copy_options::recursive);
    std::filesystem::create_directory(killed / "checkpoints/step-00000006.tmp-1");
    std::ofstream(killed / "metrics.jsonl", std::ios::app) << "{\"kind\":\"tra";
  };
  ok(run(*training, folder.path(), {.on_metrics = at_death}));
  EXPECT_TRUE(Parameters(*training) == whole.parameters) << "checkpoints change nothing";
  training = training_of(recipe);
  EXPECT_EQ(ok(run(*training, killed.path(), {.resume = true})), TrainEnd::kDone);
  EXPECT_TRUE(Parameters(*training) == whole.parameters);
  EXPECT_EQ(comparable_lines(killed.path()), whole.lines());
}

TEST(Resume, OfAFinishedTrainingDoesNothing) {
  const Recipe recipe;
  const Whole whole(recipe);
  const auto training = training_of(recipe);
  EXPECT_EQ(ok(run(*training, whole.folder.path(), {.resume = true})), TrainEnd::kDone);
  EXPECT_TRUE(Parameters(*training) == whole.parameters);
  EXPECT_EQ(whole.lines().size(), 7u);
}

TEST(Resume, IsAskedFor) {
  const Recipe recipe;
  const Whole whole(recipe);
  const auto lines = whole.lines();
  const auto training = training_of(recipe);
  const auto refused = run(*training, whole.folder.path());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find(whole.folder.path()), std::string::npos);
  EXPECT_NE(refused.error().message.find("the last of step 7: --resume"), std::string::npos) << refused.error().message;
  EXPECT_EQ(whole.lines(), lines);
}

TEST(Resume, WithoutACheckpointBegins) {
  const Recipe recipe;
  const Whole whole(recipe);
  const Folder folder;  // of one that ended before its first
  testing_model::put_file(folder / "metrics.jsonl",
                          metrics_text(ValidationMetrics{.step = 0, .loss = 1, .perplexity = 2, .pairs = {}}) + "\n");
  const auto training = training_of(recipe);
  EXPECT_EQ(ok(run(*training, folder.path(), {.resume = true})), TrainEnd::kDone);
  EXPECT_TRUE(Parameters(*training) == whole.parameters);
  EXPECT_EQ(comparable_lines(folder.path()), whole.lines());
}

// Another number of any of these, other data, another model: each is named, and nothing is touched.
TEST(Resume, NamesWhatDiffers) {
  const Recipe recipe;
  const Whole whole(recipe);
  const auto expect = [&](const Recipe& other, const std::vector<std::string>& words) {
    const auto training = training_of(other);
    const Parameters before(*training);
    const auto refused = run(*training, whole.folder.path(), {.resume = true});
    ASSERT_FALSE(refused.ok()) << words.front();
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    for (const std::string& word : words) {
      EXPECT_NE(refused.error().message.find(word), std::string::npos) << word << " in: " << refused.error().message;
    }
    EXPECT_TRUE(Parameters(*training) == before);
  };
  const std::vector<std::pair<std::string, std::function<void(TrainSettings&)>>> changes = {
      {"adapter was lora, and is dora", [](auto& s) { s.adapter = AdapterKind::kDora; }},
      {"rank was 4, and is 3", [](auto& s) { s.rank = 3; }},
      {"scale was 2, and is 1", [](auto& s) { s.scale = 1; }},
      {"dropout was 0, and is 0.5", [](auto& s) { s.dropout = 0.5; }},
      {"and is q_proj,ssm",
       [](auto& s) {
         s.targets = {"q_proj", "ssm"};
       }},
      {"batch-size was 2, and is 1", [](auto& s) { s.batch_size = 1; }},
      {"grad-accum was 3, and is 2", [](auto& s) { s.grad_accum = 2; }},
      {"max-seq-len was 24, and is 25", [](auto& s) { s.max_seq_len = 25; }},
      {"pack was no, and is yes", [](auto& s) { s.pack = true; }},
      {"mask-prompt was yes, and is no", [](auto& s) { s.mask_prompt = false; }},
      {"raw-completions was no, and is yes", [](auto& s) { s.raw_completions = true; }},
      {"seed was 42, and is 43", [](auto& s) { s.seed = 43; }},
      {"max-steps was 7, and is 8", [](auto& s) { s.max_steps = 8; }},
      {"learning-rate was 0.01, and is 0.02", [](auto& s) { s.learning_rate = 0.02; }},
      {"min-learning-rate was 0, and is 0.001", [](auto& s) { s.learning_rate_floor = 0.001; }},
      {"warmup was 1, and is 2", [](auto& s) { s.warmup = 2; }},
      {"schedule was cosine, and is linear", [](auto& s) { s.decay = Decay::kLinear; }},
      {"weight-decay was 0.01, and is 0", [](auto& s) { s.weight_decay = 0; }},
      {"max-grad-norm was 1, and is 2", [](auto& s) { s.max_grad_norm = 2; }},
      {"compat was no, and is yes", [](auto& s) { s.compat = true; }},
      {"exact was yes, and is no", [](auto& s) { s.exact = false; }},
      {"chunk was 16, and is 17", [](auto& s) { s.chunk = 17; }},
  };
  for (const auto& [word, change] : changes) {
    Recipe other;
    change(other.settings);
    expect(other, {word, "checkpoints/step-00000007", "belongs to another training"});
  }
  Recipe pairs;
  pairs.settings.objective = Objective::kPreference;
  expect(pairs, {"method was sft, and is orpo", "orpo-lambda was -, and is 0.1", "the training data was"});
  Recipe data;
  data.examples = some_examples(9, false, 2);
  expect(data, {"the training data was"});
  Recipe model;
  model.model = 4;
  expect(model, {"the model was"});
  Recipe several;  // all that differs is named at once
  several.settings.rank = 3;
  several.settings.seed = 1;
  expect(several, {"rank was 4, and is 3; ", "seed was 42, and is 1"});

  const Folder unharmed;
  std::filesystem::copy(whole.folder.path(), unharmed.path(), std::filesystem::copy_options::recursive);
  Recipe same;  // what changes no result may differ
  same.settings.eval_every = 1;
  same.settings.keep = 1;
  same.settings.save_every = 2;
  const auto training = training_of(same);
  EXPECT_TRUE(run(*training, unharmed.path(), {.resume = true}).ok());
  EXPECT_TRUE(Parameters(*training) == whole.parameters);
}

TEST(Resume, NumbersThatAreMissingOrWrong) {
  const Recipe recipe;
  const Whole whole(recipe);
  const std::string path = whole.folder / "checkpoints/step-00000007/state.safetensors";
  const std::string good = testing_files::get(path);
  const auto with = [&](const std::string& from, const std::string& to, const std::string& word, ErrorCode code) {
    std::string text = good;
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    ASSERT_EQ(from.size(), to.size());
    testing_files::put(path, text.replace(at, to.size(), to));
    const auto training = training_of(recipe);
    const auto refused = run(*training, whole.folder.path(), {.resume = true});
    ASSERT_FALSE(refused.ok()) << to;
    EXPECT_EQ(refused.error().code, code) << refused.error().message;
    for (const std::string& part : {word, std::string("checkpoints/step-00000007")}) {
      EXPECT_NE(refused.error().message.find(part), std::string::npos) << part << " in: " << refused.error().message;
    }
  };
  with("\"half_updates\"", "\"half_updatex\"", "has no number \"half_updates\"", ErrorCode::kCorrupt);
  with("\"window.3\"", "\"window:3\"", "has no number \"window.3\"", ErrorCode::kCorrupt);
  with("\"position.index\":\"5\"", "\"position.index\":\"x\"", "position.index is no whole number: \"x\"",
       ErrorCode::kCorrupt);
  with("\"position.index\":\"5\"", "\"position.index\":\"9\"", "data position: expected an index below 9, came 9",
       ErrorCode::kCorrupt);
  with("\"setting.chunk\"", "\"setting.chunx\"", "chunk was not known, and is 16", ErrorCode::kInvalidArgument);
  testing_files::put(path, std::string_view(good).substr(0, good.size() - 4));
  const auto training = training_of(recipe);
  const auto refused = run(*training, whole.folder.path(), {.resume = true});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(refused.error().message.find(path), std::string::npos);
}

}  // namespace
}  // namespace axon::train
