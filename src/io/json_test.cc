#include "io/json.h"

#include <gtest/gtest.h>

#include "io/json_scan.h"

namespace axon {
namespace {

// Writes the events down; fails on a string "stop".
class Trace : public JsonHandler {
 public:
  std::string text;
  Status start_object() override { return add("{"); }
  Status end_object() override { return add("}"); }
  Status start_array() override { return add("["); }
  Status end_array() override { return add("]"); }
  Status key(std::string_view k) override { return add(fmt::format("{}:", k)); }
  Status string(std::string_view s) override {
    if (s == "stop") return make_error(ErrorCode::kUnsupported, "stopped");
    return add(fmt::format("'{}'", s));
  }
  Status unsigned_integer(std::uint64_t v) override { return add(fmt::format("u{} ", v)); }
  Status negative_integer(std::int64_t v) override { return add(fmt::format("n{} ", v)); }
  Status real(double v) override { return add(fmt::format("r{} ", v)); }
  Status boolean(bool v) override { return add(v ? "true " : "false "); }
  Status null() override { return add("null "); }

 private:
  Status add(std::string_view part) { return text += part, Ok{}; }
};

std::string trace(std::string_view text, std::size_t depth = 16) {
  Trace handler;
  const Status status = read_json(text, "doc", handler, depth);
  return status.ok() ? handler.text : "error: " + status.error().message;
}

TEST(ReadJson, TellsWhatStandsThere) {
  EXPECT_EQ(trace(R"({"a":[1,-2,1.5,true,false,null],"a":{"b":"\u00e9"}} )"),
            "{a:[u1 n-2 r1.5 true false null ]a:{b:'\xC3\xA9'}}");
  EXPECT_EQ(trace("18446744073709551615"), "u18446744073709551615 ");
  EXPECT_EQ(trace("18446744073709551616"), "r1.8446744073709552e+19 ");
}

TEST(ReadJson, RefusesWhatIsNotJson) {
  for (const std::string_view text :
       {"", "{", "{}{}", "[1,]", "{\"a\"}", "01", "nul", "\"\xFF\"", "\"\\ud800\"", "'a'"}) {
    EXPECT_EQ(trace(text).find("error: doc: not valid JSON"), 0u) << text << trace(text);
  }
}

TEST(ReadJson, BoundsTheDepth) {
  EXPECT_EQ(trace("[[[]]]", 3), "[[[]]]");
  EXPECT_EQ(trace("[[{}]]", 2), "error: doc: JSON is nested deeper than 2 levels");
  EXPECT_EQ(trace("[[],[],[[]]]", 3), "[[][][[]]]");
  EXPECT_EQ(trace(std::string(60'000, '[')), "error: doc: JSON is nested deeper than 16 levels");
}

TEST(ReadJson, HandlersEndTheReading) { EXPECT_EQ(trace(R"(["a","stop","b"])"), "error: doc: stopped"); }

TEST(JsonQuote, ReadsBack) {
  EXPECT_EQ(json_quote("a\"b\\c\n\x01"), R"("a\"b\\c\n\u0001")");
  EXPECT_EQ(json_quote("\xC3\xA9"), "\"\xC3\xA9\"");
  EXPECT_EQ(json_quote("\xFF"), "\"\xEF\xBF\xBD\"");
}

TEST(ScanJson, BoundsStringsAndGaps) {
  const std::string longest(kMaxJsonString, 'a');
  EXPECT_TRUE(scan_json("\"" + longest + "\"", "doc").ok());
  const auto text = scan_json("\"" + longest + "a\"", "doc");
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(scan_json("\"" + longest + "\\\"", "doc").ok());  // the last quote is escaped
  const std::string gap(kMaxJsonBetween, ' ');
  EXPECT_TRUE(scan_json("\"a\"" + gap + "\"b\"", "doc").ok());
  EXPECT_FALSE(scan_json("\"a\"" + gap + " \"b\"", "doc").ok());
  EXPECT_FALSE(scan_json(gap + " ", "doc").ok());
}

TEST(ScanJson, RefusesNulOutsideStrings) {
  const auto nul = scan_json(std::string_view("{}\0{}", 5), "doc");
  ASSERT_FALSE(nul.ok());
  EXPECT_EQ(nul.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(nul.error().message, "doc: not valid JSON at byte 2: a NUL");
}

// "-0" is a number with a sign: whoever wants counts must see it.
TEST(ReadJson, MinusZeroIsNegative) { EXPECT_EQ(trace("[-0]"), "[n0 ]"); }

}  // namespace
}  // namespace axon
