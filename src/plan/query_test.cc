#include "plan/query.h"

#include <sstream>

#include "plan/plan_for_test.h"

namespace axon {
namespace {

using namespace testing_plan;

PlanQuery query_of(std::vector<std::uint64_t> contexts, Bytes limit) {
  PlanQuery query;
  query.contexts = std::move(contexts);
  query.budget = {limit, "--memory-budget"};
  return query;
}
PlanReport answered(const Subject& subject, const PlanQuery& query) { return ok(answer(subject, query)); }

TEST(Query, TheMatrixIsContextThenWeightsThenKv) {
  const auto subject = subject_of("llama-3.2-1b");
  PlanQuery query = query_of({4096, 100, 65536}, 3_GiB);
  query.weights = {"keep", "q4"};
  query.kv = {"fp16", "q8", "tq3"};
  query.base.window = 50'000;
  const PlanReport report = answered(*subject, query);
  ASSERT_EQ(report.cells.size(), 18u);
  std::size_t at = 0, fitting = 0;
  for (const std::string& kv : query.kv) {
    for (const std::string& weights : query.weights) {
      for (const std::uint64_t context : query.contexts) {
        const PlanCell& cell = report.cells[at++];
        EXPECT_EQ(cell.choice.context, context);
        EXPECT_EQ(cell.choice.weights, weights);
        EXPECT_EQ(cell.choice.kv, kv);
        EXPECT_EQ(cell.choice.window, 50'000u);
        EXPECT_EQ(cell.footprint.total(), total_of(*subject, cell.choice));
        EXPECT_EQ(cell.fits, cell.footprint.total() <= 3_GiB);
        fitting += cell.fits;
      }
    }
  }
  EXPECT_GT(fitting, 0u);
  EXPECT_LT(fitting, 18u);
  EXPECT_TRUE(report.fits());
  EXPECT_TRUE(report.ways.empty());  // there is more than one cell
  EXPECT_TRUE(report.curve.empty());
  EXPECT_EQ(report.facts.target, "llama-3.2-1b");
}

TEST(Query, WithoutAContextItIsTheModelsMaximum) {
  for (const auto& contexts : {std::vector<std::uint64_t>{}, std::vector<std::uint64_t>{0}}) {
    EXPECT_EQ(answered(*subject_of("llama-3.2-1b"), query_of(contexts, 1_GiB)).contexts,
              std::vector<std::uint64_t>{131072});
    EXPECT_EQ(answered(*subject_of("nano"), query_of(contexts, 1_GiB)).cells[0].choice.context, 65536u);
    EXPECT_EQ(answered(*subject_of("mamba-2.8b"), query_of(contexts, 1_GiB)).contexts,
              std::vector<std::uint64_t>{4096});
  }
}

TEST(Query, AMatrixHasALimit) {
  const auto subject = subject_of("20b");
  PlanQuery query = query_of(std::vector<std::uint64_t>(kCellsMax, 4096), 1_GiB);
  EXPECT_TRUE(answer(*subject, query).ok());
  query.weights = {"q4", "q8"};
  EXPECT_EQ(error_of(answer(*subject, query)), "4096 x 2 x 1 choices are more than 4096");
}

TEST(Query, ErrorsOfACellAreErrorsOfTheAnswer) {
  EXPECT_NE(error_of(answer(*subject_of("nano"), query_of({100, 70'000}, 1_GiB))).find("--context 70000"),
            std::string::npos);
}

// Each way out is smaller, fits, and takes what it says.
TEST(Query, WaysFit) {
  for (const char* target : {"nano", "3b", "llama-3.2-1b", "gpt-oss-20b", "gemma-2-2b"}) {
    const auto subject = subject_of(target);
    for (const double share : {0.99, 0.7, 0.4, 0.2}) {
      const std::uint64_t context = 20'000;
      const Bytes total = total_of(*subject, choice_of(context));
      const Bytes limit{static_cast<std::uint64_t>(static_cast<double>(total.count) * share)};
      const PlanReport report = answered(*subject, query_of({context}, limit));
      EXPECT_FALSE(report.fits());
      EXPECT_LE(report.ways.size(), 3u);
      EXPECT_TRUE(share < 0.5 || !report.ways.empty()) << target << " " << share;
      for (const PlanReport::Way& way : report.ways) {
        EXPECT_LE(way.total, limit) << target << " " << way.options;
        RunChoice choice = choice_of(context);
        std::istringstream words(way.options);
        for (std::string name, value; words >> name >> value;) {
          if (name == "--weights") choice.weights = value;
          if (name == "--kv") choice.kv = value;
          if (name == "--context") choice.context = std::stoull(value);
          if (name == "--prefill-chunk") choice.prefill_chunk = std::stoull(value);
        }
        EXPECT_EQ(total_of(*subject, choice), way.total) << target << " " << way.options;
        EXPECT_LT(choice.context, context + 1);
      }
    }
  }
}

// Without a word of it the cache is the one that `run` has.
TEST(Query, TheCacheIsTheOneOfRun) {
  PlanQuery query = query_of({100}, 1_GiB);
  EXPECT_EQ(answered(*subject_of("nano"), query).cells[0].choice.kv, "fp16");
  query.base.exact = true;
  EXPECT_EQ(answered(*subject_of("nano"), query).cells[0].choice.kv, "fp32");
  EXPECT_EQ(answered(*subject_of("llama-3.2-1b"), query).cells[0].choice.kv, "fp16");
  query.kv = {"fp16"};
  EXPECT_EQ(answered(*subject_of("nano"), query).cells[0].choice.kv, "fp16");
}

// Each type once, smaller than the one before, and what it saves is saved.
TEST(Query, SmallerCaches) {
  const auto types = [](const char* target, const char* kv, std::uint64_t context = 65536) {
    const auto subject = subject_of(target);
    PlanQuery query = query_of({context}, 1_GiB);
    query.kv = {kv};
    query.base.window = 0;
    const PlanReport report = answered(*subject, query);
    const Footprint& own = report.cells[0].footprint;
    Bytes before{bytes_of(own, "kv cache")};
    std::string out;
    for (const PlanReport::SmallerKv& smaller : report.smaller_kv) {
      RunChoice choice = report.cells[0].choice;
      choice.kv = smaller.kv;
      const Footprint f = footprint_of(*subject, choice);
      EXPECT_EQ(smaller.bytes.count, bytes_of(f, "kv cache"));
      EXPECT_EQ(smaller.total, f.total());
      EXPECT_EQ(smaller.saved.count, bytes_of(own, "kv cache") - bytes_of(f, "kv cache"));
      EXPECT_LT(smaller.bytes, before);
      before = smaller.bytes;
      out += smaller.kv + " ";
    }
    return out;
  };
  EXPECT_EQ(types("3b", "fp16"), "q8 tq4 tq3.5 tq3 ");
  EXPECT_EQ(types("3b", "fp32"), "fp16 q8 tq4 tq3.5 tq3 ");
  EXPECT_EQ(types("3b", "tq3.5"), "tq3 ");
  EXPECT_EQ(types("3b", "tq3"), "");
  EXPECT_EQ(types("3b", "lm3"), "");
  EXPECT_EQ(types("3b", "fp16", 16), "q8 ");  // all of it is tail
  EXPECT_EQ(types("llama-3.2-1b", "fp16"), "");
  PlanQuery matrix = query_of({100, 200}, 1_GiB);
  EXPECT_TRUE(answered(*subject_of("3b"), matrix).smaller_kv.empty());
}

TEST(Query, WhatFitsNeedsNoWayOut) {
  const auto subject = subject_of("nano");
  EXPECT_TRUE(answered(*subject, query_of({100}, 1_GiB)).ways.empty());
  EXPECT_TRUE(answered(*subject, query_of({1}, 13_MiB)).ways.empty());  // nor is there one for a single token
  EXPECT_TRUE(answered(*subject_of("20b"), query_of({100}, 1_MiB)).ways.empty());
}

// Rising, from a thousand to the end, with the windows where the lines bend.
TEST(Query, TheCurveRisesToTheMaximum) {
  const auto contexts = [](const std::string& target, PlanQuery query) {
    query.curve = true;
    std::vector<std::uint64_t> out;
    for (const PlanCell& cell : answered(*subject_of(target), query).curve) {
      EXPECT_EQ(cell.fits, cell.footprint.total() <= query.budget.limit);
      out.push_back(cell.choice.context);
    }
    EXPECT_TRUE(std::is_sorted(out.begin(), out.end()));
    EXPECT_EQ(std::adjacent_find(out.begin(), out.end()), out.end());
    return out;
  };
  using Contexts = std::vector<std::uint64_t>;
  EXPECT_EQ(contexts("nano", query_of({}, 1_GiB)), (Contexts{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}));
  EXPECT_EQ(contexts("3b", query_of({100}, 1_GiB)), (Contexts{1024, 2048, 4096, 8192, 16384, 32768, 65536}));
  PlanQuery windowed = query_of({8192}, 1_GiB);
  windowed.base.window = 3000;
  EXPECT_EQ(contexts("gemma-2-2b", windowed), (Contexts{1024, 2048, 3000, 4096, 8192}));
  EXPECT_EQ(contexts("tinyllama-1.1b", query_of({10'000, 300}, 1_GiB)), (Contexts{1024, 2048, 4096, 8192, 10'000}));
  EXPECT_EQ(contexts("mamba-2.8b", query_of({}, 1_GiB)), (Contexts{1024, 2048, 4096}));
  // A model whose memory does not grow takes any context; the doubling must still end.
  EXPECT_EQ(contexts("mamba-2.8b", query_of({~std::uint64_t{0}}, 1_GiB)).size(), 55u);
}

TEST(Query, TheCurveIsOfTheFirstCell) {
  PlanQuery query = query_of({100}, 1_GiB);
  query.weights = {"q4", "q8"};
  query.kv = {"q8", "fp16"};
  query.curve = true;
  for (const PlanCell& cell : answered(*subject_of("llama-3.2-1b"), query).curve) {
    EXPECT_EQ(cell.choice.weights, "q4");
    EXPECT_EQ(cell.choice.kv, "q8");
  }
}

TEST(Query, TrainingStandsInPlaceOfCells) {
  PlanQuery query = query_of({}, 100_GiB);
  query.train = TrainChoice{};
  query.train->settings.rank = 3;
  const auto subject = subject_of("3b");
  const PlanReport report = answered(*subject, query);
  EXPECT_TRUE(report.cells.empty());
  ASSERT_TRUE(report.training);
  EXPECT_EQ(report.train.settings.rank, 3u);
  EXPECT_EQ(report.training->total(), ok(train_footprint(*subject, *query.train)).total());
  EXPECT_TRUE(report.fits());
  query.budget.limit = 1_GiB;
  EXPECT_FALSE(answered(*subject, query).fits());
}

// Commands are typed as they stand, so they carry what set the budget.
TEST(Query, SolutionsCarryTheBudget) {
  PlanQuery query = query_of({1000}, 4_GiB);
  query.weights = {"q4"};
  query.solve = {SolveFor::kContext, SolveFor::kWeights, SolveFor::kTrain};
  query.budget_options = " --memory-budget 4GiB";
  query.machine_options = " --machine mac-mini-16gb";
  const PlanReport ours = answered(*subject_of("3b"), query), theirs = answered(*subject_of("llama-3.2-1b"), query);
  ASSERT_EQ(ours.solutions.size(), 3u);
  EXPECT_EQ(ours.solutions[0].what, SolveFor::kContext);
  EXPECT_EQ(ours.solutions[0].best->command,
            "bit-axon init --preset 3b --weights q4 -o 3b-q4 && bit-axon run --model 3b-q4 --context 65536 "
            "--memory-budget 4GiB");
  EXPECT_EQ(ours.solutions[1].best->run.context, 1000u);
  for (const Solution& s : theirs.solutions) {
    std::vector<Option> all = s.cheaper;
    all.insert(all.end(), s.also.begin(), s.also.end());
    if (s.best) all.push_back(*s.best);
    EXPECT_FALSE(all.empty());
    for (const Option& option : all) {
      EXPECT_TRUE(option.command.ends_with(" --machine mac-mini-16gb --memory-budget 4GiB")) << option.command;
    }
  }
  query.budget.limit = 1_MiB;
  const PlanReport none = answered(*subject_of("llama-3.2-1b"), query);
  EXPECT_TRUE(none.solutions[0].smallest->command.ends_with("4GiB"));
  EXPECT_FALSE(none.fits());
}

}  // namespace
}  // namespace axon
