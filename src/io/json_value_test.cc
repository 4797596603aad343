#include "io/json_value.h"

#include <gtest/gtest.h>

#include <chrono>

namespace axon {
namespace {

JsonValue tree(std::string_view text) {
  Result<JsonValue> result = read_json_value(text, "doc");
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    return {};
  }
  return std::move(result).value();
}

Error error(std::string_view text, std::size_t depth = 16) {
  const Result<JsonValue> result = read_json_value(text, "doc", depth);
  return result.ok() ? Error{ErrorCode::kIo, "no error"} : result.error();
}

TEST(JsonValue, KeepsEveryKindOfValue) {
  const JsonValue doc = tree(R"({"n": null, "t": true, "u": 18446744073709551615, "i": -3, "r": 1.5, "s": "é",
                                 "a": [1, [2], {"b": 4}], "o": {"deep": {"er": 5}}, "e": {}, "z": []})");
  EXPECT_TRUE(doc.find("n")->is_null());
  EXPECT_FALSE(doc.find("t")->is_null());
  EXPECT_TRUE(*doc.find("t")->get<bool>());
  EXPECT_EQ(*doc.find("u")->get<std::uint64_t>(), 18446744073709551615u);
  EXPECT_EQ(*doc.find("i")->get<std::int64_t>(), -3);
  EXPECT_EQ(*doc.find("r")->get<double>(), 1.5);
  EXPECT_EQ(*doc.find("s")->get<std::string>(), "é");
  const auto& list = *doc.find("a")->get<JsonValue::Array>();
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(*list[1].get<JsonValue::Array>()->at(0).get<std::uint64_t>(), 2u);
  EXPECT_EQ(*list[2].find("b")->get<std::uint64_t>(), 4u);
  EXPECT_EQ(*doc.find("o")->find("deep")->find("er")->get<std::uint64_t>(), 5u);
  EXPECT_TRUE(doc.find("e")->get<JsonValue::Object>()->empty());
  EXPECT_TRUE(doc.find("z")->get<JsonValue::Array>()->empty());
  EXPECT_EQ(*tree("7").get<std::uint64_t>(), 7u);
}

TEST(JsonValue, FindsNothingWhereThereIsNothing) {
  const JsonValue doc = tree(R"({"a": [1]})");
  EXPECT_EQ(doc.find("b"), nullptr);
  EXPECT_EQ(doc.find("a")->find("a"), nullptr);         // not an object
  EXPECT_EQ(doc.find("a")->get<double>(), nullptr);     // another kind
  EXPECT_EQ(tree("-0").get<std::uint64_t>(), nullptr);  // as the header says
}

TEST(JsonValue, ObjectsKeepTheirOrder) {
  const JsonValue doc = tree(R"({"z": 1, "a": 2, "m": 3})");
  std::string keys;
  for (const auto& [key, value] : *doc.get<JsonValue::Object>()) keys += key;
  EXPECT_EQ(keys, "zam");
}

TEST(JsonValue, RefusesADoubledKey) {
  EXPECT_EQ(error(R"({"a": 1, "b": 2, "a": 3})").message, "doc: key \"a\" comes twice");
  EXPECT_EQ(error(R"([{"x": {"k": 1, "k": 1}}])").code, ErrorCode::kCorrupt);
  EXPECT_EQ(error(R"([{"k": 1}, {"k": 1}])").message, "no error");
}

TEST(JsonValue, RefusesSyntaxDepthAndSize) {
  EXPECT_EQ(error("{").code, ErrorCode::kCorrupt);
  EXPECT_EQ(error("[[[]]]", 2).code, ErrorCode::kCorrupt);
  EXPECT_EQ(error("[[[]]]", 3).message, "no error");
  const auto list_of = [](std::size_t n) {
    std::string text = "[\"\"";
    for (std::size_t i = 1; i < n; ++i) text += ",\"\"";
    return text + "]";
  };
  EXPECT_EQ(error(list_of(kMaxJsonValues - 1)).message, "no error");  // the list is a value, too
  EXPECT_EQ(error(list_of(kMaxJsonValues)).code, ErrorCode::kUnsupported);
}

TEST(JsonValue, ManyKeysTakeNoQuadraticTime) {
  std::string text = "{";
  for (std::size_t i = 0; i + 2 < kMaxJsonValues; ++i) text += fmt::format("\"{}\":0,", i);
  text += "\"last\":0}";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(error(text).message, "no error");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
}

TEST(JsonValue, BriefSaysWhatStandsThere) {
  EXPECT_EQ(tree("null").brief(), "null");
  EXPECT_EQ(tree("false").brief(), "false");
  EXPECT_EQ(tree("12").brief(), "12");
  EXPECT_EQ(tree("-12").brief(), "-12");
  EXPECT_EQ(tree("1.25").brief(), "1.25");
  EXPECT_EQ(tree(R"("a\"b")").brief(), R"("a\"b")");
  EXPECT_EQ(tree("[1, 2]").brief(), "a list of 2");
  EXPECT_EQ(tree(R"({"a": 1})").brief(), "an object");
  EXPECT_EQ(tree(R"("abcdef")").brief(4), "\"abc...");
  EXPECT_EQ(tree(R"("aébc")").brief(3), "\"a...");  // never half a character
}

}  // namespace
}  // namespace axon
