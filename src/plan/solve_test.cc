#include "plan/solve.h"

#include <rapidcheck.h>

#include "plan/plan_for_test.h"
#include "plan/train_plan.h"

namespace axon {
namespace {

using namespace testing_plan;

constexpr const char* kTargets[] = {
    "small",      "nano",       "3b",          "llama-3.2-1b", "gpt-oss-20b", "gemma-2-2b", "deepseek-v2-lite",
    "mamba-2.8b", "jamba-v0.1", "rwkv-7-1.5b", "qwen3-30b-a3b"};

Solution solved(const Subject& subject, SolveFor what, Bytes budget, const RunChoice& run = {},
                const TrainChoice& train = {}) {
  return ok(solve(subject, what, run, train, budget));
}

// Everything that holds of any answer.
void check_options(const Subject& subject, const Solution& s, Bytes budget, bool training = false) {
  const auto total = [&](const Option& o) {
    return training ? ok(train_footprint(subject, o.train)).total() : total_of(subject, o.run);
  };
  RC_ASSERT(s.best.has_value() != s.smallest.has_value());
  if (s.smallest) {
    RC_ASSERT(s.smallest->total > budget);
    RC_ASSERT(total(*s.smallest) == s.smallest->total);
    RC_ASSERT(s.cheaper.empty() && s.also.empty() && !s.best_of_all);
    return;
  }
  RC_ASSERT(s.best->total <= budget && total(*s.best) == s.best->total);
  RC_ASSERT(s.cheaper.size() <= 2u);
  Bytes before = s.best->total;
  for (const Option& o : s.cheaper) {
    RC_ASSERT(o.total < before && total(o) == o.total);
    before = o.total;
  }
  for (const Option& o : s.also) RC_ASSERT(o.total <= budget && total(o) == o.total);
  std::vector<Option> all = s.cheaper;
  all.push_back(*s.best);
  for (const Option& o : all) RC_ASSERT(!o.what.empty() && o.command.starts_with("bit-axon "));
}

class Solve : public ::testing::Test {
 protected:
  Solve() {
    for (const char* target : kTargets) subjects_.push_back(subject_of(target));
  }
  const Subject& any_subject() const { return *subjects_[*rc::gen::inRange<std::size_t>(0, subjects_.size())]; }
  const Subject& any_subject(bool runs_here) const {
    std::vector<const Subject*> some;
    for (const auto& subject : subjects_) {
      if (subject->facts().runs_here == runs_here) some.push_back(subject.get());
    }
    return **rc::gen::elementOf(some);
  }
  // From far too little to plenty, on a scale that does not favour the large ones.
  static Bytes any_budget() {
    return {(std::uint64_t{1} << *rc::gen::inRange(22, 42)) + *rc::gen::inRange<std::uint64_t>(0, 1u << 24)};
  }
  std::vector<std::unique_ptr<Subject>> subjects_;
};

TEST_F(Solve, TheLongestContextFitsAndTheNextTokenDoesNot) {
  EXPECT_TRUE(rc::check("any model and budget", [&] {
    const Subject& subject = any_subject();
    RunChoice run = choice_of(0, *rc::gen::elementOf(our_weights()), *rc::gen::elementOf(kv_names()));
    if (*rc::gen::arbitrary<bool>()) run.window = *rc::gen::inRange<std::uint64_t>(0, 20000);
    const Bytes budget = any_budget();
    const Solution s = solved(subject, SolveFor::kContext, budget, run);
    check_options(subject, s, budget);
    if (s.smallest) RC_ASSERT(s.smallest->run.context == 1u);
    if (!s.best) return;
    const std::uint64_t best = s.best->run.context;
    RC_ASSERT(best >= 1u);
    if (s.best_of_all) {
      const std::uint64_t max = subject.facts().context_max;
      RC_ASSERT(best == (max != 0 ? max : std::uint64_t{1} << 40));
      return;
    }
    run.context = best + 1;
    Result<Footprint> next = subject.footprint(run);
    RC_ASSERT(!next.ok() || next.value().total() > budget);
  }));
}

// To the token: a budget that is one byte short costs one token.
TEST_F(Solve, ContextIsExact) {
  for (const char* target : {"nano", "llama-3.2-1b"}) {
    const auto subject = subject_of(target);
    RunChoice run = choice_of(0);
    run.window = 0;
    RunChoice at = run;
    at.context = 12345;
    const Bytes needed = total_of(*subject, at);
    EXPECT_EQ(solved(*subject, SolveFor::kContext, needed, run).best->run.context, 12345u);
    EXPECT_EQ(solved(*subject, SolveFor::kContext, needed - 1_B, run).best->run.context, 12344u);
    EXPECT_EQ(solved(*subject, SolveFor::kContext, needed, run).best->what, "context 12,345");
    const Solution all = solved(*subject, SolveFor::kContext, 1024_GiB, run);
    EXPECT_TRUE(all.best_of_all);
    EXPECT_EQ(all.best->run.context, subject->facts().context_max);
  }
}

// A cache that grows past all numbers before the context does is no answer and no error.
TEST_F(Solve, ContextOfAModelWithoutALimit) {
  const auto subject = size_subject(
      {.target = "405b", .parameters = 405'000'000'000, .fallback = true, .layers = 65536, .hidden_size = 1u << 24});
  const Solution s = solved(*subject, SolveFor::kContext, {std::uint64_t{1} << 60});
  ASSERT_TRUE(s.best);
  EXPECT_EQ(s.best->run.context, ((std::uint64_t{1} << 60) - 810'000'000'000) >> 42);
  EXPECT_FALSE(s.best_of_all);
}

// Of a bare size nothing is known that grows with the context.
TEST_F(Solve, ContextNeedsACache) {
  const auto subject = subject_of("20b");
  for (const SolveFor what : {SolveFor::kContext, SolveFor::kKv}) {
    EXPECT_NE(error_of(solve(*subject, what, {}, {}, 1024_GiB)).find("20b: what a sequence takes is not known"),
              std::string::npos);
  }
  EXPECT_TRUE(solve(*subject, SolveFor::kWeights, {}, {}, 1024_GiB).ok());
}

TEST_F(Solve, TheBestPrecisionFitsAndABetterOneDoesNot) {
  EXPECT_TRUE(rc::check("any model and budget", [&] {
    const Subject& subject = any_subject();
    const RunChoice run = choice_of(*rc::gen::inRange<std::uint64_t>(1, 2048));
    const Bytes budget = any_budget();
    const Solution s = solved(subject, SolveFor::kWeights, budget, run);
    check_options(subject, s, budget);
    const Bytes stored = total_of(subject, run);
    Bytes least = stored;
    for (const std::string name : {"keep", "bf16", "q8", "q6", "q5", "q4", "q3", "q2"}) {
      const Bytes total = total_of(subject, choice_of(run.context, name));
      least = std::min(least, total);
      if (total > stored) continue;  // larger than stored: no better
      if (s.best && total > s.best->total) RC_ASSERT(total > budget);
      if (s.smallest) RC_ASSERT(total > budget);
    }
    if (s.smallest) RC_ASSERT(s.smallest->total == least);
    if (s.best) RC_ASSERT(s.best->total <= stored && s.best_of_all == (s.best->total == stored));
  }));
}

TEST_F(Solve, TheBestCacheFitsAndABetterOneDoesNot) {
  EXPECT_TRUE(rc::check("any model and budget", [&] {
    const Subject& subject = any_subject();
    RunChoice run = choice_of(*rc::gen::inRange<std::uint64_t>(1, 2048), "q4");
    run.window = 0;
    const Bytes budget = any_budget();
    const Solution s = solved(subject, SolveFor::kKv, budget, run);
    check_options(subject, s, budget);
    for (const std::string name : {"fp16", "q8", "tq4", "tq3.5", "tq3"}) {
      RunChoice other = run;
      other.kv = name;
      const Bytes total = total_of(subject, other);
      if (!s.best || total > s.best->total) RC_ASSERT(total > budget || total > total_of(subject, run));
    }
  }));
}

TEST_F(Solve, TheLargestBatchFitsAndTheNextExampleDoesNot) {
  EXPECT_TRUE(rc::check("any model of another family, budget and length", [&] {
    const Subject& subject = any_subject(/*runs_here=*/false);
    TrainChoice train;
    train.settings.max_seq_len = *rc::gen::inRange<std::uint64_t>(1, 2048);
    train.checkpointing = *rc::gen::arbitrary<bool>();
    train.settings.rank = *rc::gen::inRange<std::uint64_t>(1, 64);
    const Bytes budget = any_budget();
    const Solution s = solved(subject, SolveFor::kTrain, budget, {}, train);
    check_options(subject, s, budget, true);
    const auto fits = [&](std::uint64_t batch, std::uint64_t sequence) {
      TrainChoice choice = train;
      choice.settings.batch_size = batch;
      choice.settings.max_seq_len = sequence;
      Result<Footprint> f = train_footprint(subject, choice);
      return f.ok() && f.value().total() <= budget;
    };
    if (s.smallest) {
      RC_ASSERT(!fits(1, train.settings.max_seq_len) && !fits(1, 16));
      return;
    }
    const TrainChoice& best = s.best->train;
    if (fits(1, train.settings.max_seq_len)) {
      RC_ASSERT(best.settings.max_seq_len == train.settings.max_seq_len);
      RC_ASSERT(s.best_of_all == (best.settings.batch_size == 65536u));
      if (!s.best_of_all) RC_ASSERT(!fits(best.settings.batch_size + 1, train.settings.max_seq_len));
    } else {
      RC_ASSERT(best.settings.batch_size == 1u && best.settings.max_seq_len < train.settings.max_seq_len);
      RC_ASSERT(!fits(1, best.settings.max_seq_len + 1));
    }
    for (const Option& o : s.also) {
      RC_ASSERT(o.train.settings.batch_size == 1u && o.train.settings.max_seq_len > train.settings.max_seq_len);
      RC_ASSERT(!fits(1, o.train.settings.max_seq_len + 1) || o.train.settings.max_seq_len == 1u << 24 ||
                o.train.settings.max_seq_len == subject.facts().context_max);
    }
  }));
}

TEST_F(Solve, TheLongestRowFitsAndTheNextTokenDoesNot) {
  EXPECT_TRUE(rc::check("any model of ours, budget and settings", [&] {
    const Subject& subject = any_subject(/*runs_here=*/true);
    TrainChoice train;
    train.settings.rank = *rc::gen::inRange<std::uint64_t>(1, 64);
    train.settings.batch_size = *rc::gen::inRange<std::uint64_t>(1, 64);
    train.settings.chunk = *rc::gen::inRange<std::uint64_t>(16, 2048);
    if (*rc::gen::arbitrary<bool>()) train.settings.objective = train::Objective::kPreference;
    train.data = {.examples = *rc::gen::inRange<std::uint64_t>(0, 100'000), .index = 100_KiB};
    const Bytes budget = any_budget();
    const Solution s = solved(subject, SolveFor::kTrain, budget, {}, train);
    check_options(subject, s, budget, true);
    const auto fits = [&](std::uint64_t tokens) {
      TrainChoice choice = train;
      choice.settings.max_seq_len = tokens;
      return ok(train_footprint(subject, choice)).total() <= budget;
    };
    if (s.smallest) {
      RC_ASSERT(!fits(2));
      return;
    }
    const train::TrainSettings& best = s.best->train.settings;
    RC_ASSERT(best.batch_size == train.settings.batch_size);
    RC_ASSERT(s.best_of_all == (best.max_seq_len == subject.facts().context_max));
    if (!s.best_of_all) RC_ASSERT(!fits(best.max_seq_len + 1));
  }));
}

// No example is longer than the model reads.
TEST_F(Solve, TrainingStaysWithinTheContext) {
  const Solution s = solved(*subject_of("small"), SolveFor::kTrain, {std::uint64_t{1} << 50});
  ASSERT_TRUE(s.best);
  EXPECT_EQ(s.best->train.settings.max_seq_len, 65536u);
  EXPECT_TRUE(s.best_of_all);
  EXPECT_EQ(s.best->what, "batch 1 x 65,536 tokens");
  ASSERT_EQ(s.cheaper.size(), 2u);
  EXPECT_EQ(s.cheaper[0].train.settings.max_seq_len, 32768u);
  EXPECT_EQ(s.cheaper[1].command,
            "bit-axon plan small --train --weights q4 --rank 16 --batch-size 1 --max-seq-len 16384");
}

// The search goes past what 64 bits count; the answer does not.
TEST_F(Solve, TrainingOfAWideModelWithoutEnd) {
  SmallConfig wide{.family = "mamba",
                   .layers = 64,
                   .heads = 1024,
                   .kv_heads = 1,
                   .head_dim = 1024,
                   .inner = 0,
                   .vocab = 100,
                   .experts = 0,
                   .window = 0};
  const auto subject = foreign(wide.json());
  TrainChoice train;
  train.settings.max_seq_len = 1u << 24;
  const Solution s = solved(*subject, SolveFor::kTrain, {std::uint64_t{1} << 59}, {}, train);
  ASSERT_TRUE(s.best);
  EXPECT_GT(s.best->train.settings.batch_size, 1u);
}

TEST_F(Solve, ASizeCannotBeTrained) {
  EXPECT_NE(error_of(solve(*subject_of("20b"), SolveFor::kTrain, {}, {}, 1024_GiB)).find("training needs shapes"),
            std::string::npos);
}

TEST_F(Solve, ReadsItsNames) {
  EXPECT_EQ(ok(parse_solve_for("context")), SolveFor::kContext);
  EXPECT_EQ(ok(parse_solve_for("weights")), SolveFor::kWeights);
  EXPECT_EQ(ok(parse_solve_for("kv")), SolveFor::kKv);
  EXPECT_EQ(ok(parse_solve_for("train")), SolveFor::kTrain);
  EXPECT_EQ(error_of(parse_solve_for("ram")), "cannot solve for \"ram\": there are context, weights, kv and train");
}

}  // namespace
}  // namespace axon
