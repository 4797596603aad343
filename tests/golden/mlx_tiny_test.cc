// Against the original running on MLX: every recorded logit that the original computes rightly, in exact arithmetic,
// within 1e-5 of the largest logit. (Its quantiser's words are compared in src/quant/affine_test.cc.)

#include "golden.h"

namespace axon {
namespace {

using golden::Loaded;
using golden::Recorded;

const Recorded& recorded() {
  static const Recorded r("mlx-tiny/forward.safetensors");
  return r;
}

void expect_close(std::span<const float> came, std::span<const float> expected) {
  EXPECT_LE(golden::largest_difference(came, expected), 1e-5f * golden::largest(expected));
}

TEST(MlxTiny, LogitsOfAShortPrompt) {
  Loaded model(golden::path("mlx-tiny/fp"), 1);
  expect_close(model.logits(recorded().ids("ids_a")), recorded().floats("logits_a"));
}

// 70 tokens: crosses the window of 16 and the original's chunk of 64, and takes its sorted MoE path.
TEST(MlxTiny, LogitsOfABatchAcrossTheWindow) {
  Loaded model(golden::path("mlx-tiny/fp"), 1);
  const auto ids = recorded().ids("ids_b");
  const auto expected = recorded().floats("logits_b");
  for (std::size_t b = 0; b < 2; ++b) {
    expect_close(model.logits(std::span(ids).subspan(b * 70, 70)), std::span(expected).subspan(b * 70 * 256, 70 * 256));
  }
}

// 600 tokens: here the original sees the future (its mask is aligned to each chunk's last row), and SSM states carry
// that into every later row. The judge is an oracle with the true window (tests/golden/README.md).
TEST(MlxTiny, LongPromptHasTheTrueWindowInAnyPieces) {
  const auto ids = recorded().ids("ids_c");
  const Recorded oracle("oracle_c.safetensors");
  const auto rows = oracle.ids("rows");
  const auto expected = oracle.floats("logits");
  for (const std::size_t chunk : {600u, 256u, 37u, 1u}) {
    Loaded model(golden::path("mlx-tiny/fp"), 1, chunk);
    const auto logits = model.logits(ids);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      expect_close(std::span(logits).subspan(rows[i] * 256, 256), std::span(expected).subspan(i * 256, 256));
    }
  }
}

TEST(MlxTiny, QuantisedLinearsWithFloatExperts) {
  Loaded model(golden::path("mlx-tiny/q4_linear_only"), 1);
  expect_close(model.logits(recorded().ids("ids_a")), recorded().floats("q4_linear_only.logits_a"));
}

TEST(MlxTiny, QuantisedLinearsAndExperts) {
  Loaded model(golden::path("mlx-tiny/q4_linear_and_switch"), 1);
  expect_close(model.logits(recorded().ids("ids_a")), recorded().floats("q4_linear_and_switch.logits_a"));
}

// Greedy tokens with the original's caches in place.
TEST(MlxTiny, DecodeWithCaches) {
  Loaded model(golden::path("mlx-tiny/fp"), 1);
  const auto tokens = recorded().ids("decode_kv.tokens");
  const auto expected = recorded().floats("decode_kv.logits");
  golden::ok(model.session->prefill(recorded().ids("ids_a")));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto before = model.session->logits();
    EXPECT_EQ(static_cast<std::size_t>(std::max_element(before.begin(), before.end()) - before.begin()), tokens[i]);
    model.session->step(tokens[i]);
    expect_close(model.session->logits(), std::span(expected).subspan(i * 256, 256));
  }
}

// Prompt, then one token at a time until the ring has wrapped: logits, and the keys that are left in it.
TEST(MlxTiny, DecodeTrimsToTheWindow) {
  Loaded model(golden::path("mlx-tiny/fp"), 1);
  const auto fed = recorded().ids("ids_b");
  const auto expected = recorded().floats("decode_kv_trim.logits");
  golden::ok(model.session->prefill(recorded().ids("ids_a")));
  for (std::size_t i = 0; i < 20; ++i) {
    model.session->step(fed[i]);
    expect_close(model.session->logits(), std::span(expected).subspan(i * 256, 256));
  }
  const auto keys = recorded().floats("decode_kv_trim.k_layer2");  // [1, H, 16, A], oldest first
  const KvCache& ring = model.session->state().kv(2);
  ASSERT_EQ(ring.capacity, 16u);
  ASSERT_EQ(ring.dtype, DType::kF32);
  float difference = 0;
  for (std::size_t h = 0; h < ring.heads; ++h) {
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t slot = (12 + 20 - 16 + i) % 16;
      for (std::size_t a = 0; a < ring.head_dim; ++a) {
        const float came = static_cast<const float*>(ring.k)[(h * 16 + slot) * ring.head_dim + a];
        difference = std::max(difference, std::fabs(came - keys[(h * 16 + i) * ring.head_dim + a]));
      }
    }
  }
  EXPECT_LE(difference, 1e-5f * golden::largest(keys));
}

}  // namespace
}  // namespace axon
