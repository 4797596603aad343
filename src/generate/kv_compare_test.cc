// Comparing KV types: the measures are what they are said to be, and the walk is score_windows'.

#include "generate/kv_compare.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "generate/tiny_engine_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

constexpr std::size_t kWindow = 150, kWindows = 2;

KvType type(std::string_view name) { return ok(parse_kv_type(name)); }

// fp16 and others beside it, with a window that outlasts the int8 tail, so that codes are read.
EngineOptions options_with(std::initializer_list<std::string_view> others) {
  EngineOptions options = EngineFolder::small_options();
  options.session.prefill_chunk = 8;
  options.session.logits_rows = 3;
  options.session.kv = type("fp16");
  for (const std::string_view name : others) options.more_kv.push_back(type(name));
  return options;
}

const EngineFolder& folder() {
  static const EngineFolder out = [] {
    Config config = engine_config();
    config.swa_window_size = 100;
    return EngineFolder(config);
  }();
  return out;
}

std::vector<KvScore> compare(Engine& engine, const std::vector<std::uint32_t>& ids,
                             const std::function<bool(std::size_t, std::size_t)>& progress = {}) {
  std::vector<Session*> sessions;
  for (std::size_t i = 0; i < engine.sessions(); ++i) sessions.push_back(&engine.session(i));
  return ok(compare_kv(sessions, engine.device(), ids, kWindow, kWindows, progress));
}

TEST(RunningMean, IsTheTextbooks) {
  RunningMean mean;
  EXPECT_EQ(mean.standard_error(), 0.0);
  for (const double x : {1e9 + 1, 1e9 + 2, 1e9 + 6}) mean.add(x);
  EXPECT_EQ(mean.count(), 3u);
  EXPECT_DOUBLE_EQ(mean.mean(), 1e9 + 3);
  EXPECT_NEAR(mean.standard_error(), std::sqrt((4.0 + 1.0 + 9.0) / 2 / 3), 1e-6);
}

TEST(ReferenceRow, DivergenceByHand) {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): sum p log(p / q) = log(2) / 2 - log(2) / 4.
  const auto log_of = [](double x) { return static_cast<float>(std::log(x)); };
  const std::array<float, 3> p = {log_of(4), log_of(2), log_of(2)},
                             q = {log_of(1) + 50, log_of(1) + 50, log_of(2) + 50};
  ReferenceRow row(3);
  row.set(p);
  EXPECT_EQ(row.best(), 0u);
  EXPECT_NEAR(row.log_sum(), std::log(8.0), 1e-6);
  EXPECT_NEAR(log_sum_exp(q), 50 + std::log(4.0), 1e-5);
  EXPECT_NEAR(row.kld(q, log_sum_exp(q)), std::log(2.0) / 4, 1e-5);
  EXPECT_EQ(row.kld(p, log_sum_exp(p)), 0.0);
  row.set(q);
  EXPECT_NEAR(row.kld(p, log_sum_exp(p)), std::log(2.0) / 4, 1e-5);
  EXPECT_EQ(row.best(), 2u);
}

TEST(ReferenceRow, LogitsOfAnySize) {
  const std::array<float, 2> large = {1e6f, 1e6f}, small = {-1e6f, -1e6f}, apart = {1000.0f, 0.0f};
  EXPECT_NEAR(log_sum_exp(large), 1e6 + std::log(2.0), 1e-9);
  ReferenceRow row(2);
  row.set(large);
  EXPECT_EQ(row.kld(small, log_sum_exp(small)), 0.0);
  row.set(apart);
  EXPECT_NEAR(row.kld(large, log_sum_exp(large)), std::log(2.0), 1e-9);
}

TEST(Quantile, NoMoreThanTheShareIsAbove) {
  std::vector<float> numbers(1000);
  std::iota(numbers.rbegin(), numbers.rend(), 1.0f);  // 1000 .. 1
  EXPECT_EQ(quantile(numbers, 0.999), 999.0);
  EXPECT_EQ(quantile(numbers, 0.5), 500.0);
  EXPECT_EQ(quantile(numbers, 1.0), 1000.0);
  EXPECT_EQ(quantile(numbers, 0.0), 1.0);
  EXPECT_EQ(quantile(std::span(numbers).first(1), 0.999), quantile(std::span(numbers).first(1), 0.0));
  EXPECT_EQ(quantile({}, 0.999), 0.0);
}

