#include "architectures/builder.h"

#include <gtest/gtest.h>

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

template <class T>
std::string message(const Result<T>& result) {
  return result.ok() ? "no error" : result.error().message;
}

template <class T>
T value(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    return {};
  }
  return std::move(result).value();
}

const JsonValue& sample() {
  static const JsonValue doc = tree(R"({"one": 1, "big": 2097152, "over": 2097153, "zero": 0, "minus": -1, "real": 1.5,
      "yes": true, "text": "abc", "none": null, "list": [1, 0],
      "mixed": [1, "a"], "texts": ["x", "y"], "huge": 1e10})");
  return doc;
}

TEST(Fields, CountsAreFromOneToTheirLimit) {
  const Fields fields(sample(), "c");
  EXPECT_EQ(value(fields.count("one")), 1u);
  EXPECT_EQ(value(fields.count("big")), Fields::kMax);
  EXPECT_EQ(value(fields.count("over", 3'000'000)), 2097153u);
  EXPECT_EQ(message(fields.count("over")), "c: over must be a number from 1 to 2097152, but is 2097153");
  EXPECT_EQ(message(fields.count("zero")), "c: zero must be a number from 1 to 2097152, but is 0");
  EXPECT_EQ(message(fields.count("minus")), "c: minus must be a number from 1 to 2097152, but is -1");
  EXPECT_EQ(message(fields.count("real")), "c: real must be a number from 1 to 2097152, but is 1.5");
  EXPECT_EQ(message(fields.count("text")), "c: text must be a number from 1 to 2097152, but is \"abc\"");
  EXPECT_EQ(message(fields.count("yes")), "c: yes must be a number from 1 to 2097152, but is true");
  EXPECT_EQ(message(fields.count("gone")), "c: gone is missing");
  EXPECT_EQ(message(fields.count("none")), "c: none is missing");
  EXPECT_EQ(fields.count("gone").error().code, ErrorCode::kInvalidArgument);
}

TEST(Fields, DefaultsStandInForAbsentAndNullOnly) {
  const Fields fields(sample(), "c");
  EXPECT_EQ(value(fields.count_or("gone", 5)), 5u);
  EXPECT_EQ(value(fields.count_or("none", 5)), 5u);
  EXPECT_EQ(value(fields.count_or("one", 5)), 1u);
  EXPECT_EQ(message(fields.count_or("zero", 5)), "c: zero must be a number from 1 to 2097152, but is 0");
  EXPECT_EQ(value(fields.zero_or_more("zero", 5)), 0u);
  EXPECT_EQ(value(fields.zero_or_more("gone", 5)), 5u);
  EXPECT_EQ(message(fields.zero_or_more("minus", 5)), "c: minus must be a number from 0 to 2097152, but is -1");
  EXPECT_TRUE(fields.is_null("none"));
  EXPECT_FALSE(fields.is_null("gone"));
  EXPECT_FALSE(fields.is_null("zero"));
  EXPECT_FALSE(fields.has("none"));
  EXPECT_TRUE(fields.has("zero"));
}

