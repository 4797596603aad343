#include "plan/train_plan.h"

#include <rapidcheck.h>

#include <cmath>

#include "memory/mapped_file.h"
#include "plan/plan_for_test.h"

namespace axon {
namespace {

using namespace testing_plan;

Footprint trained(const Subject& subject, const TrainChoice& choice) { return ok(train_footprint(subject, choice)); }

// 6b, rank r: adapters of r x 943,104 parameters, the original's count, and a factor for each rank.
TEST(TrainPlan, AdaptersOf6b) {
  const auto subject = subject_of("6b");
  for (const std::uint64_t rank : {16u, 32u, 64u}) {
    TrainChoice choice;
    choice.settings.rank = rank;
    const std::uint64_t parameters = rank * 943'104;
    const Footprint f = trained(*subject, choice);
    EXPECT_EQ(wrong_sums(f), "");
    EXPECT_EQ(bytes_of(f, "adapters"), parameters * 4 + rank * 4);
    EXPECT_EQ(bytes_of(f, "adapter gradients"), parameters * 4);
    EXPECT_GE(bytes_of(f, "optimizer state"), parameters * 8);
    EXPECT_LT(bytes_of(f, "optimizer state"), parameters * 8 + parameters / 100);
  }
}

TEST(TrainPlan, OptimizersOfOtherFamilies) {
  const auto subject = subject_of("llama-3.2-1b");
  TrainChoice choice;
  const std::uint64_t parameters = bytes_of(trained(*subject, choice), "adapters") / 4;
  EXPECT_EQ(bytes_of(trained(*subject, choice), "optimizer state"), parameters * 8);
  choice.optimizer = "sgd";
  EXPECT_EQ(bytes_of(trained(*subject, choice), "optimizer state"), 0u);
  choice.optimizer = "adamw8bit";
  const double eight = static_cast<double>(bytes_of(trained(*subject, choice), "optimizer state"));
  EXPECT_NEAR(eight / static_cast<double>(parameters), 2 + 2 * 4.0 / 2048, 0.01);
  EXPECT_EQ(trained(*subject, choice).cannot_run, "this program trains models of its own family alone");
}

// Ours are what Training reserves: nothing is estimated, everything explained, and it runs.
TEST(TrainPlan, OursIsThePlanOfTraining) {
  const std::unique_ptr<Subject> files = ok(bit_axon_files(kNano));
  const Subject& subject = *files;
  const ModelFiles opened = ok(open_model(kNano));
  const MappedFile text = ok(MappedFile::open(opened.tokenizer_path));
  const TokenizerShape tokenizer = ok(Tokenizer::measure(text.text(), opened.tokenizer_path));
  TrainChoice choice;
  choice.weights = "keep";
  choice.threads = 3;
  choice.settings.max_seq_len = 700;
  for (int variant = 0; variant < 8; ++variant) {
    train::TrainSettings& s = choice.settings;
    if (variant == 1) s.adapter = AdapterKind::kDora;
    if (variant == 2) s.objective = train::Objective::kPreference;
    if (variant == 3) s.dropout = 0.1;
    if (variant == 4) s.targets = {"attention", "experts"};
    if (variant == 5) s.chunk = 100;
    if (variant == 6) choice.data = {.examples = 12'345, .index = train::JsonlExamples::index_bytes(12'345)};
    if (variant == 7) choice.validation = {.examples = 7, .index = train::JsonlExamples::index_bytes(7)};
    const Footprint f = trained(subject, choice);
    const EnginePlan plan = ok(train::Training::plan(
        opened.config, opened.tensors, &tokenizer,
        {.settings = s, .weights = {}, .threads = 3, .data = choice.data, .validation = choice.validation}));
    EXPECT_EQ(f.total(), plan.total()) << variant;
    ASSERT_EQ(f.accounts.size(), plan.lines.size());
    for (const PlanLine& line : plan.lines) EXPECT_EQ(bytes_of(f, line.account), line.bytes.count) << line.account;
    EXPECT_FALSE(f.estimate());
    EXPECT_EQ(f.cannot_run, "");
    EXPECT_EQ(wrong_sums(f), "") << variant;
    for (const Account& a : f.accounts) {
      EXPECT_FALSE(a.terms.empty()) << a.name;
      for (const Term& term : a.terms) EXPECT_GT(term.bytes, 0_B) << term.text;
    }
  }
}

TEST(TrainPlan, NotesSayWhatDataTakes) {
  TrainChoice choice;
  std::vector<std::string> notes = trained(*subject_of("nano"), choice).notes;
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("rows go through the model one after the other"), std::string::npos);
  EXPECT_NE(notes[1].find("Each of its lines takes 36 B"), std::string::npos) << notes[1];
  choice.data = {.examples = 1, .index = 64_B};
  EXPECT_EQ(trained(*subject_of("nano"), choice).notes.size(), 1u);
}

