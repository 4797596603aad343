// What must not matter on the way through the model and back: what else is in a row, how it is cut into chunks, what
// went through before. And that nothing is allocated on the way.

#include "model/training_pass.h"

#include <gtest/gtest.h>

#include "memory/no_allocation.h"
#include "model/adapted_model_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

struct Text {
  std::vector<std::uint32_t> ids, starts{0}, labels;
  std::vector<float> factors;
};
Text some_text(std::size_t count, std::uint64_t seed) {
  Text text{.ids = some_ids(count, 41, seed), .labels = some_ids(count, 41, seed + 100), .factors = {}};
  for (std::size_t t = 0; t < count; ++t) {
    if (t % 5 == 2) text.labels[t] = kNoLabel;
    text.factors.push_back(0.5f + 0.01f * static_cast<float>(t));
  }
  return text;
}
Text joined(const std::vector<Text>& parts) {
  Text row{.ids = {}, .starts = {}, .labels = {}, .factors = {}};
  for (const Text& part : parts) {
    row.starts.push_back(static_cast<std::uint32_t>(row.ids.size()));
    row.ids.insert(row.ids.end(), part.ids.begin(), part.ids.end());
    row.labels.insert(row.labels.end(), part.labels.begin(), part.labels.end());
    row.factors.insert(row.factors.end(), part.factors.begin(), part.factors.end());
  }
  return row;
}

struct Out {
  std::vector<float> loss, gradients;
};

// Adds to the gradients.
std::vector<float> there_and_back(TrainingPass& pass, const Text& text) {
  std::vector<float> loss(text.ids.size());
  pass.forward(text.ids, {.tokens = text.ids.size(), .starts = text.starts});
  pass.backward({text.labels, text.factors, loss});
  return loss;
}

Out run(AdaptedModel& adapted, const std::vector<Text>& rows, std::size_t chunk,
        Arithmetic arithmetic = Arithmetic::kExact, std::size_t threads = 1) {
  Ledger ledger(1_GiB);
  const TrainingShape shape = adapted.shape(128, chunk);
  const auto device = adapted.device(shape, ledger, arithmetic, threads);
  TrainingPass pass = ok(TrainingPass::create(adapted.model(), *device, ledger, shape));
  std::ranges::fill(adapted.gradients(), 0.0f);
  Out out;
  for (const Text& row : rows) {
    const std::vector<float> loss = there_and_back(pass, row);
    out.loss.insert(out.loss.end(), loss.begin(), loss.end());
  }
  adapted.adapters().finish_gradients(adapted.pool());
  out.gradients = adapted.gradients();
  return out;
}

class Pass : public ::testing::TestWithParam<AdapterKind> {};
INSTANTIATE_TEST_SUITE_P(All, Pass, ::testing::Values(AdapterKind::kLora, AdapterKind::kDora),
                         [](const auto& test) { return test.param == AdapterKind::kDora ? "Dora" : "Lora"; });

// Sums in another order: float32 rounding, 1e-7 a step.
constexpr double kTolerance = 1e-5;

TEST_P(Pass, ARowOfSequencesEqualsTheSequencesAlone) {
  AdaptedModel adapted(three_block_config(), GetParam());
  const std::vector<Text> parts = {some_text(31, 1), some_text(1, 2), some_text(2, 3), some_text(40, 4)};
  const Out alone = run(adapted, parts, 16), together = run(adapted, {joined(parts)}, 16);
  EXPECT_LE(distance(together.loss, alone.loss), kTolerance);
  EXPECT_LE(distance(together.gradients, alone.gradients), kTolerance);
  // That the sequences do know of each other when they are one would be seen.
  Text one = joined(parts);
  one.starts = {0};
  const Out mixed_up = run(adapted, {one}, 16);
  EXPECT_GT(distance(mixed_up.loss, alone.loss), 100 * kTolerance);
  EXPECT_GT(distance(mixed_up.gradients, alone.gradients), 100 * kTolerance);
}

TEST_P(Pass, ChunksDoNotMatter) {
  AdaptedModel adapted(three_block_config(), GetParam());
  const Text row = joined({some_text(70, 1), some_text(30, 2)});
  const Out whole = run(adapted, {row}, 128);
  for (const std::size_t chunk : {1u, 16u, 64u, 100u}) {
    const Out cut = run(adapted, {row}, chunk);
    EXPECT_LE(distance(cut.loss, whole.loss), kTolerance) << chunk;
    EXPECT_LE(distance(cut.gradients, whole.gradients), kTolerance) << chunk;
  }
}

