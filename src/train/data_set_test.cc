#include "train/data_set.h"

#include <gtest/gtest.h>

#include "io/test_files.h"
#include "train/data_for_test.h"

namespace axon::train {
namespace {

using testing::ByteTokenizer;
using testing::marked;
using testing::ok;
using testing_files::Folder;
using testing_files::put;

constexpr std::string_view kGood = R"({"prompt":"p","completion":"c"})";
const DataOptions kRaw{.encode = {.max_seq_len = 8, .raw_completions = true}};

class DataSet : public ::testing::Test {
 protected:
  Result<JsonlExamples> open(std::string_view text, DataOptions options = kRaw) {
    put(path, text);
    return JsonlExamples::open(path, *tokenizer, options, ledger);
  }
  std::string refusal(std::string_view text, const DataOptions& options = kRaw) {
    const auto set = open(text, options);
    if (set.ok()) return "opened";
    const std::string& message = set.error().message;
    EXPECT_TRUE(message.starts_with(path + ":")) << message;
    return message.substr(path.size() + 1);
  }
  const Folder folder;
  const std::string path = folder / "data.jsonl";
  ByteTokenizer tokenizer;
  Ledger ledger{1_MiB};
};

TEST_F(DataSet, ReadsLinesOnDemand) {
  const std::string text = "\xEF\xBB\xBF" + std::string(kGood) + "\r\n\n  \n" + R"({"prompt":"q","completion":"d"})";
  const JsonlExamples set = ok(open(text));
  ASSERT_EQ(set.size(), 2u);
  EXPECT_EQ(set.format(), DataFormat::kCompletion);
  EXPECT_EQ(set.shape(1).line, 4u);
  EXPECT_EQ(set.shape(1).tokens[0], 3u);
  EXPECT_EQ(set.shape(1).positions(), 2u);
  Example example;
  ok(set.read(1, example));
  EXPECT_EQ(marked(*tokenizer, example.sequences[0]), "q[d<|im_end|>]");
  ok(set.read(0, example));
  EXPECT_EQ(marked(*tokenizer, example.sequences[0]), "p[c<|im_end|>]");
  EXPECT_EQ(set.stats().lines, 2u);
}

TEST_F(DataSet, TakesWhatWasPlanned) {
  put(path, std::string(kGood) + "\n" + std::string(kGood));
  const Bytes planned = ok(JsonlExamples::measure(path));
  const JsonlExamples set = ok(JsonlExamples::open(path, *tokenizer, kRaw, ledger));
  EXPECT_EQ(ledger.used(account::kTrainingData), planned);
  EXPECT_EQ(set.index_bytes(), planned);
  EXPECT_GT(planned, 0_B);
  Ledger small(16_B);
  const auto refused = JsonlExamples::open(path, *tokenizer, kRaw, small);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
}

TEST_F(DataSet, CountsWhatItFound) {
  const std::string text = std::string(kGood) + "\n" +                              // 3 tokens, 2 targets
                           R"({"prompt":"pp","completion":"0123456789"})" + "\n" +  // 13, cut to 8: 6 targets
                           R"({"prompt":"0123456789","completion":"c"})" + "\n";    // no target is left
  const JsonlExamples set = ok(open(text));
  const DataStats& stats = set.stats();
  EXPECT_EQ(stats.lines, 3u);
  EXPECT_EQ(stats.examples, 2u);
  EXPECT_EQ(stats.truncated, 2u);
  EXPECT_EQ(stats.emptied, 1u);
  EXPECT_EQ(stats.without_targets, 0u);
  EXPECT_EQ(stats.tokens, 11u);
  EXPECT_EQ(stats.targets, 8u);
  EXPECT_EQ(stats.longest, 13u);
  EXPECT_DOUBLE_EQ(stats.mean(), 5.5);
  EXPECT_EQ(stats.highest_id, testing::kEnd);
}

TEST_F(DataSet, WithoutAnythingToLearn) {
  const DataOptions chat{.encode = {.max_seq_len = 64}};
  const std::string silent = R"({"messages":[{"role":"user","content":"u"}]})";
  EXPECT_EQ(refusal(silent, chat),
            " no example is left of 1 lines: 1 without anything to learn (no answer of the assistant?)");
  EXPECT_EQ(refusal(R"({"prompt":"0123456789","completion":"c"})"),
            " no example is left of 1 lines: 1 whose answers lie beyond 8 tokens");
  const auto some = ok(open(silent + "\n" + R"({"messages":[{"role":"assistant","content":"a"}]})", chat));
  EXPECT_EQ(some.size(), 1u);
  EXPECT_EQ(some.stats().without_targets, 1u);
  EXPECT_EQ(some.shape(0).line, 2u);
  // The original keeps it.
  const DataOptions compat{.encode = {.max_seq_len = 64, .compat = true}};
  EXPECT_EQ(ok(open(silent + "\n" + R"({"messages":[{"role":"assistant","content":"a"}]})", compat)).size(), 2u);
  EXPECT_NE(refusal(silent, compat), "opened");
}

TEST_F(DataSet, EmptyFiles) {
  EXPECT_EQ(refusal(""), " holds no example: it is empty");
  EXPECT_EQ(refusal("\n \r\n"), " holds no example: it is empty");
}

TEST_F(DataSet, TheFirstBadLineEndsIt) {
  EXPECT_EQ(refusal(std::string(kGood) + "\n\n{\"prompt\":1}\n"),
            R"(3: expected "prompt" and "completion" as in the lines before, came "prompt")");
  EXPECT_EQ(refusal("{"), "1: not valid JSON at byte 2");
  EXPECT_EQ(refusal(std::string(kGood) + "\n{\"text\":\"a\"}"),
            R"(2: expected "prompt" and "completion" as in the lines before, came "text")");
}

TEST_F(DataSet, BadLinesMayBeSkipped) {
  DataOptions options = kRaw;
  options.skip_bad = true;
  std::string text = "{\n" + std::string(kGood) + "\n";
  for (int i = 0; i < 8; ++i) text += "[]\n";
  const JsonlExamples set = ok(open(text, options));
  EXPECT_EQ(set.size(), 1u);
  EXPECT_EQ(set.stats().bad, 9u);
  ASSERT_EQ(set.stats().first_bad.size(), kBadNamed);
  EXPECT_EQ(set.stats().first_bad[0], path + ":1: not valid JSON at byte 2");
  EXPECT_EQ(set.stats().first_bad[1], path + ":3: expected an object, came a list of 0");
  EXPECT_EQ(refusal("[]\n[]", options), " no example is left of 2 lines: 2 malformed; the first: " + path +
                                            ":1: expected an object, came a list of 0");
}

TEST_F(DataSet, AFileThatChangesIsNoticed) {
  const JsonlExamples set = ok(open(std::string(kGood) + "\n"));
  put(path, R"({"prompt":"p","completion":"X"})"
            "\n");
  Example example;
  const auto changed = set.read(0, example);
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().message, path + ":1: has changed since the file was opened");
  put(path, "");
  EXPECT_FALSE(set.read(0, example).ok());
}

TEST_F(DataSet, FingerprintsTellDatasetsApart) {
  const std::string other = R"({"prompt":"q","completion":"d"})";
  const auto print = [&](const std::string& text, std::size_t max_seq_len = 8) {
    DataOptions options = kRaw;
    options.encode.max_seq_len = max_seq_len;
    return ok(open(text, options)).fingerprint();
  };
  const std::string good(kGood);
  EXPECT_EQ(print(good + "\n" + other), print(good + "\n\n" + other + "\n"));
  EXPECT_NE(print(good + "\n" + other), print(other + "\n" + good));
  EXPECT_NE(print(good), print(good + "\n" + good));
  EXPECT_NE(print(good, 8), print(good, 2));
}

TEST_F(DataSet, ProgressReachesTheEnd) {
  std::string text;
  while (text.size() < 3u << 20)
    text += R"({"prompt":")" + std::string(1000, ' ') +
            R"(p","completion":"c"})"
            "\n";
  put(path, text);
  std::vector<Bytes> seen;
  DataOptions options = kRaw;
  options.encode.max_seq_len = 2000;
  ok(JsonlExamples::open(path, *tokenizer, options, ledger, [&](Bytes done, Bytes total) {
    EXPECT_EQ(total.count, text.size());
    seen.push_back(done);
  }));
  ASSERT_GE(seen.size(), 3u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back().count, text.size());
}

TEST_F(DataSet, ExamplesInMemoryAreChecked) {
  Example one{{testing::numbered(0, 5, 1), {}}};
  const auto refused = [](std::vector<Example> examples, std::size_t max_seq_len, bool pairs) {
    const auto set = TokenExamples::create(std::move(examples), max_seq_len, pairs);
    return set.ok() ? "accepted" : set.error().message;
  };
  EXPECT_EQ(refused({}, 8, false), "expected one or more examples, came none");
  EXPECT_EQ(refused({one}, 1, false), "max_seq_len: expected 2 or more, came 1");
  EXPECT_EQ(refused({one, one}, 8, true),
            "example 0, sequence 1: expected 2 or more ids and a mask as long, came 0 and 0");
  one.sequences[0].trained.pop_back();
  EXPECT_EQ(refused({one}, 8, false), "example 0, sequence 0: expected 2 or more ids and a mask as long, came 5 and 4");
  const auto cut = ok(TokenExamples::create({{{testing::numbered(0, 5, 1), {}}}}, 3, false));
  EXPECT_EQ(cut.shape(0).tokens[0], 3u);
}

}  // namespace
}  // namespace axon::train
