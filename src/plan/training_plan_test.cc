#include "plan/training_plan.h"

#include <gtest/gtest.h>

#include <sstream>

#include "generate/tiny_engine_for_test.h"

namespace axon {
namespace {

using testing_model::EngineFolder;
using testing_model::ok;

// A model whose base in bf16 is worth quantising, and settings that all have something to give.
class TrainingPlanned : public ::testing::Test {
 protected:
  TrainingPlanned() {
    inputs_.settings.max_seq_len = 1024;
    inputs_.settings.adapter = AdapterKind::kDora;
  }
  static Config long_config() {
    Config config = testing_model::engine_config();
    config.max_seq_len = 4096;
    return config;
  }
  TrainingPlan plan(Bytes limit) const {
    return ok(plan_training(folder_.files(), &folder_.shape(), inputs_, {limit, "--memory-budget"}));
  }
  Bytes total(const TrainingChange& change) const { return ok(try_total(change)); }
  Result<Bytes> try_total(const TrainingChange& change) const {
    train::TrainingInputs changed = inputs_;
    changed.settings = applied(inputs_.settings, change);
    if (change.weights) changed.weights = AXON_TRY(parse_weight_format(*change.weights));
    return AXON_TRY(plan_training(folder_.files(), &folder_.shape(), changed, {})).total;
  }
  TrainingSuggestions suggested(Bytes limit) const {
    return ok(
        suggest_training([&](const TrainingChange& change) { return try_total(change); }, inputs_.settings, limit));
  }
  std::string refusal(Bytes limit) const {
    return ok(training_refusal(plan(limit), folder_.files(), &folder_.shape(), inputs_));
  }
  // The change that was typed so.
  static TrainingChange read(const std::string& options) {
    TrainingChange change;
    std::istringstream words(options);
    for (std::string name, value; words >> name >> value;) {
      if (name == "--max-seq-len") change.max_seq_len = std::stoull(value);
      if (name == "--chunk") change.chunk = std::stoull(value);
      if (name == "--rank") change.rank = std::stoull(value);
      if (name == "--adapter") change.adapter = value == "lora" ? AdapterKind::kLora : AdapterKind::kDora;
      if (name == "--targets") change.target = value;
      if (name == "--weights") change.weights = value;
    }
    return change;
  }
  // With each of its settings as it was.
  static std::vector<TrainingChange> without_one(const TrainingChange& change) {
    std::vector<TrainingChange> out(6, change);
    out[0].max_seq_len.reset(), out[1].chunk.reset(), out[2].rank.reset();
    out[3].adapter.reset(), out[4].target.reset(), out[5].weights.reset();
    std::erase_if(out, [&](const TrainingChange& c) { return count(c) == count(change); });
    return out;
  }
  static int count(const TrainingChange& c) {
    return int(c.max_seq_len.has_value()) + int(c.chunk.has_value()) + int(c.rank.has_value()) +
           int(c.adapter.has_value()) + int(c.target.has_value()) + int(c.weights.has_value());
  }
  const Suggestion* find(const TrainingSuggestions& all, std::string_view start) const {
    for (const Suggestion& s : all.fitting) {
      if (s.options.starts_with(start)) return &s;
    }
    return nullptr;
  }

