#include "plan/train_plan.h"

#include <rapidcheck.h>

#include <cmath>

#include "plan/plan_for_test.h"

namespace axon {
namespace {

using namespace testing_plan;

Footprint trained(const Subject& subject, const TrainChoice& choice) { return ok(train_footprint(subject, choice)); }

// 6b, rank r: adapters of r x 943,104 parameters, the original's count.
TEST(TrainPlan, AdaptersOf6b) {
  const auto subject = subject_of("6b");
  for (const std::uint64_t rank : {1u, 8u, 16u, 64u}) {
    TrainChoice choice;
    choice.rank = rank;
    const std::uint64_t parameters = rank * 943'104;
    const Footprint adamw = trained(*subject, choice);
    EXPECT_EQ(wrong_sums(adamw), "");
    EXPECT_EQ(bytes_of(adamw, "adapters"), parameters * 4);
    EXPECT_EQ(bytes_of(adamw, "adapter gradients"), parameters * 4);
    EXPECT_EQ(bytes_of(adamw, "optimizer state"), parameters * 8);
    choice.optimizer = "sgd";
    EXPECT_EQ(bytes_of(trained(*subject, choice), "optimizer state"), 0u);
    choice.optimizer = "adamw8bit";
    const double eight = static_cast<double>(bytes_of(trained(*subject, choice), "optimizer state"));
    EXPECT_NEAR(eight / static_cast<double>(parameters), 2 + 2 * 4.0 / 2048, 0.01);
  }
}

TEST(TrainPlan, EveryAccountOfTheTable) {
  const Footprint f = trained(*subject_of("3b"), {});
  for (const char* name : {"weights: embedding", "adapters", "adapter gradients", "optimizer state", "block inputs",
                           "activations", "loss", "kv cache", "batch", "process"}) {
    EXPECT_NE(f.find(name), nullptr) << name;
  }
  EXPECT_EQ(bytes_of(f, "block inputs"), 24ull * 2048 * 2560 * 2);
  EXPECT_EQ(bytes_of(f, "loss"), 256ull * 32000 * 2 * 4);
  EXPECT_EQ(bytes_of(f, "kv cache"), 0u);
  EXPECT_EQ(bytes_of(f, "batch"), 2048ull * 2 * 4);
  EXPECT_FALSE(f.cannot_run.empty());
  // The base is what a run holds of it.
  const Footprint run = footprint_of(*subject_of("3b"), choice_of(1, "q4"));
  for (const Account& a : run.accounts) {
    if (!a.name.starts_with("weights")) continue;
    EXPECT_EQ(a.bytes.count, bytes_of(f, a.name)) << a.name;
  }
}

TEST(TrainPlan, AFewTokensHaveAFewRowsOfLogits) {
  TrainChoice choice;
  choice.sequence = 20;
  choice.batch = 3;
  EXPECT_EQ(bytes_of(trained(*subject_of("3b"), choice), "loss"), 60ull * 32000 * 2 * 4);
}

// What checkpointing is for. Of one layer alone there is nothing to save, but nothing to lose either.
TEST(TrainPlan, CheckpointingSaves) {
  for (const char* name : {"nano", "3b", "6b", "llama-3.1-8b", "mamba-2.8b", "gpt-oss-20b", "rwkv-7-1.5b"}) {
    TrainChoice with, without;
    without.checkpointing = false;
    const auto subject = subject_of(name);
    EXPECT_GT(trained(*subject, without).total(), trained(*subject, with).total()) << name;
    EXPECT_EQ(wrong_sums(trained(*subject, without)), "");
  }
  for (const std::uint64_t layers : {1u, 2u, 4u}) {
    const auto config = ok(with_setting(ok(preset("nano")), fmt::format("num_layers={}", layers)));
    const auto subject = ok(bit_axon_config(config, "it", "preset", ""));
    TrainChoice with, without;
    without.checkpointing = false;
    EXPECT_GE(trained(*subject, without).total(), trained(*subject, with).total()) << layers;
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
  choice.sequence = 65536;
  EXPECT_TRUE(train_footprint(*subject_of("3b"), choice).ok());
  choice.sequence = 65537;
  EXPECT_EQ(error_of(train_footprint(*subject_of("3b"), choice)),
            "an example of 65537 tokens is more than the model's max_seq_len 65536");
}

TEST(TrainPlan, OverflowIsAnError) {
  for (const char* name : {"llama-3.1-8b", "mamba-2.8b"}) {
    const auto subject = subject_of(name);
    for (const int field : {0, 1, 2}) {
      for (const bool checkpointing : {false, true}) {
        for (const std::uint64_t big : {std::uint64_t{1} << 50, std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
          TrainChoice choice;
          choice.checkpointing = checkpointing;
          (field == 0 ? choice.rank : field == 1 ? choice.batch : choice.sequence) = big;
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
    choice.rank = *rc::gen::inRange<std::uint64_t>(1, 200);
    choice.batch = *rc::gen::inRange<std::uint64_t>(1, 200);
    choice.sequence = *rc::gen::inRange<std::uint64_t>(1, 8000);
    choice.optimizer = *rc::gen::elementOf(std::vector<std::string>{"adamw", "adamw8bit", "sgd"});
    choice.checkpointing = *rc::gen::arbitrary<bool>();
    const Footprint before = trained(subject, choice);
    RC_ASSERT(wrong_sums(before).empty());
    const auto more = *rc::gen::inRange<std::uint64_t>(0, 300);
    switch (*rc::gen::inRange(0, 4)) {
      case 0: choice.rank += more; break;
      case 1: choice.batch += more; break;
      case 2: choice.sequence += more; break;
      default: choice.weights = "q8";
    }
    RC_ASSERT(trained(subject, choice).total() >= before.total());
  }));
}

}  // namespace
}  // namespace axon
