#include "generate/sampler.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

namespace axon {
namespace {

// A sampler with its memory.
class Made {
 public:
  Made(const SamplingOptions& options, std::size_t vocab) {
    Carver measure;
    Sampler(options, vocab, measure);
    arena_ = Arena::create(ledger_, account::kLogits, measure.peak()).value();
    Carver carver = arena_.carver();
    sampler_ = std::make_unique<Sampler>(options, vocab, carver);
  }
  std::uint32_t draw(std::vector<float> logits) { return sampler_->sample(logits); }
  void note(std::vector<std::uint32_t> ids) { sampler_->note(ids); }
  std::uint64_t draws() const { return sampler_->draws(); }

 private:
  Ledger ledger_{64_MiB};
  Arena arena_;
  std::unique_ptr<Sampler> sampler_;
};

// Everything off.
SamplingOptions plain() {
  return {.temperature = 1.0f, .top_k = 0, .top_p = 1.0f, .min_p = 0.0f, .repetition_penalty = 1.0f, .seed = 1};
}

std::set<std::uint32_t> drawn(const SamplingOptions& options, const std::vector<float>& logits,
                              std::size_t draws = 3000) {
  Made sampler(options, logits.size());
  std::set<std::uint32_t> out;
  for (std::size_t i = 0; i < draws; ++i) out.insert(sampler.draw(logits));
  return out;
}

using Ids = std::set<std::uint32_t>;

TEST(Sampler, TemperatureZeroTakesTheLowestOfTheBest) {
  SamplingOptions options = plain();
  options.temperature = 0.0f;
  options.top_k = 1;
  EXPECT_EQ(drawn(options, {1, 3, 2, 3, -1}, 10), (Ids{1}));
  EXPECT_EQ(drawn(options, {0, 0, 0}, 10), (Ids{0}));
  EXPECT_EQ(drawn(options, {-5, -4, -4}, 10), (Ids{1}));
}

TEST(Sampler, TopKKeepsTies) {
  SamplingOptions options = plain();
  options.top_k = 2;
  EXPECT_EQ(drawn(options, {1, 3, 2, 0}), (Ids{1, 2}));
  EXPECT_EQ(drawn(options, {1, 3, 2, 2, 0, 2}), (Ids{1, 2, 3, 5}));
  options.top_k = 100;  // more than there are
  EXPECT_EQ(drawn(options, {1, 1, 2}), (Ids{0, 1, 2}));
  options.top_k = 1;
  EXPECT_EQ(drawn(options, {1, 1, 1, 0}), (Ids{0, 1, 2}));
}

TEST(Sampler, TopPKeepsTheTokenThatCrosses) {
  SamplingOptions options = plain();
  const auto log = [](std::vector<float> p) {
    for (float& v : p) v = std::log(v);
    return p;
  };
  options.top_p = 0.6f;
  EXPECT_EQ(drawn(options, log({0.1f, 0.5f, 0.3f, 0.1f})), (Ids{1, 2}));
  options.top_p = 0.45f;
  EXPECT_EQ(drawn(options, log({0.1f, 0.5f, 0.3f, 0.1f})), (Ids{1}));
  options.top_p = 0.85f;  // the third crosses, and its tie stays
  EXPECT_EQ(drawn(options, log({0.1f, 0.5f, 0.3f, 0.1f})), (Ids{0, 1, 2, 3}));
  options.top_p = 0.0f;
  EXPECT_EQ(drawn(options, log({0.1f, 0.5f, 0.3f, 0.1f})), (Ids{1}));
  EXPECT_EQ(drawn(options, log({0.4f, 0.2f, 0.4f})), (Ids{0, 2}));
}

TEST(Sampler, MinPDropsBelowAShareOfTheBest) {
  SamplingOptions options = plain();
  options.min_p = 0.5f;
  EXPECT_EQ(drawn(options, {std::log(0.4f), std::log(0.3f), std::log(0.19f), std::log(0.11f)}), (Ids{0, 1}));
  options.min_p = 1.0f;
  EXPECT_EQ(drawn(options, {1, 2, 2, 0}), (Ids{1, 2}));
}

TEST(Sampler, RepetitionPenaltyPushesBothSignsDown) {
  SamplingOptions options = plain();
  options.temperature = 0.0f;
  options.repetition_penalty = 2.0f;
  Made sampler(options, 4);
  EXPECT_EQ(sampler.draw({1.0f, 3.0f, 2.0f, 0.0f}), 1u);
  sampler.note({1, 1});  // counts once
  EXPECT_EQ(sampler.draw({1.0f, 3.0f, 2.0f, 0.0f}), 2u);
  EXPECT_EQ(sampler.draw({1.0f, 3.0f, 1.4f, 0.0f}), 1u);
  EXPECT_EQ(sampler.draw({-4.0f, -1.0f, -1.5f, -4.0f}), 2u);  // -1 becomes -2
}

TEST(Sampler, SeedsAreReproducibleAndDifferent) {
  const std::vector<float> logits(100, 0.0f);
  const auto sequence = [&](std::uint64_t seed) {
    SamplingOptions options = plain();
    options.seed = seed;
    Made sampler(options, logits.size());
    std::vector<std::uint32_t> out;
    for (int i = 0; i < 50; ++i) out.push_back(sampler.draw(logits));
    EXPECT_EQ(sampler.draws(), 50u);
    return out;
  };
  EXPECT_EQ(sequence(1), sequence(1));
  EXPECT_NE(sequence(1), sequence(2));
}

// Fewer logits than the vocabulary: the table of a model may have rows that the tokenizer has no tokens for.
TEST(Sampler, DrawsOnlyFromTheLogitsGiven) {
  for (const std::size_t top_k : {0u, 3u, 50u}) {
    SamplingOptions options = plain();
    options.top_k = top_k;
    Made sampler(options, 100);
    Ids ids;
    sampler.draw(std::vector<float>(100, 5.0f));  // what it remembers of larger logits must not count
    for (int i = 0; i < 200; ++i) ids.insert(sampler.draw({-30.0f, -30.5f, -31.0f, -60.0f}));
    EXPECT_GE(ids.size(), 2u);
    EXPECT_EQ(ids.count(3), 0u);
    EXPECT_LT(*ids.rbegin(), 4u) << top_k;
  }
}

TEST(Sampler, FollowsTheSoftmax) {
  const std::vector<float> logits = {0.5f, -1.0f, 2.0f, 0.0f, 1.0f, -0.3f};
  SamplingOptions options = plain();
  options.temperature = 1.7f;
  Made sampler(options, logits.size());
  constexpr std::size_t kDraws = 60'000;
  std::vector<double> counts(logits.size());
  for (std::size_t i = 0; i < kDraws; ++i) ++counts[sampler.draw(logits)];
  double sum = 0, chi_square = 0;
  for (const float l : logits) sum += std::exp(double{l} / 1.7);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double expected = std::exp(double{logits[i]} / 1.7) / sum * double{kDraws};
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi_square, 25.7);  // 5 degrees of freedom: 1 in 10,000
}

// Spec section 6, written down as sets over the whole vocabulary: penalty, temperature, top-k, top-p, then min-p and
// the draw by inverse CDF over what is left, best first. Nothing when the draw falls on the border between two tokens.
std::optional<std::uint32_t> expected_draw(std::vector<float> logits, const SamplingOptions& o, const Ids& seen,
                                           double u) {
  const std::size_t V = logits.size();
  if (o.repetition_penalty != 1.0f) {
    for (const std::uint32_t id : seen) {
      logits[id] = logits[id] > 0 ? logits[id] / o.repetition_penalty : logits[id] * o.repetition_penalty;
    }
  }
  if (o.temperature == 0.0f) {
    return static_cast<std::uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  for (float& l : logits) l /= o.temperature;
  std::vector<bool> kept(V, true);
  const auto probabilities = [&] {
    double best = -HUGE_VAL, sum = 0;
    std::vector<double> p(V);
    for (std::size_t i = 0; i < V; ++i) best = kept[i] ? std::max(best, double{logits[i]}) : best;
    for (std::size_t i = 0; i < V; ++i) sum += p[i] = kept[i] ? std::exp(double{logits[i]} - best) : 0.0;
    for (double& v : p) v /= sum;
    return p;
  };
  std::vector<std::uint32_t> order(V);  // best first, of equals the lower id
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return logits[a] > logits[b]; });
  if (o.top_k > 0) {
    const float kth = logits[order[std::min(o.top_k, V) - 1]];
    for (std::size_t i = 0; i < V; ++i) kept[i] = logits[i] >= kth;
  }
  if (o.top_p < 1.0f) {
    const std::vector<double> p = probabilities();
    double cumulated = 0;
    float threshold = logits[order[0]];
    for (const std::uint32_t id : order) {
      if (std::fabs(cumulated - double{o.top_p}) < 1e-6) return std::nullopt;
      if (id != order[0] && cumulated > double{o.top_p}) break;
      if (kept[id]) threshold = logits[id];
      cumulated += p[id];
    }
    for (std::size_t i = 0; i < V; ++i) kept[i] = kept[i] && logits[i] >= threshold;
  }
  if (o.min_p > 0.0f) {
    const std::vector<double> p = probabilities();
    for (std::size_t i = 0; i < V; ++i) {
      if (std::fabs(p[i] - double{o.min_p} * p[order[0]]) < 1e-6 && logits[i] != logits[order[0]]) return std::nullopt;
      kept[i] = kept[i] && (p[i] >= double{o.min_p} * p[order[0]] || logits[i] == logits[order[0]]);
    }
  }
  const std::vector<double> p = probabilities();
  double cumulated = 0;
  for (const std::uint32_t id : order) {
    if (!kept[id]) continue;
    cumulated += p[id];
    if (std::fabs(cumulated - u) < 1e-6 && cumulated < 1 - 1e-9) return std::nullopt;
    if (u < cumulated) return id;
  }
  return std::nullopt;
}

