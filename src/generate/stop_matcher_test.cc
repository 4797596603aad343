#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <ostream>

#include "generate/generate.h"
#include "memory/no_allocation.h"

namespace axon {
namespace {

struct Shown {
  std::string text;
  bool stopped;
  bool operator==(const Shown&) const = default;
  friend void PrintTo(const Shown& s, std::ostream* out) { *out << '"' << s.text << (s.stopped ? "\" stopped" : "\""); }
};

// Pushes `text` in pieces of these sizes (the last one is repeated).
Shown shown(const std::vector<std::string>& stops, std::string_view text, const std::vector<std::size_t>& pieces) {
  StopMatcher matcher(stops, text.size());
  std::string out;
  for (std::size_t i = 0; !text.empty(); ++i) {
    const std::size_t n = std::min(pieces[std::min(i, pieces.size() - 1)], text.size());
    out += matcher.push(text.substr(0, n));
    text.remove_prefix(n);
  }
  out += matcher.flush();
  EXPECT_EQ(matcher.flush(), "");
  return {out, matcher.stopped()};
}

// The text up to the stop that is complete first (of those complete at once: the longest).
Shown expected(const std::vector<std::string>& stops, std::string_view text) {
  for (std::size_t end = 0; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (!stop.empty() && text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {std::string(text.substr(0, end - longest)), true};
  }
  return {std::string(text), false};
}

TEST(StopMatcher, EndsBeforeTheStop) {
  EXPECT_EQ(shown({"END"}, "some text END and more", {100}), (Shown{"some text ", true}));
  EXPECT_EQ(shown({"END"}, "some text END and more", {1}), (Shown{"some text ", true}));
  EXPECT_EQ(shown({"END"}, "some text EN", {1}), (Shown{"some text EN", false}));
  EXPECT_EQ(shown({}, "some text", {3}), (Shown{"some text", false}));
  EXPECT_EQ(shown({""}, "some text", {3}), (Shown{"some text", false}));  // the empty text stops nothing
  EXPECT_EQ(shown({"\n\n", "User:"}, "a\nUser: b", {2}), (Shown{"a\n", true}));
}

TEST(StopMatcher, TheStopThatIsCompleteFirstCounts) {
  EXPECT_EQ(shown({"abcd", "bc"}, "xabcd", {5}), (Shown{"xa", true}));
  EXPECT_EQ(shown({"abcd", "bc"}, "xabcd", {1}), (Shown{"xa", true}));
  EXPECT_EQ(shown({"bc", "abc"}, "xabcd", {5}), (Shown{"x", true}));
}

TEST(StopMatcher, ShowsAsSoonAsItIsCertain) {
  StopMatcher matcher({"aab"}, 10);
  EXPECT_EQ(matcher.push("xa"), "x");
  EXPECT_EQ(matcher.push("a"), "");
  EXPECT_EQ(matcher.push("a"), "a");  // "aa" may still become the stop
  EXPECT_EQ(matcher.push("c"), "aac");
  EXPECT_EQ(matcher.push("a"), "");
  EXPECT_EQ(matcher.flush(), "a");
}

TEST(StopMatcher, AnySplittingShowsTheSame) {
  EXPECT_TRUE(rc::check("texts over two letters, so that stops overlap", [] {
    const auto word = [](std::size_t longest) {
      return rc::gen::resize(static_cast<int>(longest),
                             rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab"))));
    };
    const auto stops = *rc::gen::resize(3, rc::gen::container<std::vector<std::string>>(word(4)));
    const std::string text = *word(30);
    const auto pieces =
        *rc::gen::nonEmpty(rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, 6)));
    RC_ASSERT(shown(stops, text, pieces) == expected(stops, text));
  }));
}

TEST(StopMatcher, AnySplittingShowsTheSameForAllShortTextsAndStops) {
  const auto words = [](std::size_t shortest, std::size_t longest) {
    std::vector<std::string> out;
    for (std::size_t n = shortest; n <= longest; ++n) {
      for (unsigned code = 0; code < 1u << n; ++code) {
        out.emplace_back();
        for (std::size_t i = 0; i < n; ++i) out.back() += (code >> i & 1u) != 0 ? 'b' : 'a';
      }
    }
    return out;
  };
  const auto stops = words(1, 4), texts = words(7, 7);
  for (std::size_t i = 0; i < stops.size(); ++i) {
    for (std::size_t j = i; j < stops.size(); ++j) {
      for (const std::string& text : texts) {
        const Shown right = expected({stops[i], stops[j]}, text);
        for (const std::size_t piece : {1u, 2u, 3u, 7u}) {
          ASSERT_EQ(shown({stops[i], stops[j]}, text, {piece}), right) << stops[i] << " " << stops[j] << " " << text;
        }
      }
    }
  }
}

// What came out at any moment is the beginning of what comes out in the end.
TEST(StopMatcher, NeverTakesAnythingBack) {
  EXPECT_TRUE(rc::check("the text so far begins the final text", [] {
    const std::string text = *rc::gen::container<std::string>(rc::gen::elementOf(std::string("abc")));
    const std::vector<std::string> stops = {"abca", "bb", "cc"};
    const Shown all = expected(stops, text);
    StopMatcher matcher(stops, 1);
    std::string so_far;
    for (const char c : text) {
      so_far += matcher.push({&c, 1});
      RC_ASSERT(all.text.starts_with(so_far));
    }
  }));
}

TEST(StopMatcher, AllocatesOnlyWhenMade) {
  StopMatcher matcher({"stop text", "other"}, 20);
  std::size_t bytes = 0;
  {
    const NoAllocation sealed;
    for (int i = 0; i < 100; ++i) bytes += matcher.push("twenty bytes of text").size();
    bytes += matcher.push("stop tex").size();
    bytes += matcher.flush().size();
  }
  EXPECT_EQ(bytes, 2008u);
}

}  // namespace
}  // namespace axon