TEST(KvCompare, ATypeAgainstItselfDiffersInNothing) {
  const auto engine = ok(folder().create(options_with({"fp16"}), 1_GiB));
  for (const KvScore& score : compare(*engine, some_ids(kWindow * kWindows + 1))) {
    EXPECT_EQ(score.kld.mean(), 0.0);
    EXPECT_EQ(score.kld_largest, 0.0);
    EXPECT_EQ(score.kld_999, 0.0);
    EXPECT_EQ(score.top1_agreement, 1.0);
    EXPECT_EQ(score.nll_difference.mean(), 0.0);
    EXPECT_EQ(score.perplexity_ratio(), 1.0);
    EXPECT_EQ(score.kld.count(), kWindow * kWindows);
  }
}

TEST(KvCompare, EachTypeScoresAsItDoesAlone) {
  const std::initializer_list<std::string_view> names = {"q8", "tq4", "tq3"};
  const auto ids = some_ids(kWindow * kWindows + 1);
  const auto engine = ok(folder().create(options_with(names), 1_GiB));
  std::size_t last = 0;
  const auto scores = compare(*engine, ids, [&](std::size_t done, std::size_t total) {
    EXPECT_GT(done, last);
    EXPECT_EQ(total, kWindow * kWindows);
    last = done;
    return true;
  });
  EXPECT_EQ(last, kWindow * kWindows);
  ASSERT_EQ(scores.size(), 4u);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    SCOPED_TRACE(scores[i].type.name());
    EngineOptions alone = options_with({});
    alone.session.kv = i == 0 ? type("fp16") : type(names.begin()[i - 1]);
    EXPECT_EQ(scores[i].type, *alone.session.kv);
    const auto single = ok(folder().create(alone, 1_GiB));
    const Score score = ok(score_windows(single->session(), ids, kWindow, kWindows, {}));
    EXPECT_EQ(scores[i].nll.mean(), score.mean_nll);
    EXPECT_EQ(scores[i].nll.standard_error(), score.standard_error);
    EXPECT_EQ(scores[i].kv, single->ledger().used(account::kKvCache));
    EXPECT_NEAR(scores[i].nll_difference.mean(), score.mean_nll - scores[0].nll.mean(), 1e-12);
    EXPECT_NEAR(scores[i].perplexity() / scores[0].perplexity(), scores[i].perplexity_ratio(), 1e-12);
    EXPECT_GT(scores[i].work.of(cpu::Verb::kAttend), 0.0);
    EXPECT_GT(scores[i].work.of(cpu::Verb::kAppend), 0.0);
    EXPECT_EQ(scores[i].work.of(cpu::Verb::kRotate) > 0.0, i >= 2) << "q8 and floats are not rotated";
  }
}

TEST(KvCompare, FewerBitsDivergeMore) {
  const auto engine = ok(folder().create(options_with({"q8", "tq4", "tq3"}), 1_GiB));
  const auto scores = compare(*engine, some_ids(kWindow * kWindows + 1));
  for (std::size_t i = 1; i < scores.size(); ++i) {
    EXPECT_GT(scores[i].kld.mean(), scores[i - 1].kld.mean()) << scores[i].type.name();
    EXPECT_LE(scores[i].kld.mean(), scores[i].kld_999);
    EXPECT_LE(scores[i].kld_999, scores[i].kld_largest * (1 + 1e-6));  // kept as a float
    EXPECT_LE(scores[i].top1_agreement, 1.0);
    EXPECT_LT(scores[i].kv, scores[0].kv);
  }
}

TEST(KvCompare, TextAndInterruption) {
  const auto engine = ok(folder().create(options_with({"q8"}), 1_GiB));
  const auto ids = some_ids(kWindow * kWindows);
  const std::array<Session*, 2> sessions = {&engine->session(0), &engine->session(1)};
  EXPECT_FALSE(compare_kv(sessions, engine->device(), ids, kWindow, kWindows, {}).ok());
  EXPECT_FALSE(compare_kv(sessions, engine->device(), {}, kWindow, 0, {}).ok());
  std::size_t calls = 0;
  const auto cancelled =
      compare_kv(sessions, engine->device(), ids, kWindow, 1, [&](std::size_t, std::size_t) { return ++calls < 3; });
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(calls, 3u) << "within a window, not after it";
}

}  // namespace
}  // namespace axon
