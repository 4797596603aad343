// What a training reserves is what was planned, for all that changes it; and what cannot be planned.

#include "train/training.h"

#include <gtest/gtest.h>

#include "train/training_for_test.h"

namespace axon::train {
namespace {

using namespace testing;

TEST(TrainingPlan, IsThePeakToTheByte) {
  std::size_t count = 0;
  const auto expect = [&](const std::string& what, const std::function<void(Recipe&)>& change) {
    Recipe recipe;
    recipe.settings.max_steps = 2;
    change(recipe);
    const auto training = training_of(recipe);
    const auto planned = training->plan().total();
    EXPECT_EQ(training->ledger().used(), planned) << what;
    const Folder folder;
    EXPECT_EQ(ok(run(*training, folder.path())), TrainEnd::kDone) << what;
    EXPECT_EQ(training->ledger().peak(), planned) << what;
    // And it can be known from headers alone, when the data's size is.
    const ModelFiles files = ok(open_model(model_folder()));
    const EnginePlan plan = ok(Training::plan(files.config, files.tensors, nullptr, training->inputs()));
    EXPECT_EQ(plan.total(), planned) << what;
    ASSERT_EQ(plan.lines.size(), training->plan().lines.size());
    for (const PlanLine& line : plan.lines) {
      EXPECT_EQ(line.bytes, training->ledger().used(line.account)) << what << ": " << line.account;
    }
    ++count;
  };
  for (const AdapterKind kind : {AdapterKind::kLora, AdapterKind::kDora}) {
    for (const double dropout : {0.0, 0.1}) {
      for (const Objective objective : {Objective::kSupervised, Objective::kPreference}) {
        for (const bool compat : {false, true}) {
          for (const bool validates : {false, true}) {
            const bool pairs = objective == Objective::kPreference;
            expect(fmt::format("dora {} dropout {} pairs {} compat {} validation {}", kind == AdapterKind::kDora,
                               dropout, pairs, compat, validates),
                   [&](Recipe& r) {
                     r.settings.adapter = kind;
                     r.settings.dropout = dropout;
                     r.settings.objective = objective;
                     r.settings.compat = compat;
                     if (validates) r.validation = some_examples(3, pairs, 8);
                   });
          }
        }
      }
    }
  }
  for (const std::size_t threads : {2u, 3u}) {
    expect(fmt::format("{} threads", threads), [&](Recipe& r) { r.threads = threads; });
  }
  for (const bool exact : {false, true}) expect("exact", [&](Recipe& r) { r.settings.exact = exact; });
  for (const std::size_t chunk : {16u, 23u, 512u}) {
    expect(fmt::format("chunk {}", chunk), [&](Recipe& r) { r.settings.chunk = chunk; });
  }
  for (const std::uint64_t rank : {1u, 3u, 33u}) {
    expect(fmt::format("rank {}", rank), [&](Recipe& r) { r.settings.rank = rank; });
  }
  expect("packed", [](Recipe& r) { r.settings.pack = true; });
  expect("batch 5", [](Recipe& r) { r.settings.batch_size = 5; });
  expect("long rows", [](Recipe& r) { r.settings.max_seq_len = 300; });
  for (const std::string target : {"all-linear", "experts", "ssm", "input_proj", "output_proj"}) {
    for (const AdapterKind kind : {AdapterKind::kLora, AdapterKind::kDora}) {
      expect(target, [&](Recipe& r) {
        r.settings.targets = {target};
        r.settings.adapter = kind;
      });
    }
  }
  EXPECT_EQ(count, 55u);
}

TEST(TrainingPlan, BelowItIsOverBudget) {
  const Bytes planned = training_of({})->plan().total();
  EXPECT_NE(training_of({}, planned), nullptr);
  const ModelFiles files = ok(open_model(model_folder()));
  const auto source = [](const Tokenizer*, Ledger&) -> Result<std::unique_ptr<ExampleSource>> {
    return std::unique_ptr<ExampleSource>(
        std::make_unique<TokenExamples>(AXON_TRY(TokenExamples::create(some_examples(9, false), kLongest, false))));
  };
  const TrainingInputs inputs{.settings = some_settings(), .data = {}, .validation = {}};
  const auto refused =
      Training::create(ok(open_model(model_folder())), nullptr, {}, inputs, {source, {}}, planned - Bytes{1});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
}

TEST(TrainingPlan, SettingsThatCannotBe) {
  const ModelFiles files = ok(open_model(model_folder()));
  const auto expect = [&](const std::string& word, const std::function<void(TrainSettings&)>& change) {
    TrainingInputs inputs{.settings = some_settings(), .data = {}, .validation = {}};
    change(inputs.settings);
    const auto refused = Training::plan(files.config, files.tensors, nullptr, inputs);
    ASSERT_FALSE(refused.ok()) << word;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().message.find(word), std::string::npos) << word << " in: " << refused.error().message;
  };
  expect("rank must be from 1 to 4096, but is 0", [](auto& s) { s.rank = 0; });
  expect("scale must be", [](auto& s) { s.scale = NAN; });
  expect("dropout must be from 0 to 0.99, but is 1", [](auto& s) { s.dropout = 1; });
  expect("batch-size", [](auto& s) { s.batch_size = 0; });
  expect("grad-accum", [](auto& s) { s.grad_accum = 0; });
  expect("max-seq-len must be", [](auto& s) { s.max_seq_len = 1; });
  expect("max-seq-len 65537 is more than the model's max_seq_len 65536", [](auto& s) { s.max_seq_len = 65537; });
  expect("epochs", [](auto& s) { s.epochs = 0; });
  expect("learning-rate must be from 1e-12 to 10, but is 0", [](auto& s) { s.learning_rate = 0; });
  expect("min-learning-rate must be from 0 to 0.01, but is 0.1", [](auto& s) { s.learning_rate_floor = 0.1; });
  expect("weight-decay", [](auto& s) { s.weight_decay = -0.1; });
  expect("max-grad-norm", [](auto& s) { s.max_grad_norm = 0; });
  expect("orpo-lambda", [](auto& s) { s.orpo_lambda = -1; });
  expect("chunk must be from 16", [](auto& s) { s.chunk = 15; });
  expect("save-every", [](auto& s) { s.save_every = 0; });
  expect("keep", [](auto& s) { s.keep = 0; });
  expect("target \"nothing\" names no layer", [](auto& s) { s.targets = {"nothing"}; });
  expect("pack: compat", [](auto& s) { s.compat = s.pack = true; });
  expect("schedule: compat has cosine alone, not linear", [](auto& s) {
    s.compat = true;
    s.decay = Decay::kLinear;
  });
}

}  // namespace
}  // namespace axon::train