TEST(TrainPlan, EveryAccountOf3b) {
  const Footprint f = trained(*subject_of("3b"), {});
  for (const char* name : {"weights: embedding", "adapters", "adapter gradients", "optimizer state", "block inputs",
                           "border states", "activations", "loss", "batch", "workspace", "process"}) {
    EXPECT_NE(f.find(name), nullptr) << name;
  }
  EXPECT_EQ(bytes_of(f, "block inputs"), 25ull * 2048 * 2560 * 4);
  EXPECT_EQ(f.cannot_run, "");
  // The base is what a run holds of it.
  const Footprint run = footprint_of(*subject_of("3b"), choice_of(1, "q4"));
  for (const Account& a : run.accounts) {
    if (!a.name.starts_with("weights")) continue;
    EXPECT_EQ(a.bytes.count, bytes_of(f, a.name)) << a.name;
  }
}

TEST(TrainPlan, APrecisionWithoutKernelsIsAnEstimate) {
  TrainChoice choice;
  choice.weights = "nf4";
  const Footprint f = trained(*subject_of("3b"), choice);
  EXPECT_TRUE(f.estimate());
  EXPECT_EQ(f.cannot_run, "this version has no kernels for nf4 weights");
  EXPECT_EQ(wrong_sums(f), "");
}

TEST(TrainPlan, WhatTrainDoesNotHaveIsRefusedForOurs) {
  TrainChoice choice;
  choice.optimizer = "sgd";
  EXPECT_EQ(error_of(train_footprint(*subject_of("3b"), choice)),
            "train has AdamW alone; sgd can be planned for other families' models only");
  choice.optimizer = "adamw";
  choice.checkpointing = false;
  EXPECT_NE(error_of(train_footprint(*subject_of("3b"), choice)).find("--no-checkpointing"), std::string::npos);
}

TEST(TrainPlan, WhatAnEstimateDoesNotKnowIsRefused) {
  const auto subject = subject_of("llama-3.2-1b");
  for (int field = 0; field < 7; ++field) {
    TrainChoice choice;
    train::TrainSettings& s = choice.settings;
    switch (field) {
      case 0: s.objective = train::Objective::kPreference; break;
      case 1: s.adapter = AdapterKind::kDora; break;
      case 2: s.dropout = 0.5; break;
      case 3: s.targets = {"attention"}; break;
      case 4: s.pack = true; break;
      case 5: s.chunk = 64; break;
      default: choice.data.examples = 1;
    }
    EXPECT_NE(error_of(train_footprint(*subject, choice)).find("this program does not train it"), std::string::npos);
  }
}

TEST(TrainPlan, SettingsAsTyped) {
  TrainChoice choice;
  EXPECT_EQ(typed(choice), "--weights q4 --rank 16 --batch-size 1 --max-seq-len 2048");
  train::TrainSettings& s = choice.settings;
  s.objective = train::Objective::kPreference;
  s.adapter = AdapterKind::kDora;
  s.dropout = 0.25;
  s.targets = {"q_proj", "layer_0.ssm.in_proj"};
  s.pack = s.exact = s.compat = true;
  s.chunk = 64;
  choice.optimizer = "sgd";
  choice.checkpointing = false;
  EXPECT_EQ(typed(choice),
            "--weights q4 --rank 16 --batch-size 1 --max-seq-len 2048 --method orpo --adapter dora --dropout 0.25 "
            "--targets q_proj,layer_0.ssm.in_proj --pack --chunk 64 --compat --exact --optimizer sgd "
            "--no-checkpointing");
}

TEST(TrainPlan, AFewTokensHaveAFewRowsOfLogits) {
  TrainChoice choice;
  choice.settings.max_seq_len = 20;
  choice.settings.batch_size = 3;
  EXPECT_EQ(bytes_of(trained(*subject_of("llama-3.2-1b"), choice), "loss"), 60ull * 128256 * 2 * 4);
}

