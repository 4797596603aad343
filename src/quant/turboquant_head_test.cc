#include "quant/turboquant_head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "quant/turboquant_test_data.h"
#include "tensor/dtype.h"

namespace axon::turboquant {
namespace {

std::vector<const Layout*> all_layouts() {
  std::vector<const Layout*> out = {&int8_layout()};
  for (const Layout& layout : layouts()) out.push_back(&layout);
  return out;
}

// A head with its memory, and the tokens that will come.
struct Head {
  const Layout& layout;
  std::size_t head_dim;
  HeadPlan plan;
  std::vector<std::uint8_t> bytes;
  std::vector<float> k, v;  // [T, A]

  Head(const Layout& l, std::size_t A, std::size_t window, std::size_t tokens, std::uint8_t start = 0)
      : layout(l),
        head_dim(A),
        plan(plan_head(l, A, window).value()),
        bytes(plan.bytes.count, start),
        k(tokens * A),
        v(tokens * A) {
    std::fill_n(bytes.begin(), sizeof(HeadHeader), std::uint8_t{0});
    const CounterRng rng(5, A);
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = rng.normal(2 * i) * std::exp(0.3f * rng.normal((std::uint64_t{1} << 40) + i / A));
      v[i] = 100 * rng.normal(2 * i + 1);
    }
  }
  HeadView view() { return {layout, head_dim, plan, bytes.data()}; }
  Mat<const float> rows(const std::vector<float>& side, std::size_t first, std::size_t count) const {
    return {side.data() + first * head_dim, count, head_dim};
  }
  void take(std::size_t first, std::size_t count) {
    append(view(), rows(k, first, count), rows(v, first, count), first, kReferenceCodec);
  }
};

// The schedule in words: the tail takes tokens until it is full; then its oldest kFlushTokens go before the next comes.
TEST(TurboquantHead, TokensLeaveTheTailInGroupsWhenItIsFull) {
  for (const Layout* layout : all_layouts()) {
    for (const std::size_t window : {5u, 32u, 40u, 41u, 100u, 512u}) {
      const HeadPlan plan = plan_head(*layout, 80, window).value();
      std::uint64_t left = 0, in_tail = 0;
      for (std::uint64_t passed = 0; passed < 2000; ++passed) {
        ASSERT_EQ(plan.left_tail(passed), left) << layout->name << " window " << window << " after " << passed;
        if (in_tail == plan.tail_tokens) {
          const std::uint64_t going = plan.coded_tokens == 0 ? 1 : kFlushTokens;
          left += going;
          in_tail -= going;
        }
        ++in_tail;
      }
    }
  }
}

// All that a query may see is held, in places that no two tokens share, and runs name them in order.
TEST(TurboquantHead, EveryTokenOfTheWindowHasItsOwnPlace) {
  for (const Layout* layout : all_layouts()) {
    for (const std::size_t window : {1u, 7u, 40u, 41u, 57u, 128u, 200u}) {
      const HeadPlan plan = plan_head(*layout, 80, window).value();
      for (std::uint64_t passed = 1; passed <= 3 * window + 100; ++passed) {
        std::set<std::tuple<bool, std::size_t, std::size_t>> places;
        std::uint64_t p = passed - std::min<std::uint64_t>(passed, window - 1);
        while (p < passed) {
          const TokenRun run = plan.run_from(p, passed);
          ASSERT_GE(run.count, 1u);
          ASSERT_LE(run.count, kTileTokens);
          for (std::size_t i = 0; i < run.count; ++i) {
            ASSERT_TRUE(places.insert({run.in_tail, run.in_tail ? 0 : run.tile, run.slot + i}).second)
                << layout->name << " window " << window << " passed " << passed << " token " << p + i;
          }
          ASSERT_LE(run.slot + run.count, run.in_tail ? plan.tail_tokens : plan.tokens_of_tile(run.tile));
          p += run.count;
        }
        ASSERT_EQ(p, passed);
      }
    }
  }
}

// What the cache must return for one vector, without any ring: int8, and for what left the tail the code of it.
std::vector<float> expected(const Head& head, Code code, bool coded, const float* x, std::int32_t exponent) {
  const std::size_t A = head.head_dim;
  std::vector<std::int8_t> values(A);
  std::uint16_t half = 0;
  EXPECT_TRUE(encode_tail({x, A}, values, half));
  float factor = f16_to_float(half);
  if (coded) {
    std::vector<std::uint8_t> codes(code_bytes(code, A));
    const float s = recode(code, values, factor, codes);
    decode_codes(code, codes, values);
    factor =
        load_scale(head.layout.scale, store_scale(head.layout.scale, s, exponent).bits, exponent) * codebook(code).step;
  }
  std::vector<float> out(A);
  for (std::size_t a = 0; a < A; ++a) out[a] = factor * static_cast<float>(values[a]);
  return out;
}

TEST(TurboquantHead, ReturnsEachTokenAsItsCode) {
  for (const Layout* layout : all_layouts()) {
    for (const auto& [window, tokens, A] : {std::tuple{100u, 333u, 80u}, {41u, 90u, 16u}, {20u, 70u, 80u}}) {
      Head head(*layout, A, window, tokens);
      for (std::size_t t = 0; t < tokens; ++t) head.take(t, 1);
      const std::uint64_t first = tokens - (window - 1), left = head.plan.left_tail(tokens);
      std::vector<float> k((window - 1) * A), v(k.size());
      read(head.view(), first, tokens, {k.data(), window - 1, A}, {v.data(), window - 1, A});
      for (std::size_t i = 0; i + 1 < window; ++i) {
        const bool coded = head.plan.coded_tokens != 0 && first + i < left;
        const HeadHeader& header = head.view().header();
        const auto row = static_cast<std::ptrdiff_t>(i * A);
        const auto same = [row](const std::vector<float>& got, const std::vector<float>& wanted) {
          return std::equal(wanted.begin(), wanted.end(), got.begin() + row);
        };
        ASSERT_TRUE(same(k, expected(head, layout->key, coded, head.k.data() + (first + i) * A, header.key_exponent)))
            << layout->name << " key " << first + i;
        ASSERT_TRUE(
            same(v, expected(head, layout->value, coded, head.v.data() + (first + i) * A, header.value_exponent)))
            << layout->name << " value " << first + i;
      }
    }
  }
}

TEST(TurboquantHead, WhatIsHeldDoesNotDependOnHowTokensAreDivided) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<const Layout*> all = all_layouts();
    const Layout& layout = *all[*rc::gen::inRange<std::size_t>(0, all.size())];
    const auto window = *rc::gen::element<std::size_t>(9, 33, 48, 100, 190);
    const std::size_t tokens = 260;
    Head one(layout, 16, window, tokens), other(layout, 16, window, tokens);
    for (std::size_t t = 0; t < tokens; ++t) one.take(t, 1);
    // Pieces shorter than the tiles' room: what a longer one pushes out unseen is not coded at all.
    const std::size_t longest = std::max<std::size_t>(1, other.plan.coded_tokens);
    for (std::size_t t = 0; t < tokens;) {
      const std::size_t n = *rc::gen::inRange<std::size_t>(1, std::min(longest, tokens - t) + 1);
      other.take(t, n);
      t += n;
    }
    const auto held = [&](Head& head) {
      std::vector<float> rows(2 * (window - 1) * 16);
      const Mat<float> k(rows.data(), window - 1, 16), v(rows.data() + (window - 1) * 16, window - 1, 16);
      read(head.view(), tokens - window + 1, tokens, k, v);
      return rows;
    };
    RC_ASSERT(held(one) == held(other));
    RC_ASSERT(std::equal(one.bytes.begin(), one.bytes.begin() + sizeof(HeadHeader), other.bytes.begin()));
  }));
}

