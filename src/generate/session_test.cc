#include "generate/session.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "generate/score.h"
#include "generate/tiny_engine_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

std::vector<float> logits_after(Session& session, std::span<const std::uint32_t> ids) {
  EXPECT_TRUE(session.prefill(ids).ok());
  const auto row = session.logits();
  return {row.begin(), row.end()};
}

TEST(Session, ResetEqualsAFreshSession) {
  const EngineFolder folder;
  const auto engine = folder.create();
  const auto ids = some_ids(60), other = some_ids(90, 256, 8);
  const auto fresh = logits_after(engine->session(), ids);
  for (const std::size_t before : {1u, 5u, 90u}) {
    engine->session().reset();
    logits_after(engine->session(), std::span(other).first(before));
    engine->session().step(3);
    engine->session().reset();
    EXPECT_EQ(engine->session().position(), 0u);
    EXPECT_EQ(logits_after(engine->session(), ids), fresh);  // to the bit: the same work from the same state
  }
}

TEST(SessionDeathTest, ThereAreNoLogitsBeforeTheFirstToken) {
  const EngineFolder folder;
  const auto engine = folder.create();
  EXPECT_DEATH(engine->session().logits(), "last_ >= 1");
}

TEST(Session, PieceSizeDoesNotMatter) {
  const EngineFolder folder;
  const auto ids = some_ids(70);
  std::vector<float> expected;
  for (const std::size_t chunk : {70u, 256u, 1u, 7u, 8u, 9u, 33u}) {
    EngineOptions options = EngineFolder::small_options();
    options.session.prefill_chunk = chunk;
    const auto engine = folder.create(options);
    const auto logits = logits_after(engine->session(), ids);
    if (expected.empty()) expected = logits;
    EXPECT_LE(difference(logits, expected), 1e-5) << chunk;
  }
}

TEST(Session, FollowUpTurnsNeedOnlyWhatIsNew) {
  const EngineFolder folder;
  const auto engine = folder.create();
  Session& session = engine->session();
  const auto ids = some_ids(80);
  const auto whole = logits_after(session, ids);
  EXPECT_TRUE(rc::check("prefill and step in any order", [&] {
    session.reset();
    for (std::size_t at = 0; at < ids.size();) {
      const std::size_t n = std::min(*rc::gen::inRange<std::size_t>(1, 50), ids.size() - at);
      if (n == 1) {
        session.step(ids[at]);
      } else {
        RC_ASSERT(session.prefill(std::span(ids).subspan(at, n)).ok());
      }
      at += n;
      RC_ASSERT(session.position() == at);
      RC_ASSERT(session.room() == 200 - at);
    }
    RC_ASSERT(difference(session.logits(), whole) <= 1e-5);
  }));
}

TEST(Session, RefusesWhatDoesNotFitWithBothNumbers) {
  const EngineFolder folder;
  const auto engine = folder.create();
  Session& session = engine->session();
  const auto ids = some_ids(201);
  const auto too_long = session.prefill(ids);
  ASSERT_FALSE(too_long.ok());
  EXPECT_EQ(too_long.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(too_long.error().message, "201 tokens do not fit: 0 of the context of 200 are taken");
  EXPECT_EQ(session.position(), 0u);  // nothing was cut and read
  EXPECT_TRUE(session.prefill(std::span(ids).first(150)).ok());
  const auto second = session.prefill(std::span(ids).first(51));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().message, "51 tokens do not fit: 150 of the context of 200 are taken");
  EXPECT_EQ(session.position(), 150u);
  EXPECT_TRUE(session.prefill(std::span(ids).first(50)).ok());
  EXPECT_EQ(session.room(), 0u);
}

TEST(Session, RefusesIdsOutsideTheVocabulary) {
  const EngineFolder folder;
  const auto engine = folder.create();
  const std::vector<std::uint32_t> ids = {1, 299, 300};
  const auto refused = engine->session().prefill(ids);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "token 2 is 300, but the vocabulary has 300");
  EXPECT_EQ(engine->session().position(), 0u);
  EXPECT_TRUE(engine->session().prefill(std::span(ids).first(2)).ok());
}

TEST(Session, InterruptionKeepsWhatWasRead) {
  const EngineFolder folder;
  const auto engine = folder.create();
  Session& session = engine->session();
  const auto ids = some_ids(100);
  std::size_t read = 99;
  const auto progress = [](std::size_t done, std::size_t total) { return done < 64 && total == 100; };
  const auto stopped = session.prefill(ids, progress, &read);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(read, 64u);
  EXPECT_EQ(session.position(), 64u);
  const auto logits = logits_after(session, std::span(ids).subspan(64));
  session.reset();
  EXPECT_LE(difference(logits, logits_after(session, ids)), 1e-5);
}

// -log softmax of every next token, window by window, token by token.
double naive_nll(Session& session, std::span<const std::uint32_t> ids, std::size_t window, std::size_t windows) {
  double sum = 0;
  for (std::size_t w = 0; w < windows; ++w) {
    session.reset();
    for (std::size_t i = 0; i < window; ++i) {
      session.step(ids[w * window + i]);
      const auto logits = session.logits();
      double total = 0;
      for (const float l : logits) total += std::exp(double{l});
      sum += std::log(total) - double{logits[ids[w * window + i + 1]]};
    }
  }
  return sum / static_cast<double>(window * windows);
}

TEST(Score, EqualsTheNaiveComputation) {
  const EngineFolder folder;
  const auto ids = some_ids(121);
  for (const std::size_t rows : {1u, 5u, 32u}) {
    EngineOptions options = EngineFolder::small_options();
    options.session.logits_rows = rows;
    const auto engine = folder.create(options);
    std::size_t calls = 0;
    const auto progress = [&](std::size_t done, std::size_t total) { return done == ++calls && done <= total; };
    for (const auto& [window, windows] : {std::pair<std::size_t, std::size_t>{40, 3}, {33, 2}, {120, 1}, {1, 5}}) {
      calls = 0;
      const Score score = ok(score_windows(engine->session(), ids, window, windows, progress));
      EXPECT_EQ(calls, windows);
      EXPECT_EQ(score.tokens, window * windows);
      EXPECT_NEAR(score.mean_nll, naive_nll(engine->session(), ids, window, windows), 1e-5);
      EXPECT_GT(score.standard_error, 0.0);
    }
    calls = 0;
    EXPECT_EQ(ok(score_windows(engine->session(), ids, 50, 0, progress)).tokens, 100u);  // all there are
  }
}

TEST(Score, RefusesTooLittleText) {
  const EngineFolder folder;
  const auto engine = folder.create();
  const auto ids = some_ids(80);
  const auto message = [&](std::size_t count, std::size_t window, std::size_t windows) {
    const auto score = score_windows(engine->session(), std::span(ids).first(count), window, windows, {});
    return score.ok() ? std::string() : score.error().message;
  };
  EXPECT_EQ(message(40, 40, 0), "the text has 40 tokens, but one window of 40 needs 41");
  EXPECT_EQ(message(41, 40, 0), "");
  EXPECT_EQ(message(80, 40, 2), "the text has 80 tokens, enough for 1 windows of 40, but 2 were asked for");
  EXPECT_FALSE(message(80, 0, 0).empty());
  EXPECT_FALSE(message(0, 1, 0).empty());
  const auto cancelled =
      score_windows(engine->session(), ids, 10, 5, [](std::size_t done, std::size_t) { return done < 2; });
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace axon