TEST(Fields, OtherKinds) {
  const Fields fields(sample(), "c");
  EXPECT_TRUE(value(fields.flag_or("yes", false)));
  EXPECT_TRUE(value(fields.flag_or("gone", true)));
  EXPECT_EQ(message(fields.flag_or("one", true)), "c: one must be true or false, but is 1");
  EXPECT_EQ(value(fields.real_or("real", 2)), 1.5);
  EXPECT_EQ(value(fields.real_or("one", 2)), 1.0);
  EXPECT_EQ(value(fields.real_or("gone", 2)), 2.0);
  EXPECT_EQ(message(fields.real_or("huge", 2)), "c: huge must be a number from 0 to 1e9, but is 10000000000");
  EXPECT_EQ(message(fields.real_or("minus", 2)), "c: minus must be a number from 0 to 1e9, but is -1");
  EXPECT_EQ(value(fields.text_or("text", "z")), "abc");
  EXPECT_EQ(value(fields.text_or("gone", "z")), "z");
  EXPECT_EQ(message(fields.text_or("one", "z")), "c: one must be text, but is 1");
  EXPECT_EQ(value(fields.counts("list")), (std::vector<std::uint64_t>{1, 0}));
  EXPECT_TRUE(value(fields.counts("gone")).empty());
  EXPECT_EQ(message(fields.counts("mixed")), "c: mixed must be a list of whole numbers from 0, but is a list of 2");
  EXPECT_EQ(message(fields.counts("one")), "c: one must be a list of numbers, but is 1");
  EXPECT_EQ(value(fields.texts("texts")), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(message(fields.texts("mixed")), "c: mixed must be a list of texts, but is a list of 2");
}

TEST(NativeWeights, FollowTheQuantizationBeforeTheType) {
  const auto native = [](std::string_view text) {
    const JsonValue doc = tree(text);
    return value(native_weights(Fields(doc, "c")));
  };
  EXPECT_EQ(native(R"({"torch_dtype": "bfloat16"})"), "bf16");
  EXPECT_EQ(native(R"({"dtype": "float32"})"), "fp32");
  EXPECT_EQ(native(R"({"torch_dtype": "float16", "quantization_config": {"quant_method": "awq"}})"), "");
  EXPECT_EQ(native(R"({"torch_dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"}})"), "fp8");
  EXPECT_EQ(native(R"({"torch_dtype": "auto"})"), "");
  EXPECT_EQ(native("{}"), "");
}

struct Build {
  JsonValue doc = tree("{}");
  Fields fields{doc, "c"};
  Builder builder{"f", fields};
  Build() { builder.layer({.kind = "attention", .memory = {}}); }
};

TEST(Builder, MergesWhatDiffersOnlyByLayer) {
  Build b;
  b.builder.matrix("w", Part::kAttention, 4, 3, 1, true);
  b.builder.matrix("w", Part::kAttention, 4, 3, 2, true);
  b.builder.matrix("w", Part::kAttention, 4, 5);    // another shape
  b.builder.matrix("w", Part::kFeedForward, 4, 3);  // another part
  b.builder.share(1, 2);
  b.builder.matrix("w", Part::kAttention, 4, 3);  // another share
  const Architecture model = value(b.builder.finish());
  ASSERT_EQ(model.tensors.size(), 5u);
  EXPECT_EQ(model.tensors[0].name, "w.weight");
  EXPECT_EQ(model.tensors[0].count, 3u);
  EXPECT_EQ(model.tensors[0].elements(), 36u);
  EXPECT_TRUE(model.tensors[0].matrix);
  EXPECT_EQ(model.tensors[1].name, "w.bias");
  EXPECT_EQ(model.tensors[1].elements(), 12u);
  EXPECT_FALSE(model.tensors[1].matrix);
  EXPECT_EQ(model.parameters().total, 36u + 12 + 20 + 12 + 12);
  EXPECT_EQ(model.parameters().active, 36u + 12 + 20 + 12 + 6);
  EXPECT_EQ(model.family, "f");
  EXPECT_EQ(model.name, "c");
}

TEST(Builder, LeavesOutTensorsWithoutElements) {
  Build b;
  b.builder.vector("v", Part::kNorm, 0);
  b.builder.tensor("t", Part::kRecurrent, 2, 2, 0);
  EXPECT_TRUE(value(b.builder.finish()).tensors.empty());
}

TEST(Builder, TheLargestWidthCounts) {
  Build b;
  b.builder.width(3);
  b.builder.width(7);
  b.builder.width(5);
  EXPECT_EQ(value(b.builder.finish()).widest_values, 7u);
}

TEST(Builder, RefusesWhatCannotBeCounted) {
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 32;
  for (const std::uint64_t count : {std::uint64_t{1}, kHalf}) {
    Build b;
    b.builder.matrix("w", Part::kHead, kHalf, kHalf, count);
    EXPECT_EQ(message(b.builder.finish()),
              fmt::format("c: w.weight would have {} x 4294967296 x 4294967296 elements: too many to count", count));
  }
  Build sum;  // each fits, all together do not
  for (int i = 0; i < 3; ++i) sum.builder.vector(fmt::format("v{}", i), Part::kNorm, std::uint64_t{1} << 57);
  EXPECT_EQ(message(sum.builder.finish()).find("c: v1 would have "), 0u);
  Build merged;  // the count itself passes 64 bits
  for (int i = 0; i < 2; ++i) merged.builder.vector("v", Part::kNorm, 1, std::uint64_t{1} << 63);
  EXPECT_NE(message(merged.builder.finish()), "no error");
  Build small;
  small.builder.vector("v", Part::kNorm, std::uint64_t{1} << 57);
  EXPECT_EQ(message(small.builder.finish()), "no error");
}

TEST(Builder, RefusesAModelWithoutLayers) {
  const JsonValue doc = tree("{}");
  const Fields fields(doc, "c");
  Builder builder("f", fields);
  EXPECT_EQ(message(builder.finish()), "c: there are no layers");
}

TEST(Builder, TellsAWrongTypeAtTheEnd) {
  const JsonValue doc = tree(R"({"torch_dtype": 16})");
  const Fields fields(doc, "c");
  Builder builder("f", fields);
  builder.layer({.kind = "attention", .memory = {}});
  EXPECT_EQ(message(builder.finish()), "c: torch_dtype must be text, but is 16");
}

}  // namespace
}  // namespace axon
