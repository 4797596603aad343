#include "plan/run_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "generate/tiny_engine_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

// Wide enough that every account matters: a ring of 4096 tokens, matrices of some MiB.
Config wide_config() {
  Config config = engine_config();
  config.swa_window_size = 4096;
  config.num_layers = 3;
  config.hidden_dim = 256;
  config.moe_intermediate_dim = 256;
  return config;
}

EngineOptions wide_options() {
  EngineOptions options = EngineFolder::small_options();
  options.session = {.context = 8192, .prefill_chunk = 256, .arithmetic = Arithmetic::kFast, .logits_rows = 1};
  return options;
}

// The options as the user would type them, on top of `options`.
EngineOptions applied(EngineOptions options, const std::string& typed) {
  std::istringstream words(typed);
  for (std::string name, value; words >> name >> value;) {
    if (name == "--context") {
      options.session.context = std::stoul(value);
    } else if (name == "--prefill-chunk") {
      options.session.prefill_chunk = std::stoul(value);
    } else if (name == "--kv") {
      options.session.kv = ok(parse_kv_type(value));
    } else if (name == "--weights") {
      options.weights = ok(parse_weight_format(value));
    } else {
      ADD_FAILURE() << "unknown option " << name;
    }
  }
  return options;
}

class RunPlanTest : public ::testing::Test {
 protected:
  static const EngineFolder& folder() {
    static const EngineFolder made(wide_config(), WeightFormat{.kind = WeightFormat::kFloat, .dtype = DType::kBF16});
    return made;
  }
  static RunPlan plan(const EngineOptions& options, Bytes limit) {
    return ok(plan_run(folder().files(), &folder().shape(), options, {limit, "--memory-budget"}));
  }
  static Bytes total(const EngineOptions& options) { return plan(options, 1_GiB).total; }
  static std::vector<Suggestion> suggestions(const EngineOptions& options, Bytes limit) {
    return ok(suggest(folder().files(), &folder().shape(), options, {limit, "--memory-budget"}));
  }
};

TEST_F(RunPlanTest, FitsIffTheTotalIsWithinTheBudget) {
  const Bytes needed = total(wide_options());
  EXPECT_TRUE(plan(wide_options(), needed).fits());
  EXPECT_FALSE(plan(wide_options(), needed - 1_B).fits());
  Bytes sum;
  for (const PlanLine& line : plan(wide_options(), needed).engine.lines) sum += line.bytes;
  EXPECT_EQ(sum, needed);
}

TEST_F(RunPlanTest, NamesTheLargestAccount) {
  EXPECT_EQ(plan(wide_options(), 1_MiB).largest().account, account::kProcess);
  EngineOptions texts = wide_options();
  texts.text = 100_MiB;
  const RunPlan large = plan(texts, 64_MiB);
  EXPECT_EQ(large.largest().account, account::kText);
  EXPECT_EQ(large.largest().bytes, 100_MiB + kEncodeBytes);
}

TEST_F(RunPlanTest, EverySuggestionFitsAndSaysWhatItTakes) {
  const Bytes needed = total(wide_options());
  std::size_t seen = 0;
  for (Bytes limit = 10_MiB; limit < needed; limit += 200_KiB) {
    const auto list = suggestions(wide_options(), limit);
    EXPECT_LE(list.size(), 3u);
    for (const Suggestion& s : list) {
      EXPECT_EQ(total(applied(wide_options(), s.options)), s.total) << s.options;
      EXPECT_LE(s.total, limit) << s.options;
      ++seen;
    }
  }
  EXPECT_GT(seen, 10u);
}

// What costs the answer least comes first: a smaller piece of prompt costs time only, then the cache's precision, then
// context, then the weights' precision.
TEST_F(RunPlanTest, LeastLossComesFirst) {
  EngineOptions small_chunk = wide_options(), both = wide_options();
  small_chunk.session.prefill_chunk = 32;
  EngineOptions kv8 = small_chunk, tq3 = small_chunk;
  kv8.session.kv = ok(parse_kv_type("q8"));
  tq3.session.kv = ok(parse_kv_type("tq3"));
  both.session.prefill_chunk = 32;
  both.session.context = 2048;
  const auto options = [&](Bytes limit) {
    std::vector<std::string> out;
    for (const Suggestion& s : suggestions(wide_options(), limit)) out.push_back(s.options);
    out.resize(3);
    return out;
  };
  EXPECT_EQ(options(total(wide_options()) - 1_B)[0], "--prefill-chunk 32");
  EXPECT_EQ(options(total(wide_options()) - 1_B)[1], "--kv q8");
  EXPECT_EQ(options(total(small_chunk))[0], "--prefill-chunk 32");
  ASSERT_LT(total(kv8), total(small_chunk));
  EXPECT_EQ(options(total(kv8))[0], "--kv q8 --prefill-chunk 32");
  // With the weights as they are both ways out are named.
  ASSERT_LT(total(both), total(kv8));
  ASSERT_LT(total(tq3), total(both));
  const auto list = options(total(both));
  EXPECT_TRUE(list[0].starts_with("--kv tq")) << list[0];
  EXPECT_EQ(list[1], "--context 2048 --prefill-chunk 32");
  EXPECT_TRUE(list[2].starts_with("--weights q8")) << list[2];
  // What no cache makes fit costs context or precision of weights.
  const auto last = options(total(tq3) - 1_B);
  EXPECT_TRUE(last[0].starts_with("--context ")) << last[0];
  EXPECT_EQ(last[0].find("--kv"), std::string::npos) << last[0];
  EXPECT_NE(last[1].find("--weights q8"), std::string::npos) << last[1];
}