  EngineFolder folder_{long_config(), WeightFormat{.kind = WeightFormat::kFloat, .dtype = DType::kF32}};
  train::TrainingInputs inputs_;
};

TEST_F(TrainingPlanned, IsTheSumOfTheAccounts) {
  const TrainingPlan p = plan(1_GiB);
  EXPECT_EQ(p.total, p.engine.total());
  EXPECT_EQ(
      p.total,
      ok(train::Training::plan(folder_.files().config, folder_.files().tensors, &folder_.shape(), inputs_)).total());
  EXPECT_TRUE(p.fits());
}

TEST_F(TrainingPlanned, AByteDecides) {
  const Bytes needed = plan(1_GiB).total;
  EXPECT_TRUE(plan(needed).fits());
  EXPECT_FALSE(plan(needed - 1_B).fits());
}

// What is planned is what a training takes: it starts within the plan, and not with a byte less.
TEST_F(TrainingPlanned, ATrainingStartsWithinIt) {
  inputs_.data.examples = 1;
  const Bytes needed = ok(plan_training(folder_.files(), nullptr, inputs_, {1_GiB, "it"})).total;
  const train::Training::OpenData one = [](const Tokenizer*, Ledger&) -> Result<std::unique_ptr<train::ExampleSource>> {
    train::Example example;
    example.sequences[0] = {.ids = {1, 2, 3}, .trained = {0, 1, 1}};
    return std::unique_ptr<train::ExampleSource>(
        std::make_unique<train::TokenExamples>(AXON_TRY(train::TokenExamples::create({example}, 1024, false))));
  };
  const auto start = [&](Bytes limit) {
    return train::Training::create(folder_.files(), nullptr, "", inputs_, {.train = one, .validation = {}}, limit);
  };
  EXPECT_EQ(ok(start(needed))->ledger().peak(), needed);
  const auto refused = start(needed - 1_B);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
}

TEST_F(TrainingPlanned, EverySuggestionTriedFits) {
  const Bytes needed = plan(1_GiB).total;
  for (std::uint64_t share = 30; share <= 99; ++share) {
    const Bytes limit{needed.count * share / 100};
    const TrainingSuggestions all = suggested(limit);
    for (const Suggestion& s : all.fitting) {
      EXPECT_LE(s.total, limit) << s.options;
      EXPECT_EQ(total(read(s.options)), s.total) << s.options;
      for (const TrainingChange& less : without_one(read(s.options))) EXPECT_GT(total(less), limit) << s.options;
    }
    if (!all.fitting.empty()) continue;
    EXPECT_GT(all.smallest.total, limit);
    EXPECT_EQ(total(read(all.smallest.options)), all.smallest.total);
  }
}

// A byte too little: each setting alone is enough, and none is given up further than it must.
TEST_F(TrainingPlanned, TheNearestOfEachSetting) {
  const Bytes needed = plan(1_GiB).total;
  const TrainingSuggestions all = suggested(needed - 1_B);
  ASSERT_FALSE(all.fitting.empty());
  EXPECT_EQ(all.fitting[0].options, "--max-seq-len 512");
  for (const char* options : {"--chunk 256", "--rank 8", "--adapter lora", "--targets attention", "--weights q4"}) {
    ASSERT_NE(find(all, options), nullptr) << options;
    EXPECT_EQ(find(all, options)->options, options);
  }
  const Bytes shorter = total(read("--max-seq-len 512")), shortest = total(read("--max-seq-len 256"));
  EXPECT_EQ(find(suggested(shorter), "--max-seq-len")->options, "--max-seq-len 512");
  EXPECT_EQ(find(suggested(shorter - 1_B), "--max-seq-len")->options, "--max-seq-len 256");
  EXPECT_EQ(find(suggested(shortest), "--max-seq-len")->options, "--max-seq-len 256");
}

TEST_F(TrainingPlanned, SettingsTogetherWhereNoneIsEnough) {
  Bytes alone = plan(1_GiB).total;
  for (const char* options :
       {"--max-seq-len 256", "--chunk 128", "--rank 1", "--adapter lora", "--targets attention", "--weights q4"}) {
    alone = std::min(alone, total(read(options)));
  }
  const TrainingSuggestions all = suggested(alone - 1_B);
  ASSERT_EQ(all.fitting.size(), 1u);
  EXPECT_GE(count(read(all.fitting[0].options)), 2) << all.fitting[0].options;
  EXPECT_LE(all.fitting[0].total, alone - 1_B);
}

TEST_F(TrainingPlanned, NothingIsOfferedThatSavesNothing) {
  inputs_.settings.adapter = AdapterKind::kLora;
  inputs_.settings.targets = {"q_proj"};
  const TrainingSuggestions all = suggested(plan(1_GiB).total - 1_B);
  EXPECT_EQ(find(all, "--adapter"), nullptr);
  EXPECT_EQ(find(all, "--targets"), nullptr);  // attention is more than its q_proj
}

TEST_F(TrainingPlanned, TheRefusalInWords) {
  const Bytes needed = plan(1_GiB).total;
  std::string text = refusal(needed - 1_B);
  EXPECT_TRUE(
      text.starts_with(fmt::format("needs {}, but the budget is {} (--memory-budget). The largest accounts are "
                                   "\"",
                                   to_string(needed), to_string(needed - 1_B))))
      << text;
  EXPECT_NE(text.find("This would fit:\n  --max-seq-len 512  (" + to_string(total(read("--max-seq-len 512"))) + ")"),
            std::string::npos)
      << text;
  text = refusal(1_MiB);
  EXPECT_NE(text.find("Nothing that was tried fits: the smallest, --max-seq-len 256 "), std::string::npos) << text;
}

TEST_F(TrainingPlanned, WhereNoSettingTakesLess) {
  inputs_.settings = {.adapter = AdapterKind::kLora, .rank = 1, .targets = {"q_proj"}, .max_seq_len = 64, .chunk = 16};
  ASSERT_TRUE(parse_weight_format("q4").ok());
  inputs_.weights = parse_weight_format("q4").value();
  EXPECT_TRUE(refusal(1_MiB).ends_with(" No setting takes less.")) << refusal(1_MiB);
}

TEST_F(TrainingPlanned, SettingsThatDoNotGoWithTheModelAreErrors) {
  inputs_.settings.max_seq_len = 4097;
  const Result<TrainingPlan> p = plan_training(folder_.files(), &folder_.shape(), inputs_, {1_GiB, "it"});
  ASSERT_FALSE(p.ok());
  EXPECT_EQ(p.error().code, ErrorCode::kInvalidArgument);
}

TEST(MeasureData, CountsLines) {
  const testing_model::Folder folder;
  const std::string path = folder / "lines.jsonl";
  testing_model::put_file(path, "{}\n{}\n\n{}");
  const train::DataSize size = ok(measure_data(path));
  EXPECT_EQ(size.examples, 4u);
  EXPECT_EQ(size.index, ok(train::JsonlExamples::measure(path)));
  EXPECT_EQ(size.index, 128_B);
  testing_model::put_file(path, "");
  ASSERT_FALSE(measure_data(path).ok());
  EXPECT_EQ(measure_data(path).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(measure_data(folder / "none").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace axon