// What checkpointing is for. Of one layer alone there is nothing to save, but nothing to lose either.
TEST(TrainPlan, CheckpointingSaves) {
  for (const char* name : {"llama-3.1-8b", "mamba-2.8b", "gpt-oss-20b", "rwkv-7-1.5b"}) {
    TrainChoice with, without;
    without.checkpointing = false;
    const auto subject = subject_of(name);
    EXPECT_GT(trained(*subject, without).total(), trained(*subject, with).total()) << name;
    EXPECT_EQ(wrong_sums(trained(*subject, without)), "");
  }
}

TEST(TrainPlan, OptimizersHaveNames) {
  for (const char* name : {"adamw", "adamw8bit", "sgd"}) EXPECT_TRUE(check_optimizer(name).ok());
  EXPECT_EQ(error_of(check_optimizer("adam")), "unknown optimizer \"adam\": there are adamw, adamw8bit and sgd");
  TrainChoice choice;
  choice.optimizer = "";
  EXPECT_NE(error_of(train_footprint(*subject_of("3b"), choice)).find("unknown optimizer \"\""), std::string::npos);
}

TEST(TrainPlan, ASizeHasNoShapes) {
  EXPECT_EQ(error_of(train_footprint(*subject_of("20b"), {})), "20b: training needs shapes, and a size has none");
}

TEST(TrainPlan, ExamplesNoLongerThanTheModelReads) {
  TrainChoice choice;
  choice.settings.max_seq_len = 65536;
  EXPECT_TRUE(train_footprint(*subject_of("3b"), choice).ok());
  choice.settings.max_seq_len = 65537;
  EXPECT_EQ(error_of(train_footprint(*subject_of("3b"), choice)),
            "max-seq-len 65537 is more than the model's max_seq_len 65536");
}

TEST(TrainPlan, OverflowIsAnError) {
  for (const char* name : {"llama-3.1-8b", "mamba-2.8b"}) {
    const auto subject = subject_of(name);
    for (const int field : {0, 1, 2}) {
      for (const bool checkpointing : {false, true}) {
        for (const std::uint64_t big : {std::uint64_t{1} << 50, std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
          TrainChoice choice;
          choice.checkpointing = checkpointing;
          (field == 0   ? choice.settings.rank
           : field == 1 ? choice.settings.batch_size
                        : choice.settings.max_seq_len) = big;
          error_of(train_footprint(*subject, choice));
          EXPECT_FALSE(train_footprint(*subject, choice).ok()) << name << " " << field;
        }
      }
    }
  }
}

TEST(TrainPlan, FullFineTuningTakesTwelveBytesAParameter) {
  const auto subject = subject_of("3b");
  EXPECT_EQ(ok(full_fine_tuning(*subject)).count, subject->facts().parameters * 12);
  EXPECT_EQ(ok(full_fine_tuning(*subject_of("3.2b"))).count, 38'400'000'000u);
}

TEST(TrainPlan, MoreIsNeverLess) {
  const char* targets[] = {"small", "nano", "llama-3.2-1b", "jamba-v0.1", "gpt-oss-20b"};
  std::vector<std::unique_ptr<Subject>> subjects;
  for (const char* target : targets) subjects.push_back(subject_of(target));
  EXPECT_TRUE(rc::check("rank, batch, sequence, bits", [&] {
    const Subject& subject = *subjects[*rc::gen::inRange<std::size_t>(0, std::size(targets))];
    TrainChoice choice;
    choice.settings.rank = *rc::gen::inRange<std::uint64_t>(1, 200);
    choice.settings.batch_size = *rc::gen::inRange<std::uint64_t>(1, 200);
    choice.settings.max_seq_len = *rc::gen::inRange<std::uint64_t>(2, 8000);
    if (subject.facts().runs_here) {
      choice.settings.chunk = 8000;  // border states grow with pieces, so with a smaller chunk less can be more
      if (*rc::gen::arbitrary<bool>()) choice.settings.adapter = AdapterKind::kDora;
    } else {
      choice.optimizer = *rc::gen::elementOf(std::vector<std::string>{"adamw", "adamw8bit", "sgd"});
      choice.checkpointing = *rc::gen::arbitrary<bool>();
    }
    const Footprint before = trained(subject, choice);
    RC_ASSERT(wrong_sums(before).empty());
    const auto more = *rc::gen::inRange<std::uint64_t>(0, 300);
    switch (*rc::gen::inRange(0, 4)) {
      case 0: choice.settings.rank += more; break;
      case 1: choice.settings.batch_size += more; break;
      case 2: choice.settings.max_seq_len += more; break;
      default: choice.weights = "q8";
    }
    RC_ASSERT(trained(subject, choice).total() >= before.total());
  }));
}

}  // namespace
}  // namespace axon