TEST_P(Pass, WhatWentThroughBeforeIsForgotten) {
  AdaptedModel adapted(three_block_config(), GetParam());
  const Text row = joined({some_text(40, 1), some_text(5, 2)}), other = some_text(100, 3);
  for (const std::size_t threads : {1u, 3u}) {
    Ledger ledger(1_GiB);
    const TrainingShape shape = adapted.shape(128, 16);
    const auto device = adapted.device(shape, ledger, Arithmetic::kExact, threads);
    TrainingPass pass = ok(TrainingPass::create(adapted.model(), *device, ledger, shape));
    const auto gradients_of = [&](const Text& text) {
      std::ranges::fill(adapted.gradients(), 0.0f);
      const std::vector<float> loss = there_and_back(pass, text);
      return std::pair(loss, adapted.gradients());
    };
    const auto first = gradients_of(row);
    gradients_of(other);
    EXPECT_EQ(gradients_of(row), first) << threads;
  }
}

TEST_P(Pass, LossesAreThoseOfTheWayBack) {
  AdaptedModel adapted(three_block_config(), GetParam());
  Ledger ledger(1_GiB);
  const TrainingShape shape = adapted.shape(64, 16);
  const auto device = adapted.device(shape, ledger);
  TrainingPass pass = ok(TrainingPass::create(adapted.model(), *device, ledger, shape));
  const Text row = some_text(64, 1);
  const std::vector<float> back = there_and_back(pass, row);
  std::vector<float> loss(64, -1.0f);
  pass.losses(row.labels, loss);
  EXPECT_EQ(loss, back);
  for (std::size_t t = 0; t < 64; ++t) EXPECT_EQ(loss[t] == 0, row.labels[t] == kNoLabel) << t;
}

// Two terms give the sum of their gradients.
TEST_P(Pass, TermsAdd) {
  AdaptedModel adapted(three_block_config(), GetParam());
  Ledger ledger(1_GiB);
  const TrainingShape shape = adapted.shape(64, 16);
  const auto device = adapted.device(shape, ledger);
  TrainingPass pass = ok(TrainingPass::create(adapted.model(), *device, ledger, shape));
  const Text a = some_text(30, 1);
  Text b = a;
  b.labels = some_text(30, 9).labels;
  std::vector<float> loss_a(30), loss_b(30);
  const auto gradients_of = [&](const std::vector<LossTerm>& terms) {
    std::ranges::fill(adapted.gradients(), 0.0f);
    pass.forward(a.ids, {.tokens = 30, .starts = a.starts});
    pass.backward(terms);
    return adapted.gradients();
  };
  const LossTerm term_a{a.labels, a.factors, loss_a}, term_b{b.labels, b.factors, loss_b};
  std::vector<float> sum = gradients_of({term_a});
  const std::vector<float> second = gradients_of({term_b});
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += second[i];
  EXPECT_LE(distance(gradients_of({term_a, term_b}), sum), kTolerance);
}

// bfloat16 products where the processor has them: eight bits of each factor.
TEST_P(Pass, MixedArithmeticIsNear) {
  AdaptedModel adapted(three_block_config(), GetParam());
  const std::vector<Text> rows = {some_text(100, 1), some_text(60, 2)};
  const Out exact = run(adapted, rows, 16), mixed = run(adapted, rows, 16, Arithmetic::kMixed, 2);
  EXPECT_LE(distance(mixed.loss, exact.loss), 1e-2);
  double dot = 0, squares = 0, expected = 0;
  for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
    const double m = double{mixed.gradients[i]}, e = double{exact.gradients[i]};
    dot += m * e;
    squares += m * m;
    expected += e * e;
  }
  EXPECT_GT(dot / std::sqrt(squares * expected), 0.999);
  EXPECT_NEAR(std::sqrt(squares / expected), 1, 2e-2);
}

TEST_P(Pass, AllocatesNothing) {
  AdaptedModel adapted(three_block_config(), GetParam());
  const Text row = joined({some_text(40, 1), some_text(5, 2)});
  std::vector<float> loss(row.ids.size());
  for (const Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kMixed}) {
    for (const std::size_t threads : {1u, 3u}) {
      Ledger ledger(1_GiB);
      const TrainingShape shape = adapted.shape(64, 16, /*dropout=*/true);
      const auto device = adapted.device(shape, ledger, arithmetic, threads);
      TrainingPass pass = ok(TrainingPass::create(adapted.model(), *device, ledger, shape));
      for (const float dropout : {0.0f, 0.3f}) {
        pass.set_dropout(dropout, 7);
        const NoAllocation guard;
        pass.forward(row.ids, {.tokens = row.ids.size(), .starts = row.starts});
        pass.losses(row.labels, loss);
        pass.backward({row.labels, row.factors, loss});
      }
      EXPECT_TRUE(std::isfinite(loss.front()));
    }
  }
}

}  // namespace
}  // namespace axon
