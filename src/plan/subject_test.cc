#include "plan/subject.h"

#include <limits>

#include "plan/plan_for_test.h"

namespace axon {
namespace {

using namespace testing_plan;

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

Account account(const char* name, std::uint64_t bytes, bool estimate = false) {
  return {.name = name, .bytes = {bytes}, .estimate = estimate, .terms = {}};
}

TEST(Footprint, SumsItsAccounts) {
  Footprint f;
  EXPECT_EQ(f.total(), 0_B);
  EXPECT_FALSE(f.estimate());
  f.accounts = {account("a", 3), account("b", 70), account("c", 5)};
  EXPECT_EQ(f.total(), 78_B);
  EXPECT_FALSE(f.estimate());
  EXPECT_EQ(f.largest().name, "b");
  ASSERT_NE(f.find("c"), nullptr);
  EXPECT_EQ(f.find("c")->bytes, 5_B);
  EXPECT_EQ(f.find("d"), nullptr);
  f.accounts.push_back(account("d", 1, true));
  EXPECT_TRUE(f.estimate());
}

// More than any machine has, never less than its parts.
TEST(Footprint, ASumBeyond64BitsIsTheLargestNumber) {
  Footprint f;
  f.accounts = {account("a", kMost), account("b", 0)};
  EXPECT_EQ(f.total().count, kMost);
  f.accounts.push_back(account("c", 2));
  EXPECT_EQ(f.total().count, kMost);
}

// Everything that can be asked of our own models.
TEST(EveryFootprint, OfAPresetAddsUp) {
  for (const std::string_view name : preset_names()) {
    const auto subject = subject_of(std::string(name));
    std::vector<std::string> weights = our_weights();
    for (const Precision& p : precisions()) weights.push_back(p.name);
    for (const std::string& w : weights) {
      RunChoice choice = choice_of(0, w);
      EXPECT_EQ(wrong_sums(footprint_of(*subject, choice)), "") << name << " " << w;
      choice.window = 0;
      choice.exact = true;
      choice.context = 3000;
      choice.threads = 3;
      EXPECT_EQ(wrong_sums(footprint_of(*subject, choice)), "") << name << " " << w << ", all of the context";
    }
    for (const std::string& kv : kv_names()) {
      for (const bool exact : {false, true}) {
        RunChoice choice = choice_of(5000, "q4", kv);
        choice.exact = exact;
        EXPECT_EQ(wrong_sums(footprint_of(*subject, choice)), "") << name << " " << kv;
        choice.window = 1000;
        EXPECT_EQ(wrong_sums(footprint_of(*subject, choice)), "") << name << " " << kv << ", a window";
      }
    }
  }
}

TEST(EveryFootprint, OfAKnownModelAddsUp) {
  for (const KnownModel& known : known_models()) {
    const auto subject = subject_of(std::string(known.name));
    std::vector<std::string> weights = {"keep"};
    for (const Precision& p : precisions()) weights.push_back(p.name);
    for (const std::string& w : weights) {
      EXPECT_EQ(wrong_sums(footprint_of(*subject, choice_of(0, w))), "") << known.name << " " << w;
    }
    for (const std::string& kv : kv_names()) {
      RunChoice choice = choice_of(100'000, "keep", kv);
      EXPECT_EQ(wrong_sums(footprint_of(*subject, choice)), "") << known.name << " " << kv;
      choice.window = 777;
      EXPECT_EQ(wrong_sums(footprint_of(*subject, choice)), "") << known.name << " " << kv << ", a window";
    }
  }
}

TEST(EveryFootprint, OfASizeAddsUp) {
  for (const Precision& p : precisions()) {
    for (const std::string& kv : kv_names()) {
      const auto subject = size_subject(
          {.target = "20b", .parameters = 20'000'000'003, .fallback = true, .layers = 24, .hidden_size = 2880});
      EXPECT_EQ(wrong_sums(footprint_of(*subject, choice_of(4097, p.name, kv))), "") << p.name << " " << kv;
    }
  }
}

// Bits of the format and bits of the whole agree: a format whose blocks do not divide the rows takes a little more.
TEST(EveryFootprint, WeightsTakeTheirBits) {
  const auto subject = subject_of("llama-3.1-8b");
  for (const Precision& p : precisions()) {
    const Footprint f = footprint_of(*subject, choice_of(1, p.name));
    double bits = 0;
    for (const Account& a : f.accounts)
      bits += a.name.starts_with("weights") ? 8.0 * static_cast<double>(a.bytes.count) : 0;
    EXPECT_NEAR(bits / static_cast<double>(subject->facts().parameters), p.bits(), 0.01) << p.name;
  }
}

// Both names of a precision are one precision, whoever's model it is.
TEST(EveryFootprint, NamesOfAPrecisionDoNotMatter) {
  const std::pair<const char*, const char*> pairs[] = {{"f32", "fp32"}, {"f16", "fp16"},  {"Q4", "q4"},
                                                       {"int8", "q8"},  {"BF16", "bf16"}, {"Q4G32", "q4g32"}};
  for (const char* target : {"nano", "llama-3.2-1b", "1b"}) {
    const auto subject = subject_of(target);
    for (const auto& [one, other] : pairs) {
      const Footprint a = footprint_of(*subject, choice_of(100, one)),
                      b = footprint_of(*subject, choice_of(100, other));
      EXPECT_EQ(a.total(), b.total()) << target << " " << one;
      EXPECT_EQ(a.cannot_run, b.cannot_run) << target << " " << one;
    }
  }
}

TEST(EveryFootprint, UnknownFormatsAreErrorsEverywhere) {
  for (const char* target : {"nano", "llama-3.2-1b", "mamba-2.8b", "1b"}) {
    const auto subject = subject_of(target);
    EXPECT_NE(error_of(subject->footprint(choice_of(100, "q7"))).find("unknown precision \"q7\""), std::string::npos)
        << target;
    EXPECT_NE(error_of(subject->footprint(choice_of(100, "keep", "q5"))).find("unknown KV format \"q5\""),
              std::string::npos)
        << target;
  }
}

}  // namespace
}  // namespace axon
