#include "generate/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "generate/tiny_engine_for_test.h"
#include "memory/no_allocation.h"

namespace axon {
namespace {

using namespace testing_model;

const std::vector<TokenId> kPrompt = some_ids(20);

struct Answer {
  GenerateResult result;
  std::string shown;  // pieces as they came, joined
  std::vector<std::string> pieces;
};

Answer answer(Engine& engine, const GenerateOptions& options,
              const std::function<bool(std::size_t pieces)>& cancel_after = {}) {
  engine.session().reset();
  EXPECT_TRUE(engine.session().prefill(kPrompt).ok());
  std::atomic<bool> cancel{false};
  Answer out;
  const auto on_text = [&](std::string_view text) {
    out.pieces.emplace_back(text);
    out.shown += text;
    if (cancel_after && cancel_after(out.pieces.size())) cancel = true;
  };
  out.result = generate(engine.session(), engine.sampler(), engine.tokenizer(), options, on_text, cancel);
  EXPECT_EQ(out.shown, out.result.text);
  return out;
}

// The best token of those that the tokenizer has, again and again.
std::vector<TokenId> greedy(Engine& engine, std::size_t count) {
  engine.session().reset();
  EXPECT_TRUE(engine.session().prefill(kPrompt).ok());
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < count; ++i) {
    const auto logits = engine.session().logits().first(kTokens);
    ids.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    engine.session().step(ids.back());
  }
  return ids;
}

GenerateOptions asked(std::size_t max_tokens, std::vector<std::string> stop = {}, std::vector<TokenId> stop_ids = {}) {
  return {.max_tokens = max_tokens, .stop = std::move(stop), .stop_ids = std::move(stop_ids)};
}

EngineOptions hot_options(std::uint64_t seed) {
  EngineOptions options = EngineFolder::small_options();
  options.sampling = {.temperature = 3.0f, .top_k = 0, .top_p = 1.0f, .seed = seed};
  return options;
}

TEST(Generate, GreedyAnswerIsTheBestTokenEachTime) {
  const EngineFolder folder;
  const auto engine = folder.create();
  const auto expected = greedy(*engine, 30);
  const Answer a = answer(*engine, asked(30));
  EXPECT_EQ(a.result.ids, expected);
  EXPECT_EQ(a.result.text, engine->tokenizer().decode(expected));
  EXPECT_EQ(a.result.reason, FinishReason::kLength);
  EXPECT_EQ(a.result.steps, 29u);
  EXPECT_TRUE(a.result.last_unread);
  EXPECT_EQ(engine->session().position(), kPrompt.size() + 29);
}

TEST(Generate, NoTokensAskedForIsNoWork) {
  const EngineFolder folder;
  const auto engine = folder.create();
  const Answer a = answer(*engine, asked(0));
  EXPECT_TRUE(a.result.ids.empty());
  EXPECT_EQ(a.result.text, "");
  EXPECT_EQ(a.result.reason, FinishReason::kLength);
  EXPECT_FALSE(a.result.last_unread);
  EXPECT_EQ(engine->session().position(), kPrompt.size());
}

TEST(Generate, StopTokenEndsAndIsNotPartOfTheAnswer) {
  const EngineFolder folder;
  const auto engine = folder.create(hot_options(1));
  const Answer all = answer(*engine, asked(40));
  ASSERT_EQ(all.result.ids.size(), 40u);
  const TokenId stop = all.result.ids[25];
  const auto first =
      static_cast<std::size_t>(std::find(all.result.ids.begin(), all.result.ids.end(), stop) - all.result.ids.begin());
  const auto again = folder.create(hot_options(1));  // the same stream of draws
  const Answer a = answer(*again, asked(40, {}, {1000, stop}));
  EXPECT_EQ(a.result.ids,
            std::vector<TokenId>(all.result.ids.begin(), all.result.ids.begin() + static_cast<std::ptrdiff_t>(first)));
  EXPECT_EQ(a.result.reason, FinishReason::kStop);
  EXPECT_FALSE(a.result.last_unread);
  EXPECT_EQ(again->session().position(), kPrompt.size() + first);
}

TEST(Generate, StopTextEndsBeforeIt) {
  const EngineFolder folder;
  const Answer all = answer(*folder.create(hot_options(2)), asked(60));
  const std::string text = all.result.text;
  ASSERT_GT(text.size(), 40u);
  for (const std::size_t length : {1u, 2u, 5u}) {
    const std::string stop = text.substr(30, length);
    const Answer a = answer(*folder.create(hot_options(2)), asked(60, {"never to be seen", stop}));
    EXPECT_EQ(a.result.text, text.substr(0, text.find(stop)));
    EXPECT_EQ(a.result.reason, FinishReason::kStop);
    EXPECT_TRUE(a.result.last_unread);
  }
}

// Pieces are whole characters, and together they are the text.
TEST(Generate, PiecesAreWholeCharacters) {
  const EngineFolder folder;
  std::size_t replaced = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto engine = folder.create(hot_options(seed));
    const Answer a = answer(*engine, asked(150));
    EXPECT_EQ(a.result.text, engine->tokenizer().decode(a.result.ids));
    for (const std::string& piece : a.pieces) {
      ASSERT_FALSE(piece.empty());
      EXPECT_NE(static_cast<unsigned char>(piece[0]) & 0xC0u, 0x80u);  // no piece begins inside a character
      replaced += piece.find("\xEF\xBF\xBD") != std::string::npos ? 1u : 0u;
    }
  }
  EXPECT_GT(replaced, 0u);  // random bytes are seldom UTF-8, so this was tried
}

