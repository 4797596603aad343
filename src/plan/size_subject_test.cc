#include <rapidcheck.h>

#include "plan/plan_for_test.h"
#include "plan/train_plan.h"

namespace axon {
namespace {

using namespace testing_plan;

TEST(ParameterCount, WhatIsASizeAndWhatIsNot) {
  const std::pair<const char*, std::uint64_t> sizes[] = {
      {"20b", 20'000'000'000},         {"20B", 20'000'000'000},  {"0.6b", 600'000'000}, {"0.6B", 600'000'000},
      {"770m", 770'000'000},           {"1.5M", 1'500'000},      {"1k", 1'000},         {"1t", 1'000'000'000'000},
      {"1.8T", 1'800'000'000'000},     {"8.03b", 8'030'000'000}, {"0.001k", 1},         {".5b", 500'000'000},
      {"9999t", 9'999'000'000'000'000}};
  for (const auto& [text, count] : sizes) EXPECT_EQ(parse_parameter_count(text), count) << text;
  for (const char* text :
       {"",      "b",      "20",      "1e3b",   "-1b",     "0b",      "0.0b",  "nanb",
        "infb",  "1.5.2b", " 20b",    "20 b",   "20b ",    "+20b",    "0x10b", "1,5b",
        "20bb",  "20g",    "999999t", "10000t", "0.0001k", "twentyb", "--b",   "99999999999999999999999999999999b",
        "1_000b"}) {
    EXPECT_EQ(parse_parameter_count(text), std::nullopt) << text;
  }
}

// Each decimal with up to three places is read to the last parameter.
TEST(ParameterCount, DecimalsAreExact) {
  EXPECT_TRUE(rc::check("n thousandths", [] {
    const auto n = *rc::gen::inRange<std::uint64_t>(1, 9'000'000);
    const auto text = fmt::format("{}.{:03}", n / 1000, n % 1000);
    RC_ASSERT(parse_parameter_count(text + "b") == n * 1'000'000);
    RC_ASSERT(parse_parameter_count(text + "m") == n * 1'000);
    RC_ASSERT(parse_parameter_count(text + "k") == n);
  }));
}

// The second document's numbers.
TEST(SizeSubject, TheNumbersOfMemory101) {
  const auto weights = [](const char* size, const char* precision) {
    return total_of(*subject_of(size), choice_of(0, precision)).count;
  };
  EXPECT_EQ(weights("0.6b", "keep"), 1'200'000'000u);
  EXPECT_EQ(weights("0.6b", "bf16"), 1'200'000'000u);
  EXPECT_EQ(weights("20b", "fp16"), 40'000'000'000u);
  EXPECT_EQ(weights("20b", "fp8"), 20'000'000'000u);
  EXPECT_EQ(weights("20b", "fp4"), 10'000'000'000u);
  EXPECT_EQ(weights("20b", "q4"), 11'250'000'000u);
  const auto subject = size_subject(
      {.target = "20b", .parameters = 20'000'000'000, .fallback = true, .layers = 24, .hidden_size = 2880});
  const auto cache = [&](std::uint64_t tokens) {
    return bytes_of(footprint_of(*subject, choice_of(tokens, "fp4", "fp4")), "kv cache");
  };
  EXPECT_EQ(cache(4096), 283'115'520u);
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice_of(4096, "fp4", "fp8")), "kv cache"), 2ull * 24 * 2880 * 4096);
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice_of(4096, "fp4", "fp16")), "kv cache"), 4ull * 24 * 2880 * 4096);
}

TEST(SizeSubject, SaysThatItGuesses) {
  const auto subject = subject_of("20b");
  const Footprint f = footprint_of(*subject, choice_of(4096));
  EXPECT_TRUE(f.estimate());
  EXPECT_EQ(f.find("kv cache"), nullptr);
  EXPECT_EQ(f.cannot_run, "a size is not a model");
  ASSERT_EQ(f.notes.size(), 2u);
  EXPECT_NE(f.notes[1].find("--fallback"), std::string::npos);
  EXPECT_EQ(subject->facts().family, "unknown");
  EXPECT_EQ(subject->facts().title, "A model of 20b parameters");
  EXPECT_EQ(subject->command(choice_of(0)), "bit-axon plan 20b");
  EXPECT_EQ(subject->command(choice_of(10, "q4", "q8")), "bit-axon plan 20b --context 10 --weights q4 --kv q8");
}

TEST(SizeSubject, CannotBeTrained) {
  EXPECT_EQ(error_of(subject_of("20b")->training({})), "20b: training needs shapes, and a size has none");
}

TEST(SizeSubject, OverflowIsAnError) {
  const auto subject = size_subject({.target = "it",
                                     .parameters = std::uint64_t{1} << 62,
                                     .fallback = true,
                                     .layers = 65536,
                                     .hidden_size = std::uint64_t{1} << 24});
  EXPECT_NE(error_of(subject->footprint(choice_of(1, "fp32"))).find("the weights do not fit 64 bits"),
            std::string::npos);
  EXPECT_NE(
      error_of(subject->footprint(choice_of(std::uint64_t{1} << 40, "q2"))).find("the kv cache does not fit 64 bits"),
      std::string::npos);
}

TEST(SizeSubject, MoreIsNeverLess) {
  EXPECT_TRUE(rc::check("context, layers, width, parameters", [] {
    SizeGuess guess{.target = "it",
                    .parameters = *rc::gen::inRange<std::uint64_t>(1, 1u << 30),
                    .fallback = true,
                    .layers = *rc::gen::inRange<std::uint64_t>(1, 200),
                    .hidden_size = *rc::gen::inRange<std::uint64_t>(1, 20000)};
    RunChoice choice = choice_of(*rc::gen::inRange<std::uint64_t>(1, 1u << 20), "q4", *rc::gen::elementOf(kv_names()));
    const Bytes before = total_of(*size_subject(guess), choice);
    const auto more = *rc::gen::inRange<std::uint64_t>(0, 100000);
    switch (*rc::gen::inRange(0, 4)) {
      case 0: choice.context += more; break;
      case 1: guess.layers += more; break;
      case 2: guess.hidden_size += more; break;
      default: guess.parameters += more;
    }
    RC_ASSERT(total_of(*size_subject(guess), choice) >= before);
  }));
}

}  // namespace
}  // namespace axon
