#include "state/sequence_state.h"

#include <gtest/gtest.h>

#include <map>

namespace axon {
namespace {

// ssm, attention, ssm with other sizes.
std::vector<LayerStateShape> shapes() {
  return {{.inner = 24, .state = 3, .taps = 4},
          {.attention = true, .heads = 2, .head_dim = 5, .capacity = 7},
          {.inner = 16, .state = 2, .taps = 1}};
}

TEST(SequenceState, TakesWhatItPlans) {
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    std::map<std::string, Bytes> planned;
    Bytes total;
    SequenceState::plan(shapes(), dtype, [&](std::string_view account, const Carver& carver) {
      planned[std::string(account)] = carver.peak();
      total += carver.peak();
    });
    EXPECT_EQ(planned.size(), 3u);
    // Each tensor begins at a multiple of 64.
    EXPECT_EQ(planned["kv cache"].count, 2 * round_up(2 * 7 * 5 * size_of(dtype), 64));
    EXPECT_EQ(planned["ssm state"].count, round_up(3 * 24 * 4, 64) + 2 * 16 * 4);
    EXPECT_EQ(planned["conv state"].count, round_up(3 * 24 * 4, 64));
    Ledger ledger(total);
    {
      const auto state = SequenceState::create(ledger, shapes(), dtype);
      ASSERT_TRUE(state.ok()) << state.error().message;
      for (const auto& [account, size] : planned) EXPECT_EQ(ledger.used(account), size) << account;
    }
    EXPECT_EQ(ledger.used(), 0_B);
    EXPECT_EQ(ledger.peak(), total);
    Ledger small(total - 1_B);
    EXPECT_EQ(SequenceState::create(small, shapes(), dtype).error().code, ErrorCode::kOverBudget);
    EXPECT_EQ(small.used(), 0_B);
  }
}

// Attention layers of two head_dims between others.
std::vector<LayerStateShape> wide_shapes() {
  return {{.attention = true, .heads = 3, .head_dim = 16, .capacity = 100},
          {.inner = 24, .state = 3, .taps = 4},
          {.attention = true, .heads = 2, .head_dim = 80, .capacity = 64},
          {.attention = true, .heads = 2, .head_dim = 80, .capacity = 30}};
}

TEST(SequenceState, CompressedCachesTakeWhatTheirHeadsDo) {
  for (const KvType& type : kv_types()) {
    if (type.layout == nullptr) continue;
    Bytes planned, expected;
    SequenceState::plan(wide_shapes(), type, [&](std::string_view account, const Carver& carver) {
      if (account == account::kKvCache) planned = carver.peak();
    });
    for (const LayerStateShape& shape : wide_shapes()) {
      if (!shape.attention) continue;
      expected +=
          Bytes{shape.heads * turboquant::plan_head(*type.layout, shape.head_dim, shape.capacity).value().bytes.count};
    }
    EXPECT_EQ(planned, expected) << type.name();
    Ledger ledger(1_MiB);
    SequenceState state = SequenceState::create(ledger, wide_shapes(), type).value();
    EXPECT_EQ(ledger.used(account::kKvCache), planned) << type.name();
    const KvCache &first = state.kv(0), &second = state.kv(2), &third = state.kv(3);
    EXPECT_EQ(first.layout, type.layout);
    EXPECT_EQ(first.capacity, 100u);
    EXPECT_EQ(second.head_plan.bytes, turboquant::plan_head(*type.layout, 80, 64).value().bytes);
    EXPECT_GE(second.compressed - first.compressed, static_cast<std::ptrdiff_t>(3 * first.head_plan.bytes.count));
    // q8 needs no basis; codes need that of their head_dim.
    EXPECT_EQ(first.rotation != nullptr, type.layout->coded()) << type.name();
    EXPECT_EQ(second.rotation, third.rotation);
    if (first.rotation != nullptr) {
      EXPECT_EQ(first.rotation->head_dim(), 16u);
      EXPECT_EQ(second.rotation->head_dim(), 80u);
    }
  }
}

TEST(SequenceState, ResetStartsTheCountsOfACompressedCacheOver) {
  Ledger ledger(1_MiB);
  SequenceState state = SequenceState::create(ledger, wide_shapes(), parse_kv_type("tq3").value()).value();
  state.kv(2).head(1).header().key_saturated = 7;
  state.kv(2).head(1).header().key_exponent = 3;
  state.reset();
  EXPECT_EQ(state.kv(2).head(1).header().key_saturated, 0u);
  EXPECT_EQ(state.kv(2).head(1).header().key_exponent, 0);
}

TEST(KvTypes, AreParsedByTheirNames) {
  for (const KvType& type : kv_types()) EXPECT_EQ(parse_kv_type(type.name()).value(), type);
  EXPECT_EQ(kv_types().size(), 7u);
  EXPECT_EQ(parse_kv_type("fp32").value(), KvType(DType::kF32));
  EXPECT_EQ(parse_kv_type("q8").value().layout, &turboquant::int8_layout());
  const std::string refusal = parse_kv_type("tq5").error().message;
  EXPECT_EQ(refusal, "unknown KV cache type \"tq5\": there are fp32, fp16, q8, tq4, tq3.5, tq3, lm3");
}

TEST(KvTypes, HoldOnlyWhatTheyCan) {
  EXPECT_TRUE(check_kv_type(DType::kF16, 17).ok());
  EXPECT_TRUE(check_kv_type(parse_kv_type("q8").value(), 80).ok());
  const Status refused = check_kv_type(parse_kv_type("tq3").value(), 72);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message.find("a tq3 cache"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("72"), std::string::npos) << refused.error().message;
}

TEST(SequenceState, GivesEachLayerItsOwnPart) {
  Ledger ledger(1_MiB);
  SequenceState state = SequenceState::create(ledger, shapes(), DType::kF32).value();
  EXPECT_EQ(state.ssm(0).h.rows, 3u);
  EXPECT_EQ(state.ssm(0).h.cols, 24u);
  EXPECT_EQ(state.ssm(0).tail.rows, 3u);
  EXPECT_EQ(state.ssm(2).tail.rows, 0u);
  EXPECT_EQ(state.kv(1).heads, 2u);
  EXPECT_EQ(state.kv(1).capacity, 7u);
  EXPECT_EQ(state.kv(1).head_dim, 5u);
  EXPECT_EQ(state.kv(1).dtype, DType::kF32);
  const auto* k = static_cast<const std::byte*>(state.kv(1).k);
  const auto* v = static_cast<const std::byte*>(state.kv(1).v);
  EXPECT_GE(v - k, 2 * 7 * 5 * 4);
  EXPECT_GE(state.ssm(2).h.data - state.ssm(0).h.data, 3 * 24);
}

TEST(SequenceState, ResetForgetsEverything) {
  Ledger ledger(1_MiB);
  SequenceState state = SequenceState::create(ledger, shapes(), DType::kF16).value();
  EXPECT_EQ(state.position(), 0u);
  const auto fill = [](Mat<float> m, float value) { std::fill_n(m.data, m.rows * m.cols, value); };
  const auto sum = [](Mat<float> m) {
    float out = 0;
    for (std::size_t i = 0; i < m.rows * m.cols; ++i) out += m.data[i];
    return out;
  };
  for (const std::size_t layer : {0u, 2u}) {
    EXPECT_EQ(sum(state.ssm(layer).h), 0.0f);  // as created
    EXPECT_EQ(sum(state.ssm(layer).tail), 0.0f);
    fill(state.ssm(layer).h, 1.0f);
    fill(state.ssm(layer).tail, 1.0f);
  }
  state.advance(3);
  state.advance(9);
  EXPECT_EQ(state.position(), 12u);
  state.reset();
  EXPECT_EQ(state.position(), 0u);
  for (const std::size_t layer : {0u, 2u}) {
    EXPECT_EQ(sum(state.ssm(layer).h), 0.0f);
    EXPECT_EQ(sum(state.ssm(layer).tail), 0.0f);
  }
}

TEST(SequenceState, MovesWithItsMemory) {
  Ledger ledger(1_MiB);
  SequenceState first = SequenceState::create(ledger, shapes(), DType::kF16).value();
  first.ssm(0).h.row(1)[2] = 5.0f;
  const Bytes used = ledger.used();
  SequenceState second = std::move(first);
  EXPECT_EQ(second.ssm(0).h.row(1)[2], 5.0f);
  EXPECT_EQ(ledger.used(), used);
}

}  // namespace
}  // namespace axon