TEST_F(RunPlanTest, NeverSuggestsALargerCache) {
  EngineOptions tq4 = wide_options();
  tq4.session.kv = ok(parse_kv_type("tq4"));
  std::size_t seen = 0;
  for (Bytes limit = 10_MiB; limit < total(tq4); limit += 100_KiB) {
    for (const Suggestion& s : suggestions(tq4, limit)) {
      for (const char* larger : {"--kv fp", "--kv q8", "--kv tq4"}) {
        EXPECT_EQ(s.options.find(larger), std::string::npos) << s.options;
      }
      seen += s.options.find("--kv tq3") != std::string::npos;
    }
  }
  EXPECT_GT(seen, 0u);
}

// A type that cannot hold the model's vectors is no way out, and neither is one where every type has its cache.
TEST_F(RunPlanTest, OnlyCachesThatCanBe) {
  Config odd = wide_config();
  odd.num_heads = 2, odd.hidden_dim = 2 * 129;
  const EngineFolder narrow(odd, WeightFormat{.kind = WeightFormat::kFloat, .dtype = DType::kBF16});
  EngineOptions every = wide_options();
  every.more_kv = {ok(parse_kv_type("q8"))};
  const auto names_a_cache = [](const std::vector<Suggestion>& list) {
    return std::any_of(list.begin(), list.end(),
                       [](const Suggestion& s) { return s.options.find("--kv") != std::string::npos; });
  };
  const Bytes limit = total(wide_options()) - 1_B;
  EXPECT_TRUE(names_a_cache(suggestions(wide_options(), limit)));
  EXPECT_FALSE(names_a_cache(suggestions(every, limit)));
  EXPECT_FALSE(names_a_cache(ok(suggest(narrow.files(), &narrow.shape(), wide_options(), {limit, ""}))));
}

TEST_F(RunPlanTest, NeverSuggestsLargerWeights) {
  const EngineFolder q4(wide_config(), WeightFormat{.kind = WeightFormat::kAffine, .bits = 4, .group_size = 64});
  const Bytes needed = ok(plan_run(q4.files(), &q4.shape(), wide_options(), {1_GiB, ""})).total;
  std::size_t seen = 0;
  for (Bytes limit = 10_MiB; limit < needed; limit += 100_KiB) {
    for (const Suggestion& s : ok(suggest(q4.files(), &q4.shape(), wide_options(), {limit, ""}))) {
      for (const char* larger : {"q8", "q6", "q5", "q4", "bf16"}) {
        EXPECT_EQ(s.options.find(std::string("--weights ") + larger), std::string::npos) << s.options;
      }
      ++seen;
    }
  }
  EXPECT_GT(seen, 0u);
}

TEST_F(RunPlanTest, NothingFitsIntoLessThanTheProcess) {
  EXPECT_TRUE(suggestions(wide_options(), kProcessBytes).empty());
  const RunPlan none = plan(wide_options(), 1_MiB);
  EXPECT_EQ(refusal(none, {}),
            fmt::format(
                "needs {}, but the budget is 1.0 MiB (--memory-budget). The largest account is \"process\" with {}. No "
                "choice of --context, --weights, --kv and --prefill-chunk fits.",
                to_string(none.total), to_string(kProcessBytes)));
}

TEST_F(RunPlanTest, SpeaksOfTheCommandsOwnOption) {
  bool seen = false;
  for (Bytes limit = total(wide_options()) - 1_B; limit > kProcessBytes; limit = Bytes{limit.count * 9 / 10}) {
    const auto list = ok(suggest(folder().files(), &folder().shape(), wide_options(), {limit, ""}, "--window"));
    for (const Suggestion& s : list) {
      seen = seen || s.options.find("--window ") != std::string::npos;
      EXPECT_EQ(s.options.find("--context"), std::string::npos) << s.options;
    }
  }
  EXPECT_TRUE(seen);
  EXPECT_NE(refusal(plan(wide_options(), 1_MiB), {}, "--window").find("choice of --window, "), std::string::npos);
}

TEST_F(RunPlanTest, RefusalSaysWhatWouldFit) {
  const Bytes limit = total(wide_options()) - 1_B;
  const RunPlan refused = plan(wide_options(), limit);
  const auto list = suggestions(wide_options(), limit);
  ASSERT_FALSE(list.empty());
  const std::string text = refusal(refused, list);
  EXPECT_EQ(text.find(fmt::format(
                "needs {}, but the budget is {} (--memory-budget). The largest account is \"{}\" with {}. This "
                "would fit:\n  {}  ({})",
                to_string(refused.total), to_string(limit), refused.largest().account,
                to_string(refused.largest().bytes), list[0].options, to_string(list[0].total))),
            0u)
      << text;
  for (const Suggestion& s : list) EXPECT_NE(text.find("\n  " + s.options + "  ("), std::string::npos);
}

TEST(Budget, GivenOrWhatTheMachineSpares) {
  SystemMemory system{.physical = 16_GiB, .available = 8_GiB, .cgroup_limit = {}, .cgroup_spare = {}};
  EXPECT_EQ(decide_budget(3_GiB, system).limit, 3_GiB);
  EXPECT_EQ(decide_budget(3_GiB, system).source, "--memory-budget");
  EXPECT_EQ(decide_budget(100_GiB, system).limit, 100_GiB);  // the user's word counts
  EXPECT_EQ(decide_budget({}, system).limit, 8_GiB);
  EXPECT_EQ(decide_budget({}, system).source, "available memory");
  system.cgroup_limit = 4_GiB;
  system.cgroup_spare = 1_GiB;
  EXPECT_EQ(decide_budget({}, system).limit, 1_GiB);
  EXPECT_EQ(decide_budget({}, system).source, "control group limit");
}

}  // namespace
}  // namespace axon
