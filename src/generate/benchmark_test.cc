// The benchmark: what is measured follows from the options, and every figure is what it is said to be.

#include "generate/benchmark.h"

#include <gtest/gtest.h>

#include <cmath>

#include "generate/made_up_past.h"
#include "generate/tiny_engine_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

TEST(Spread, PlacesBetweenNumbers) {
  const Spread five = spread_of({5, 1, 4, 2, 3});
  EXPECT_EQ(five.count, 5u);
  EXPECT_EQ(five.min, 1);
  EXPECT_EQ(five.lower_quartile, 2);
  EXPECT_EQ(five.median, 3);
  EXPECT_EQ(five.upper_quartile, 4);
  EXPECT_EQ(five.max, 5);
  const Spread two = spread_of({10, 20});
  EXPECT_DOUBLE_EQ(two.median, 15);
  EXPECT_DOUBLE_EQ(two.lower_quartile, 12.5);
  EXPECT_DOUBLE_EQ(two.upper_quartile, 17.5);
  EXPECT_EQ(spread_of({7}).median, 7);
  EXPECT_EQ(spread_of({}).count, 0u);
  EXPECT_EQ(spread_of({}).median, 0);
}

TEST(BenchmarkCases, FollowFromTheLists) {
  const auto cases = ok(benchmark_cases({.prefill = {16, 100}, .depth = {0, 90, 100}, .decode = 20}, 100));
  ASSERT_EQ(cases.size(), 5u);
  EXPECT_EQ(cases[1].name(), "prefill 100");
  EXPECT_EQ(cases[1].turns(), 1u);
  EXPECT_EQ(cases[1].context(), 100u);
  EXPECT_EQ(cases[2].start, 0u);
  EXPECT_EQ(cases[2].context(), 20u);
  EXPECT_EQ(cases[2].turns(), 3u) << "8, 8 and 4 tokens";
  EXPECT_EQ(cases[3].name(), "decode at 90");
  EXPECT_EQ(cases[3].start, 80u) << "so that the last token is the last that fits";
  EXPECT_EQ(cases[4].start, 80u);
  EXPECT_EQ(context_of(cases), 100u);
  EXPECT_EQ(context_of(std::span(cases).subspan(2, 1)), 20u);
}

TEST(BenchmarkCases, WhatIsTooLongIsNamed) {
  const auto refused = [](const BenchmarkLists& lists, const char* words) {
    const auto found = benchmark_cases(lists, 100);
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(found.error().message, words);
  };
  refused({.prefill = {101}, .depth = {}, .decode = 8}, "--prefill 101 is more than the model's max_seq_len 100");
  refused({.prefill = {}, .depth = {0, 101}, .decode = 8}, "--depth 101 is more than the model's max_seq_len 100");
  refused({.prefill = {}, .depth = {0}, .decode = 101}, "--decode 101 is more than the model's max_seq_len 100");
  EXPECT_TRUE(benchmark_cases({.prefill = {100}, .depth = {}, .decode = 101}, 100).ok()) << "nothing is decoded";
  std::vector<std::size_t> lengths = {4, 200, 100, 101};
  EXPECT_EQ(leave_out_longer(lengths, 100), (std::vector<std::size_t>{200, 101}));
  EXPECT_EQ(lengths, (std::vector<std::size_t>{4, 100}));
}

// 2 s, 1 s of them in products; 300 operations in int8 at 1000 a second, 80 in fp32 at 100: 1.1 s at best.
BenchmarkTurn some_turn() {
  BenchmarkTurn turn;
  turn.tokens = 10;
  turn.seconds = 2;
  turn.work.of(cpu::Verb::kMatmul) = 1.5;
  turn.work.of(cpu::Verb::kScan) = 0.25;
  turn.work.int8_ops = 300;
  turn.work.fp32_flops = 80;
  turn.work.weight_bytes = 60;
  turn.work.kv_bytes = 30;
  turn.work.state_bytes = 10;
  turn.ceilings.of(Ceiling::kInt8) = 1000;
  turn.ceilings.of(Ceiling::kFp32) = 100;
  turn.ceilings.of(Ceiling::kRead) = 200;
  return turn;
}