// A prompt longer than the window in one piece: what it pushes out before its flush is never coded, what remains is as
// if it had come alone.
TEST(TurboquantHead, LongPiecesLeaveWhatTheWindowNeeds) {
  for (const Layout* layout : all_layouts()) {
    constexpr std::size_t kWindow = 100, kTokens = 611, A = 80;
    Head head(*layout, A, kWindow, kTokens, /*start=*/0xFF);
    head.take(0, kTokens);
    std::vector<float> k((kWindow - 1) * A), v(k.size());
    read(head.view(), kTokens - kWindow + 1, kTokens, {k.data(), kWindow - 1, A}, {v.data(), kWindow - 1, A});
    double error = 0, energy = 0;
    for (std::size_t i = 0; i < k.size(); ++i) {
      const double x = double{head.k[(kTokens - kWindow + 1) * A + i]};
      error += (double{k[i]} - x) * (double{k[i]} - x);
      energy += x * x;
    }
    EXPECT_LT(error, 0.05 * energy) << layout->name;
  }
}

TEST(TurboquantHead, SecondSequenceSetsItsOwnExponents) {
  const Layout& layout = *find_layout("tq3");
  Head head(layout, 80, 100, 60);
  head.take(0, 60);
  const HeadHeader before = head.view().header();
  for (float& x : head.k) x *= 1024;
  head.take(0, 60);
  EXPECT_EQ(head.view().header().key_exponent, before.key_exponent + 10);
  EXPECT_EQ(head.view().header().value_exponent, before.value_exponent);
  EXPECT_EQ(head.view().header().key_saturated, 0u);
}

TEST(TurboquantHead, CountsWhatItCannotHold) {
  const Layout& layout = *find_layout("tq3");
  constexpr std::size_t A = 80;
  Head head(layout, A, 100, 120);
  head.k[10 * A + 3] = std::numeric_limits<float>::quiet_NaN();
  head.v[11 * A] = std::numeric_limits<float>::infinity();
  for (std::size_t a = 0; a < A; ++a) head.k[12 * A + a] *= 4096;  // 12 octaves above the others: the byte holds 4
  head.take(0, 40);
  std::vector<float> k(40 * A), v(40 * A);
  read(head.view(), 0, 40, {k.data(), 40, A}, {v.data(), 40, A});
  EXPECT_TRUE(std::isnan(k[10 * A]) && std::isnan(v[11 * A]));  // in the tail they show, as in a float cache
  EXPECT_FALSE(std::isnan(k[11 * A]));
  head.take(40, 80);
  EXPECT_EQ(head.view().header().key_saturated, 2u);
  EXPECT_EQ(head.view().header().value_saturated, 1u);
  read(head.view(), 30, 120, {k.data(), 1, A}, {v.data(), 1, A});
  for (const float x : k) EXPECT_FALSE(std::isinf(x));
}

}  // namespace
}  // namespace axon::turboquant
