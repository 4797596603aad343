#include "plan/precision.h"

#include <gtest/gtest.h>

#include "quant/turboquant_layout.h"

namespace axon {
namespace {

TEST(Precisions, TakeTheirTrueBits) {
  const auto bits = [](const char* name) { return parse_precision(name).value().bits(); };
  EXPECT_EQ(bits("fp32"), 32);
  EXPECT_EQ(bits("bf16"), 16);
  EXPECT_EQ(bits("F16"), 16);
  EXPECT_EQ(bits("fp8"), 8);
  EXPECT_EQ(bits("q8"), 8.5);
  EXPECT_EQ(bits("q6"), 6.5);
  EXPECT_EQ(bits("q5"), 5.5);
  EXPECT_EQ(bits("q4"), 4.5);
  EXPECT_EQ(bits("q4g32"), 5);
  EXPECT_EQ(bits("q4g128"), 4.25);
  EXPECT_NEAR(bits("nf4"), 4.127, 0.002);  // QLoRA's paper: 0.127 bits a parameter for scales
  EXPECT_EQ(bits("mxfp4"), 4.25);
  EXPECT_EQ(bits("nvfp4"), 4.5);
  EXPECT_EQ(bits("fp4"), 4);
  EXPECT_EQ(bits("ternary"), 1.6875);
  EXPECT_EQ(bits("Q4_K"), 4.5);
  EXPECT_EQ(bits("q6_k"), 6.5625);
  EXPECT_EQ(bits("q8_0"), 8.5);
}

TEST(Precisions, RowsEndWithAWholeBlock) {
  const Precision q4 = parse_precision("q4").value();
  EXPECT_EQ(q4.bytes(1, 64), 36u);
  EXPECT_EQ(q4.bytes(1, 65), 72u);
  EXPECT_EQ(q4.bytes(10, 128), 720u);
  EXPECT_FALSE(q4.bytes(std::uint64_t{1} << 60, 1024).has_value());
}

TEST(Precisions, AnUnknownOneListsTheKnown) {
  const auto unknown = parse_precision("q7");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("\"q7\""), std::string::npos);
  for (const char* name : {"fp32", "q4", "nf4", "ternary", "q4_k"}) {
    EXPECT_NE(unknown.error().message.find(name), std::string::npos) << name;
  }
}

// One head of 80 over a window of 4,096: what the layouts promise.
TEST(KvFormats, OneHeadsWindow) {
  const auto window = [](const char* name) { return kv_bytes(parse_kv_format(name).value(), 1, 80, 80, 4096).value(); };
  EXPECT_EQ(window("fp16"), 1'310'720u);
  EXPECT_EQ(window("fp32"), 2'621'440u);
  for (const turboquant::Layout& layout : turboquant::layouts()) {
    auto head = turboquant::plan_head(layout, 80, 4096);
    ASSERT_TRUE(head.ok());
    EXPECT_EQ(window(std::string(layout.name).c_str()), head.value().bytes.count) << layout.name;
  }
  EXPECT_LE(window("tq3"), 218'453u);  // a sixth of fp16
  EXPECT_LE(window("tq3.5"), 286'720u);
  EXPECT_LE(window("tq4"), 348'160u);
  EXPECT_EQ(window("lm3"), window("tq3"));
}

TEST(KvFormats, BlocksRunAcrossTheHeadsOfAToken) {
  const KvFormat q8 = parse_kv_format("q8").value();
  EXPECT_EQ(kv_bytes(q8, 32, 80, 80, 1), 2u * 2560 / 32 * 34);
  EXPECT_EQ(kv_bytes(q8, 1, 80, 80, 1), 2u * 3 * 34);
  EXPECT_EQ(kv_bytes(parse_kv_format("q4").value(), 8, 128, 128, 10), 10u * 2 * 32 * 18);
}

// Vectors that the codec has no layout for are filled up, or, where keys and values differ, reckoned: codes, scales,
// tail.
TEST(KvFormats, OddVectorsAreReckoned) {
  const KvFormat tq4 = parse_kv_format("tq4").value();
  EXPECT_EQ(kv_bytes(tq4, 2, 72, 72, 1000), kv_bytes(tq4, 2, 80, 80, 1000));
  EXPECT_EQ(kv_bytes(parse_kv_format("tq3").value(), 1, 576, 0, 41), 40u * 578 + 216 + 1);  // a latent: keys alone
}

TEST(KvFormats, ATailAloneHasItsPaddingAndHeader) {
  const KvFormat tq3 = parse_kv_format("tq3").value();
  const auto few = kv_bytes(tq3, 1, 80, 80, 10);
  ASSERT_TRUE(few.has_value());
  EXPECT_GE(*few, 10u * 164 + 64);
  EXPECT_LE(*few, 16u * 164 + 64 + 4 * 64);
  EXPECT_EQ(kv_bytes(tq3, 3, 80, 80, 10), 3 * *few);
}

TEST(KvFormats, OverflowIsNoNumber) {
  for (const KvFormat& format : kv_formats()) {
    EXPECT_FALSE(kv_bytes(format, 1u << 20, 1u << 20, 1u << 20, std::uint64_t{1} << 40).has_value()) << format.name;
  }
}

}  // namespace
}  // namespace axon