TEST(BenchmarkTurn, SharesByHand) {
  BenchmarkTurn turn = some_turn();
  EXPECT_DOUBLE_EQ(turn.tokens_per_second(), 5);
  EXPECT_DOUBLE_EQ(turn.ideal_seconds().value(), 1.1);
  EXPECT_DOUBLE_EQ(turn.matmul_share().value(), 1.1 / 1.5);
  EXPECT_DOUBLE_EQ(turn.compute_share().value(), 0.55);
  EXPECT_DOUBLE_EQ(turn.weights_share().value(), 0.15);
  EXPECT_DOUBLE_EQ(turn.bytes_share().value(), 0.25);
  turn.ceilings.of(Ceiling::kFp32) = 0;
  EXPECT_FALSE(turn.ideal_seconds().has_value()) << "there are such operations, and no ceiling";
  EXPECT_FALSE(turn.compute_share().has_value());
  turn.work.fp32_flops = 0;
  EXPECT_DOUBLE_EQ(turn.ideal_seconds().value(), 0.3);
  turn.ceilings.of(Ceiling::kRead) = 0;
  EXPECT_FALSE(turn.weights_share().has_value());
  EXPECT_FALSE(turn.bytes_share().has_value());
}

TEST(BenchmarkCaseResult, PartsAreOfAPromptOrAToken) {
  BenchmarkCaseResult result{.what = {.kind = BenchmarkCase::kPrefill, .tokens = 10},
                             .turns = {some_turn(), some_turn()}};
  EXPECT_EQ(result.sum().tokens, 20u);
  EXPECT_EQ(result.units(), 2);
  EXPECT_DOUBLE_EQ(result.seconds_of(cpu::Verb::kMatmul), 1.5);
  EXPECT_DOUBLE_EQ(result.seconds_outside(), 0.25);
  result.what.kind = BenchmarkCase::kDecode;
  EXPECT_EQ(result.units(), 20);
  EXPECT_DOUBLE_EQ(result.seconds_of(cpu::Verb::kMatmul), 0.15);
  EXPECT_DOUBLE_EQ(result.seconds_outside(), 0.025);
}

TEST(BenchmarkCaseResult, RatiosArePaired) {
  // Both become four times slower meanwhile; the first is always twice as fast as the second.
  BenchmarkCaseResult first, second;
  for (const double seconds : {1.0, 2.0, 4.0}) {
    first.turns.push_back({.tokens = 8, .seconds = seconds});
    second.turns.push_back({.tokens = 8, .seconds = 2 * seconds});
  }
  const Spread ratio = paired_ratio(first, second);
  EXPECT_EQ(ratio.count, 3u);
  EXPECT_DOUBLE_EQ(ratio.min, 2);
  EXPECT_DOUBLE_EQ(ratio.max, 2);
}

EngineOptions options_for(std::span<const BenchmarkCase> cases) {
  EngineOptions options = EngineFolder::small_options();
  options.session.arithmetic = Arithmetic::kFast;
  options.session.context = context_of(cases);
  options.more_kv.push_back(ok(parse_kv_type("q8")));
  return options;
}