TEST(Generate, NeverDrawsAnIdThatTheTokenizerLacks) {
  const EngineFolder folder;
  EngineOptions options = hot_options(7);
  options.sampling.temperature = 1000.0f;  // all rows alike
  const auto engine = folder.create(options);
  std::size_t special = 0;
  for (int i = 0; i < 5; ++i) {
    const Answer a = answer(*engine, asked(180));
    for (const TokenId id : a.result.ids) {
      EXPECT_LT(id, kTokens);
      special += id >= kImEnd ? 1u : 0u;
    }
  }
  EXPECT_GT(special, 0u);  // the last ids are within reach
}

TEST(Generate, SpecialTokensShowOnlyWhenAsked) {
  const EngineFolder folder;
  EngineOptions options = hot_options(7);
  options.sampling.temperature = 1000.0f;
  std::string hidden, shown;
  for (int i = 0; i < 2; ++i) {
    const auto engine = folder.create(options);
    GenerateOptions what = asked(180);
    what.show_special = i == 1;
    for (int n = 0; n < 5; ++n) (i == 0 ? hidden : shown) += answer(*engine, what).shown;
  }
  EXPECT_EQ(hidden.find("<|"), std::string::npos);
  EXPECT_NE(shown.find("<|"), std::string::npos);
}

TEST(Generate, RepetitionPenaltyCountsTheAnswer) {
  const EngineFolder folder;
  EngineOptions options = EngineFolder::small_options();
  options.sampling.repetition_penalty = 1e6f;  // greedy, but what came before is as good as forbidden
  const auto engine = folder.create(options);
  const Answer a = answer(*engine, asked(100));
  EXPECT_EQ(std::set<TokenId>(a.result.ids.begin(), a.result.ids.end()).size(), 100u);
}

TEST(Generate, CancelKeepsWhatCame) {
  const EngineFolder folder;
  const auto engine = folder.create(hot_options(3));
  const Answer all = answer(*engine, asked(60));
  const auto again = folder.create(hot_options(3));
  const Answer a = answer(*again, asked(60), [](std::size_t pieces) { return pieces == 10; });
  EXPECT_EQ(a.result.reason, FinishReason::kCancelled);
  EXPECT_LT(a.result.ids.size(), 60u);
  EXPECT_EQ(all.result.text.find(a.result.text.substr(0, 10)), 0u);
  EXPECT_TRUE(a.result.last_unread);
  EXPECT_EQ(again->session().position(), kPrompt.size() + a.result.ids.size() - 1);
}

// Every other test here runs with the allocation hooks linked, so a loop that allocates would not come through; this
// one shows that the hooks are there.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define AXON_NO_HOOKS 1
#endif
#endif
#if !defined(AXON_NO_HOOKS)
TEST(NoAllocationDeathTest, AllocatingInsideAborts) {
  EXPECT_DEATH(
      {
        const NoAllocation sealed;
        std::string text(1000, 'x');
        std::fputs(text.c_str(), stderr);
      },
      "1001 bytes were allocated where nothing may be");
  const std::string fine(1000, 'x');
  EXPECT_EQ(fine.size(), 1000u);
}
#endif

TEST(Generate, ReasonsHaveNames) {
  EXPECT_EQ(name_of(FinishReason::kStop), "stop");
  EXPECT_EQ(name_of(FinishReason::kLength), "length");
  EXPECT_EQ(name_of(FinishReason::kCancelled), "cancelled");
}

}  // namespace
}  // namespace axon
