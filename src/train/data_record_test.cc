#include "train/data_record.h"

#include <gtest/gtest.h>

#include "train/data_for_test.h"

namespace axon::train {
namespace {

using testing::ok;

std::string shown(std::span<const Message> messages) {
  std::string out;
  for (const Message& message : messages) out += message.role + "=" + message.content + ";";
  return out;
}

std::string chat(std::string_view line) {
  return shown(std::get<Chat>(ok(parse_record(line, "f:1", Objective::kSupervised, {})).record).messages);
}

std::string refusal(std::string_view line, Objective objective = Objective::kSupervised,
                    std::optional<DataFormat> format = {}) {
  const auto parsed = parse_record(line, "f:1", objective, format);
  return parsed.ok() ? "accepted" : parsed.error().message;
}

TEST(DataRecord, EveryFormat) {
  EXPECT_EQ(chat(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"id":3})"),
            "user=a;assistant=b;");
  EXPECT_EQ(chat(R"({"system_prompt":"s","conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"},)"
                 R"({"from":"user","value":"c"},{"from":"assistant","value":"d"},{"from":"tool","value":"e"}]})"),
            "system=s;user=a;assistant=b;user=c;assistant=d;tool=e;");
  EXPECT_EQ(chat(R"({"system_prompt":"","conversations":[{"from":"system","value":"a"}]})"), "system=a;");
  EXPECT_EQ(chat(R"({"instruction":"a","input":"i","output":"b","text":"rendered"})"), "user=a\n\ni;assistant=b;");
  EXPECT_EQ(chat(R"({"instruction":"a","input":"","output":"b"})"), "user=a;assistant=b;");
  EXPECT_EQ(chat(R"({"instruction":"a","input":null,"output":"b"})"), "user=a;assistant=b;");
  const auto pair = ok(parse_record(R"({"prompt":"a","completion":"b"})", "f:1", Objective::kSupervised, {}));
  EXPECT_EQ(pair.format, DataFormat::kCompletion);
  EXPECT_EQ(std::get<Completion>(pair.record).prompt + std::get<Completion>(pair.record).completion, "ab");
  const auto text = ok(parse_record(R"({"text":"h\u00e9"})", "f:1", Objective::kSupervised, {}));
  EXPECT_EQ(std::get<Text>(text.record).text, "h\u00e9");
  const auto preference =
      ok(parse_record(R"({"prompt":"a","chosen":"b","rejected":[{"role":"assistant","content":"c"}]})", "f:1",
                      Objective::kPreference, {}));
  const auto& sides = std::get<Preference>(preference.record);
  EXPECT_EQ(shown(sides.prompt) + shown(sides.chosen) + shown(sides.rejected), "user=a;assistant=b;assistant=c;");
}

TEST(DataRecord, ErrorsSayWhatWasExpectedAndWhatCame) {
  EXPECT_EQ(refusal("[1]"), "f:1: expected an object, came a list of 1");
  EXPECT_EQ(refusal("{\"text\":"), "f:1: not valid JSON at byte 9");
  EXPECT_EQ(refusal("{\"text\":\"\xff\"}"), "f:1: not valid UTF-8 at byte 10");
  EXPECT_EQ(refusal(R"({"text":"a","text":"b"})"), R"(f:1: key "text" comes twice)");
  EXPECT_EQ(refusal(R"({"text":7})"), R"(f:1: "text": expected a string, came 7)");
  EXPECT_EQ(refusal(R"({"messages":[]})"),
            R"(f:1: "messages": expected a list of one or more messages, came a list of 0)");
  EXPECT_EQ(refusal(R"({"messages":"hi"})"), R"(f:1: "messages": expected a list of one or more messages, came "hi")");
  EXPECT_EQ(refusal(R"({"messages":["hi"]})"), R"(f:1: "messages"[0]: expected an object, came "hi")");
  EXPECT_EQ(refusal(R"({"messages":[{"role":"user","content":"a"},{"role":"user"}]})"),
            R"(f:1: "messages"[1]."content": expected a string, came nothing)");
  EXPECT_EQ(refusal(R"({"messages":[{"role":"user\n","content":"a"}]})"),
            R"(f:1: "messages"[0]."role": expected a name on one line, came "user\n")");
  EXPECT_EQ(refusal(R"({"instruction":"a","input":1,"output":"b"})"), R"(f:1: "input": expected a string, came 1)");
  EXPECT_EQ(refusal(R"({"prompt":"a","chosen":1,"rejected":"b"})", Objective::kPreference),
            R"(f:1: "chosen": expected a string or a list of messages, came 1)");
}

TEST(DataRecord, KeysOfNoFormatOrOfAnother) {
  EXPECT_EQ(
      refusal(R"({"question":"a","answer":"b"})"),
      R"(f:1: expected "messages"; or "conversations"; or "instruction" and "output"; or "prompt" and "completion"; )"
      R"(or "text"; came "question", "answer")");
  EXPECT_EQ(refusal("{}", Objective::kPreference),
            R"(f:1: expected "prompt", "chosen" and "rejected"; came an object without keys)");
  EXPECT_TRUE(refusal(R"({"prompt":"a","chosen":"b","rejected":"c"})").ends_with("(pairs for preference training)"));
  EXPECT_EQ(refusal(R"({"text":"a"})", Objective::kSupervised, DataFormat::kAlpaca),
            R"(f:1: expected "instruction" and "output" as in the lines before, came "text")");
  EXPECT_EQ(refusal(R"({"text":"a","instruction":"a","output":""})", Objective::kSupervised, DataFormat::kText),
            "accepted");
}

}  // namespace
}  // namespace axon::train