TEST(RunBenchmark, MeasuresEveryCaseOfEverySubject) {
  const EngineFolder folder(engine_config(), ok(parse_weight_format("q8")));
  const auto cases = ok(benchmark_cases({.prefill = {70}, .depth = {0, 40}, .decode = 12}, 100));
  const auto engine = ok(folder.create(options_for(cases), 1_GiB));
  const std::array<BenchmarkSubject, 2> subjects = {BenchmarkSubject{engine.get(), 0}, {engine.get(), 1}};
  double last = -1;
  const BenchmarkResult result = ok(run_benchmark(subjects, cases, 3, [&](double done, const BenchmarkCase&) {
    EXPECT_LE(done, 1);
    last = done;
    return true;
  }));
  EXPECT_GT(last, 0.5);
  ASSERT_EQ(result.subjects.size(), 2u);
  EXPECT_EQ(result.read_memory.count, engine->model().largest_block().size());
  EXPECT_FALSE(result.read_way.empty());
  for (const Ceiling c : {Ceiling::kRead, Ceiling::kInt8, Ceiling::kFp32}) {
    EXPECT_GE(result.ceilings[static_cast<std::size_t>(c)].count, 3u) << name_of(c);
  }
  for (const auto& of_subject : result.subjects) {
    ASSERT_EQ(of_subject.size(), 3u);
    ASSERT_EQ(of_subject[0].turns.size(), 3u);
    ASSERT_EQ(of_subject[1].turns.size(), 6u) << "8 and 4 tokens, three times";
    for (const BenchmarkCaseResult& r : of_subject) {
      SCOPED_TRACE(r.what.name());
      for (const BenchmarkTurn& turn : r.turns) {
        EXPECT_GT(turn.seconds, 0);
        EXPECT_GE(turn.seconds, turn.work.total());
        const bool prefill = r.what.kind == BenchmarkCase::kPrefill;
        EXPECT_EQ(turn.compute_share().has_value(), prefill);
        EXPECT_EQ(turn.bytes_share().has_value(), !prefill);
        EXPECT_GT(turn.work.weight_bytes, 0u);
      }
      EXPECT_EQ(r.sum().tokens, 3 * r.what.tokens);
    }
    EXPECT_EQ(of_subject[1].turns[0].tokens, 8u);
    EXPECT_EQ(of_subject[1].turns[1].tokens, 4u);
    EXPECT_GT(of_subject[2].sum().work.kv_bytes, of_subject[1].sum().work.kv_bytes) << "behind 40 more is seen";
  }
}

TEST(RunBenchmark, StopsWhenToldTo) {
  const EngineFolder folder;
  const auto cases = ok(benchmark_cases({.prefill = {70}, .depth = {0}, .decode = 12}, 100));
  const auto engine = ok(folder.create(options_for(cases), 1_GiB));
  const BenchmarkSubject subject{engine.get(), 0};
  for (const std::size_t stop_at : {std::size_t{1}, std::size_t{2}, std::size_t{7}}) {
    std::size_t calls = 0;
    const auto stopped = run_benchmark(std::span(&subject, 1), cases, 3,
                                       [&](double, const BenchmarkCase&) { return ++calls < stop_at; });
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
    EXPECT_EQ(calls, stop_at);
  }
}

TEST(MadeUpPast, IsFiniteInEveryType) {
  Config config = engine_config();
  config.swa_window_size = 48;
  const EngineFolder folder(config);
  EngineOptions options = EngineFolder::small_options();
  options.session.kv = ok(parse_kv_type("fp32"));
  for (const KvType& type : kv_types()) options.more_kv.push_back(type);
  const auto engine = ok(folder.create(options, 1_GiB));
  for (std::size_t i = 0; i < engine->sessions(); ++i) {
    Session& session = engine->session(i);
    for (const std::size_t depth : {std::size_t{150}, std::size_t{0}, std::size_t{37}}) {
      SCOPED_TRACE(fmt::format("{} behind {}", session.options().kv_type().name(), depth));
      make_up_past(session.state(), depth, engine->device().pool());
      EXPECT_EQ(session.position(), depth);
      for (std::uint32_t id = 0; id < 20; ++id) {
        session.step(id);
        for (const float logit : session.logits()) ASSERT_TRUE(std::isfinite(logit));
      }
      EXPECT_EQ(session.position(), depth + 20);
    }
  }
}

}  // namespace
}  // namespace axon
