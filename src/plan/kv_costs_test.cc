#include "plan/kv_costs.h"

#include <gtest/gtest.h>

#include "state/kv_type.h"

namespace axon {
namespace {

TEST(KvCosts, TheLadderIsOfTypesThatRun) {
  for (const std::string_view name : kv_ladder()) EXPECT_TRUE(parse_kv_type(name).ok()) << name;
}

TEST(KvCosts, AreOfTypesThatRunAndInBounds) {
  EXPECT_EQ(find_kv_cost("tq9"), nullptr);
  EXPECT_EQ(find_kv_cost("fp16"), nullptr);  // all others are measured against it
  for (const KvType& type : kv_types()) {
    const KvCost* cost = find_kv_cost(type.name());
    if (cost == nullptr) continue;
    EXPECT_LT(cost->perplexity, 10) << cost->name;
    EXPECT_GE(cost->divergence, 0) << cost->name;
    EXPECT_GT(cost->attention_time, 0) << cost->name;
  }
}

TEST(KvCosts, InWords) {
  EXPECT_EQ(kv_cost_words(nullptr), "");
  const KvCost cost{"x", 0.314, 0.00216, 0.625};
  EXPECT_EQ(kv_cost_words(&cost), "perplexity +0.31 %, divergence 0.0022, attention 0.62 x the time");
}

}  // namespace
}  // namespace axon