TEST(Sampler, EqualsThePlainDescription) {
  std::size_t compared = 0;
  EXPECT_TRUE(rc::check("any options, any logits", [&] {
    const auto real = [](int low, int high) { return static_cast<float>(*rc::gen::inRange(low, high)) / 1000.0f; };
    // Few distinct values, so that ties are common.
    const auto steps = *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(-8, 9)));
    std::vector<float> logits;
    for (const int s : steps) logits.push_back(static_cast<float>(s) * 0.7f);
    const SamplingOptions options{.temperature = *rc::gen::arbitrary<bool>() ? real(200, 3000) : real(0, 2),
                                  .top_k = *rc::gen::inRange<std::size_t>(0, logits.size() + 3),
                                  .top_p = real(1, 1100),
                                  .min_p = *rc::gen::arbitrary<bool>() ? real(1, 1000) : 0.0f,
                                  .repetition_penalty = *rc::gen::arbitrary<bool>() ? real(500, 2000) : 1.0f,
                                  .seed = *rc::gen::arbitrary<std::uint64_t>()};
    RC_PRE(check_sampling(options).ok());
    Made sampler(options, logits.size() + 5);
    Ids seen;
    std::uint64_t number = 0;
    for (int i = 0; i < 10; ++i) {
      const auto expected = expected_draw(logits, options, seen, CounterRng(options.seed).uniform(number));
      const std::uint32_t came = sampler.draw(logits);
      if (options.temperature != 0.0f) ++number;
      if (expected) {
        RC_ASSERT(came == *expected);
        ++compared;
      }
      seen.insert(came);
      sampler.note({came});
    }
  }));
  EXPECT_GT(compared, 500u);
}

