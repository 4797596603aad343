#include "quant/turboquant_layout.h"

#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "quant/turboquant_test_data.h"

namespace axon::turboquant {
namespace {

const Layout& named(std::string_view name) { return *find_layout(name); }

TEST(TurboquantLayout, BytesOfAPair) {
  EXPECT_EQ(pair_bytes(named("tq3"), 80), 52u);
  EXPECT_EQ(pair_bytes(named("lm3"), 80), 52u);
  EXPECT_EQ(pair_bytes(named("tq3.5"), 80), 69u);
  EXPECT_EQ(pair_bytes(named("tq4"), 80), 84u);
  EXPECT_EQ(find_layout("tq5"), nullptr);
}

TEST(TurboquantLayout, AWindowOf4096FitsItsShareOfTheOriginalPagesBudget) {
  const auto bytes = [](std::string_view name) { return plan_head(named(name), 80, 4096).value().bytes.count; };
  EXPECT_LE(bytes("tq3"), 218'453u);
  EXPECT_LE(bytes("lm3"), 218'453u);
  EXPECT_LE(bytes("tq3.5"), 286'720u);
  EXPECT_LE(bytes("tq4"), 348'160u);
  EXPECT_GE(4096.0 * 320 / static_cast<double>(bytes("tq3")), 6.0);  // of half precision
  EXPECT_LE(8.0 * static_cast<double>(bytes("tq3")) / (4096 * 160), 426.67 / 160);
}

// Regions of a head in order, each on its line, none over another.
TEST(TurboquantLayout, RegionsFollowOneAnotherOnLines) {
  for (const Layout& layout : layouts()) {
    for (const std::size_t dim : {16u, 80u, 128u, 208u}) {
      for (const std::uint64_t window : {1u, 8u, 39u, 40u, 41u, 100u, 512u, 4095u, 4096u, 65536u}) {
        const HeadPlan plan = plan_head(layout, dim, window).value();
        std::size_t end = sizeof(HeadHeader), tokens = 0;
        for (std::size_t i = 0; i < plan.tiles; ++i) {
          const std::size_t n = plan.tokens_of_tile(i);
          const TileOffsets at = tile_offsets(layout, dim, n);
          EXPECT_EQ(plan.offset_of_tile(i), end);
          EXPECT_GE(at.key_scales, n * code_bytes(layout.key, dim));
          EXPECT_GE(at.value_codes, at.key_scales + n * scale_bytes(layout.scale));
          EXPECT_GE(at.value_scales, at.value_codes + n * code_bytes(layout.value, dim));
          EXPECT_GE(at.bytes, at.value_scales + kLineBytes);  // a kernel may read a line past the codes
          for (const std::size_t offset : {at.key_scales, at.value_codes, at.value_scales, at.bytes}) {
            EXPECT_EQ(offset % kLineBytes, 0u);
          }
          EXPECT_EQ(n % kGroupTokens, 0u);
          EXPECT_EQ(n % kFlushTokens, 0u);
          end += at.bytes;
          tokens += n;
        }
        EXPECT_EQ(tokens, plan.coded_tokens);
        EXPECT_EQ(plan.tail_at, end);
        EXPECT_EQ(plan.bytes.count, end + tail_offsets(dim, plan.tail_tokens).bytes);
      }
    }
  }
}

// Tokens come one by one; a full tail first codes its oldest. All of the window must be there after each.
TEST(TurboquantLayout, EveryTokenOfTheWindowHasItsPlace) {
  for (const Layout& layout : layouts()) {
    for (const std::uint64_t window : {1u, 33u, 40u, 41u, 47u, 48u, 512u, 1000u}) {
      const HeadPlan plan = plan_head(layout, 80, window).value();
      std::size_t tail = 0, coded = 0, seen = 0;
      for (std::size_t t = 0; t < 3 * window + 100; ++t) {
        if (plan.coded_tokens == 0) {
          tail = std::min(tail + 1, plan.tail_tokens);
        } else {
          if (tail == plan.tail_tokens) {
            tail -= kFlushTokens;
            coded = std::min(coded + kFlushTokens, plan.coded_tokens);
          }
          ++tail;
        }
        ++seen;
        ASSERT_GE(tail + coded, std::min<std::size_t>(seen, window)) << layout.name << " " << window;
      }
      EXPECT_LT(plan.coded_tokens + plan.tail_tokens, window + 2 * kFlushTokens + kFlushTokens);
    }
  }
}

TEST(TurboquantLayout, WholeTilesOfTq3AreTheNoted3328Bytes) {
  const TileOffsets at = tile_offsets(named("tq3"), 80);
  EXPECT_EQ(at.key_scales, 1920u);
  EXPECT_EQ(at.value_codes, 1984u);
  EXPECT_EQ(at.value_scales, 3264u);
  EXPECT_EQ(at.bytes, 3328u);
}

TEST(TurboquantLayout, BadPlansAreRefused) {
  EXPECT_EQ(plan_head(named("tq3"), 72, 4096).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(plan_head(named("tq3"), 80, 0).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(plan_head(named("tq3"), 80, ~std::uint64_t{0}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(plan_head(named("tq3"), 1024, std::uint64_t{1} << 40).ok());
}

// These numbers are in saved states: a change of any table, sign or size changes them and must be meant.
TEST(TurboquantLayout, CodebookIdsStandForWhatIsWritten) {
  EXPECT_EQ(codebook_id(named("tq4"), 80), 0x4C2320CD73A159D4ull);
  EXPECT_EQ(codebook_id(named("tq3.5"), 80), 0x87E0D5D83E420184ull);
  EXPECT_EQ(codebook_id(named("tq3"), 80), 0xADDB6FDDF2778A03ull);
  EXPECT_EQ(codebook_id(named("lm3"), 80), 0x6E22D779105995CCull);
  EXPECT_NE(codebook_id(named("tq3"), 64), codebook_id(named("tq3"), 80));
}

TEST(TurboquantScale, EveryByteComesBack) {
  for (const int exponent : {-20, 0, 7}) {
    for (std::uint16_t b = 0; b < 256; ++b) {
      const float value = load_scale(ScaleKind::kByte, b, exponent);
      EXPECT_EQ(store_scale(ScaleKind::kByte, value, exponent).bits, b);
      if (b > 0) {
        EXPECT_NEAR(value, std::exp2(static_cast<float>(exponent) + (static_cast<float>(b) - 128.0f) / 32.0f),
                    1e-6f * value);
      }
    }
  }
}

TEST(TurboquantScale, TheNearestStepIsStored) {
  const CounterRng rng(31);
  double square = 0;
  constexpr int kCount = 20000;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const float scale = std::exp2(7.8f * static_cast<float>(rng.uniform(i)) - 3.9f);
    const StoredScale stored = store_scale(ScaleKind::kByte, scale, 0);
    EXPECT_FALSE(stored.saturated);
    const double octaves = std::log2(static_cast<double>(scale / load_scale(ScaleKind::kByte, stored.bits, 0)));
    EXPECT_LE(std::fabs(octaves), 1.0 / 64 + 1e-6);
    square += octaves * octaves;
  }
  EXPECT_NEAR(std::sqrt(square / kCount) * std::log(2.0), 0.0063, 0.0002);
}

TEST(TurboquantScale, BeyondTheEndsIsSaturated) {
  EXPECT_EQ(store_scale(ScaleKind::kByte, 16.0f, 0).bits, 255);
  EXPECT_TRUE(store_scale(ScaleKind::kByte, 16.0f, 0).saturated);
  EXPECT_FALSE(store_scale(ScaleKind::kByte, 16.0f, 1).saturated);
  EXPECT_EQ(store_scale(ScaleKind::kByte, 0.04f, 0).bits, 1);
  EXPECT_EQ(store_scale(ScaleKind::kByte, 0.03f, 0).bits, 0);
  EXPECT_TRUE(store_scale(ScaleKind::kByte, 0.03f, 0).saturated);
  EXPECT_TRUE(store_scale(ScaleKind::kHalf, 70000.0f, 0).saturated);
  EXPECT_TRUE(std::isfinite(load_scale(ScaleKind::kHalf, store_scale(ScaleKind::kHalf, 1e30f, 0).bits, 0)));
  EXPECT_TRUE(store_scale(ScaleKind::kHalf, 1e-6f, 0).saturated);
  EXPECT_FALSE(store_scale(ScaleKind::kHalf, 1e-6f, -20).saturated);
  EXPECT_FALSE(store_scale(ScaleKind::kHalf, 0.0f, 0).saturated);
}

TEST(TurboquantScale, TheSharedExponentIsTheNearestPowerOfTwo) {
  EXPECT_EQ(scale_exponent(1.0f), 0);
  EXPECT_EQ(scale_exponent(1.4f), 0);
  EXPECT_EQ(scale_exponent(1.45f), 1);
  EXPECT_EQ(scale_exponent(0.26f), -2);
  EXPECT_EQ(scale_exponent(0.0f), 0);
}

// Norms that vary by 25 %, as the nano model's do (15 to 24 %): the first vector's exponent serves all.
TEST(TurboquantScale, HardlyAnyVectorSaturates) {
  const std::vector<float> rows = gaussian(20000, 32);
  const Coder coder{Code::kScalar3};
  std::vector<std::uint8_t> codes(30);
  std::vector<float> x(kDim);
  const CounterRng rng(33);
  std::size_t saturated = 0;
  int exponent = 0;
  for (std::size_t n = 0; n < 20000; ++n) {
    const float norm = std::exp(0.25f * rng.normal(n));
    for (std::size_t i = 0; i < kDim; ++i) x[i] = norm * row(rows, n)[i];
    const float scale = coder.encode(x, codes).value();
    if (n == 0) exponent = scale_exponent(scale);
    saturated += store_scale(ScaleKind::kByte, scale, exponent).saturated;
    saturated += store_scale(ScaleKind::kHalf, scale, exponent).saturated;
  }
  EXPECT_LT(static_cast<double>(saturated), 1e-4 * 20000);
}

}  // namespace
}  // namespace axon::turboquant