TEST(Sampler, NonsenseIsRefusedByName) {
  const auto message = [](auto change) {
    SamplingOptions options = plain();
    change(options);
    const Status status = check_sampling(options);
    return status.ok() ? std::string() : status.error().message;
  };
  const float nan = std::nanf(""), inf = HUGE_VALF;
  for (const float bad : {-0.1f, nan, inf}) {
    EXPECT_EQ(message([&](SamplingOptions& o) { o.temperature = bad; }).find("--temperature must be 0 or more"), 0u)
        << bad;
  }
  for (const float bad : {-0.1f, nan}) {
    EXPECT_EQ(message([&](SamplingOptions& o) { o.top_p = bad; }).find("--top-p must be from 0 to 1"), 0u) << bad;
  }
  for (const float bad : {-0.1f, 1.1f, nan}) {
    EXPECT_EQ(message([&](SamplingOptions& o) { o.min_p = bad; }).find("--min-p must be from 0 to 1"), 0u) << bad;
  }
  for (const float bad : {0.0f, -1.0f, nan, inf}) {
    EXPECT_EQ(
        message([&](SamplingOptions& o) { o.repetition_penalty = bad; }).find("--repetition-penalty must be above 0"),
        0u);
  }
  EXPECT_EQ(message([](SamplingOptions& o) { o = {}; }), "");
}

// Infinite logits (weights may overflow) end in some token, never outside.
TEST(Sampler, SurvivesLogitsThatAreNoNumbers) {
  for (const float odd : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (const float temperature : {0.0f, 0.6f}) {
      SamplingOptions options{.seed = 3};
      options.temperature = temperature;
      Made sampler(options, 200);
      std::vector<float> logits(200);
      for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = i % 3 == 0 ? odd : static_cast<float>(i % 7);
      EXPECT_LT(sampler.draw(logits), 200u);
      EXPECT_LT(sampler.draw(std::vector<float>(200, odd)), 200u);
    }
  }
}

}  // namespace
}  // namespace axon
