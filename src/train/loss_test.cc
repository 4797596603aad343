// Losses and their gradients against plain formulas over a model in double, and the original's recorded ORPO batch.

#include "train/loss.h"

#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "memory/no_allocation.h"
#include "model/adapted_model_for_test.h"
#include "model/double_model_for_test.h"
#include "train/data_rows.h"

namespace axon::train {
namespace {

using namespace testing_model;

constexpr std::size_t kCapacity = 40;

// A document without its last id, and the ids that follow; every `gap`-th has no target.
Example document(std::size_t tokens, std::uint64_t seed, std::size_t gap) {
  Example example;
  example.sequences[0].ids = some_ids(tokens, 41, seed);
  for (std::size_t t = 0; t < tokens; ++t) example.sequences[0].trained.push_back(t % gap == 0 ? 0 : 1);
  return example;
}
Example pair_of(std::size_t chosen, std::size_t rejected, std::uint64_t seed) {
  Example example = document(chosen, seed, 3);
  example.sequences[1] = document(rejected, seed + 50, 4).sequences[0];
  return example;
}

class Rows {
 public:
  Rows()
      : arena_(ok(Arena::create(ledger_, account::kTrainingData, size()))),
        carver_(arena_.carver()),
        rows(carver_, 4, kCapacity) {}
  Batch batch() { return rows.batch(); }

 private:
  static Bytes size() {
    Carver measure;
    RowBuffers(measure, 4, kCapacity);
    return measure.peak();
  }
  Ledger ledger_{16_MiB};
  Arena arena_;
  Carver carver_;

 public:
  RowBuffers rows;
};

void fill_documents(RowBuffers& rows) {
  rows.open_row();
  rows.example(document(9, 1, 3), 1);
  rows.example(document(2, 2, 5), 2);
  rows.open_row();
  rows.example(document(14, 3, 2), 3);
  rows.open_row();
  rows.example(document(4, 4, 1), 4);  // nothing to learn
}
void fill_pairs(RowBuffers& rows) {
  rows.open_row();
  rows.example(pair_of(9, 6, 1), 1);
  rows.example(pair_of(4, 7, 2), 2);
  rows.open_row();
  rows.example(pair_of(5, 12, 3), 3);
}
// As the original has them: padded to the longest, with labels at their own token.
void fill_compat_pairs(RowBuffers& rows) {
  for (std::uint64_t i = 0; i < 2; ++i) {
    const Example example = pair_of(8 - i, 10, 5 + i);
    rows.open_row();
    for (std::size_t s = 0; s < 2; ++s) {
      const auto place = rows.segment(10, s == 0 ? SegmentRole::kChosen : SegmentRole::kRejected, 1);
      const TokenSequence& sequence = example.sequences[s];
      for (std::size_t t = 0; t < sequence.ids.size(); ++t) {
        place.ids[t] = sequence.ids[t];
        if (sequence.trained[t] != 0) place.labels[t] = sequence.ids[t];
      }
    }
    rows.count_example();
  }
}

// The loss of a batch, written down plainly.
class Plain {
 public:
  Plain(DoubleModel& model, std::size_t hidden, const LossSettings& settings)
      : model_(model), hidden_(hidden), settings_(settings) {}

  // What its gradients are of: the sum over targets or pairs; compat: the mean.
  double operator()(const Batch& batch, const Vec& values) {
    double sum = 0, targets = 0, chosen_targets = 0, pair_count = 0;
    for (const Row& row : batch.rows) {
      for (std::size_t i = 0; i < row.segments.size(); ++i) {
        const auto labels = part(row.labels, row.segments[i]);
        if (settings_.objective == Objective::kSupervised) {
          sum += nll(row, row.segments[i], labels, values);
          targets += count(labels);
        } else if (i % 2 == 0) {
          pair_count += 1;
          chosen_targets += count(labels);
        }
      }
    }
    if (settings_.objective == Objective::kSupervised) return settings_.compat ? sum / targets : sum;
    for (const Row& row : batch.rows) {
      for (std::size_t i = 0; i < row.segments.size(); i += 2) {
        sum += pair(row, row.segments[i], row.segments[i + 1], chosen_targets, pair_count, values);
      }
    }
    return sum;
  }

 private:
  using Labels = std::vector<std::uint32_t>;
  template <class T>
  static std::vector<std::remove_const_t<T>> part(std::span<T> of, const Segment& s) {
    return {of.begin() + s.begin, of.begin() + s.end};
  }
  static double count(const Labels& labels) {
    return static_cast<double>(std::ranges::count_if(labels, [](std::uint32_t l) { return l != kIgnore; }));
  }
  double nll(const Row& row, const Segment& s, const Labels& labels, const Vec& values) {
    DoubleModel::Input in{.ids = part(row.ids, s), .starts = {0}, .labels = labels, .factors = {}};
    in.factors.assign(in.ids.size(), 1.0f);
    return model_.loss(in, values, Vec(in.ids.size() * hidden_));
  }
  static double odds(double logp) { return std::log(std::exp(logp) / (1 - std::exp(logp))); }
  double pair(const Row& row, const Segment& chosen, const Segment& rejected, double chosen_targets, double pair_count,
              const Vec& values) {
    const auto logp = [&](const Segment& s) {
      Labels labels = part(row.labels, s);
      if (settings_.compat) {
        labels.erase(labels.begin());
        labels.push_back(kIgnore);
      }
      return -nll(row, s, labels, values) / count(labels);
    };
    const double c = logp(chosen), r = logp(rejected), log_odds = odds(c) - odds(r);
    if (!settings_.compat) return -c - settings_.lambda * std::log(1 / (1 + std::exp(-log_odds)));
    return nll(row, chosen, part(row.labels, chosen), values) / chosen_targets -
           std::log(1 / (1 + std::exp(-settings_.lambda * log_odds))) / pair_count;
  }

  DoubleModel& model_;
  std::size_t hidden_;
  LossSettings settings_;
};

struct Case {
  LossSettings settings;
  void (*fill)(RowBuffers&);
  const char* name;
};

class Losses : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    All, Losses,
    ::testing::Values(
        Case{{.objective = Objective::kSupervised}, fill_documents, "Supervised"},
        Case{{.objective = Objective::kSupervised, .compat = true}, fill_documents, "CompatSupervised"},
        Case{{.objective = Objective::kPreference, .lambda = 0.7}, fill_pairs, "Pairs"},
        Case{{.objective = Objective::kPreference, .lambda = 0}, fill_pairs, "PairsWithoutOdds"},
        Case{{.objective = Objective::kPreference, .lambda = 0.7, .compat = true}, fill_compat_pairs, "CompatPairs"}),
    [](const auto& test) { return test.param.name; });

Bytes runner_bytes(const LossSettings& settings) {
  Carver measure;
  LossRunner(measure, settings, kCapacity);
  return measure.peak();
}

TEST_P(Losses, AndGradientsAreThoseOfThePlainFormulas) {
  AdaptedModel adapted(three_block_config());
  Rows data;
  GetParam().fill(data.rows);
  const Batch batch = data.batch();
  Ledger ledger(64_MiB);
  ReferenceDevice device(Arithmetic::kExact);
  TrainingPass pass = ok(TrainingPass::create(adapted.model(), device, ledger, adapted.shape(kCapacity, 4)));
  const LossSettings& settings = GetParam().settings;
  const Arena arena = ok(Arena::create(ledger, account::kBatch, runner_bytes(settings)));
  Carver carver = arena.carver();
  LossRunner runner(carver, settings, kCapacity);

  DoubleModel slow(adapted.model(), adapted.adapters());
  Plain plain(slow, adapted.model().config().hidden_dim, settings);
  const Vec values(adapted.adapters().values().begin(), adapted.adapters().values().end());
  const double expected = plain(batch, values);
  const LossSums looked = runner.run(pass, batch, /*learn=*/false);
  EXPECT_EQ(adapted.gradients(), std::vector<float>(values.size())) << "looking is not learning";
  const LossSums sums = runner.run(pass, batch, /*learn=*/true);
  EXPECT_EQ(sums.loss, looked.loss);
  EXPECT_NEAR(settings.compat ? sums.mean() : sums.loss, expected, 1e-5 * expected);
  EXPECT_EQ(sums.tokens, static_cast<double>(batch.tokens));
  const bool pairs = settings.objective == Objective::kPreference;
  EXPECT_EQ(sums.weight, static_cast<double>(pairs ? batch.examples : batch.targets));

  // The processor's device gives the same, and allocates nothing.
  const std::vector<float> gradients = adapted.gradients();
  const TrainingShape shape = adapted.shape(kCapacity, 16);
  const auto processor = adapted.device(shape, ledger);
  TrainingPass fast = ok(TrainingPass::create(adapted.model(), *processor, ledger, shape));
  std::ranges::fill(adapted.gradients(), 0.0f);
  LossSums again;
  {
    const NoAllocation guard;
    again = runner.run(fast, batch, /*learn=*/true);
  }
  for (std::size_t i = 0; i < LossSums::kNumbers; ++i) {
    EXPECT_NEAR(again.numbers()[i], LossSums(sums).numbers()[i], 1e-4) << i;
  }
  EXPECT_LE(distance(adapted.gradients(), gradients), 1e-4);

  // Along some directions, and that of the gradient itself.
  double norm = 0;
  for (const float g : adapted.gradients()) norm += double{g} * double{g};
  norm = std::sqrt(norm);
  for (std::uint64_t d = 0; d < 6; ++d) {
    Vec direction(values.size()), above = values, below = values;
    double length = 0, slope = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      direction[i] = d == 0 ? double{adapted.gradients()[i]} : double{CounterRng(d).normal(i)};
      length += direction[i] * direction[i];
    }
    const double step = 1e-5 / std::sqrt(length);
    for (std::size_t i = 0; i < values.size(); ++i) {
      slope += double{adapted.gradients()[i]} * direction[i] / std::sqrt(length);
      above[i] += step * direction[i];
      below[i] -= step * direction[i];
    }
    const double difference = (plain(batch, above) - plain(batch, below)) / 2e-5;
    EXPECT_NEAR(slope, difference, 2e-4 * norm) << d;
  }
}

TEST(PairLosses, NumbersOfEachPair) {
  AdaptedModel adapted(three_block_config());
  Ledger ledger(64_MiB);
  const TrainingShape shape = adapted.shape(kCapacity, 16);
  const auto device = adapted.device(shape, ledger);
  TrainingPass pass = ok(TrainingPass::create(adapted.model(), *device, ledger, shape));
  const LossSettings settings{.objective = Objective::kPreference, .lambda = 0.5};
  const Arena arena = ok(Arena::create(ledger, account::kBatch, runner_bytes(settings)));
  Carver carver = arena.carver();
  LossRunner runner(carver, settings, kCapacity);
  LossSums all, apart;
  for (int which = 0; which < 3; ++which) {  // 2: both in one row
    Rows data;
    data.rows.open_row();
    if (which != 1) data.rows.example(pair_of(9, 6, 1), 1);
    if (which != 0) data.rows.example(pair_of(4, 7, 2), 2);
    const LossSums sums = runner.run(pass, data.batch(), false);
    (which == 2 ? all : apart) += sums;
    if (which == 2) continue;
    EXPECT_EQ(sums.weight, 1);
    EXPECT_DOUBLE_EQ(sums.nll, -sums.chosen);
    EXPECT_DOUBLE_EQ(sums.margin, sums.chosen - sums.rejected);
    EXPECT_EQ(sums.better, sums.chosen > sums.rejected ? 1 : 0);
    EXPECT_DOUBLE_EQ(sums.loss, sums.nll + 0.5 * sums.odds);
  }
  for (std::size_t i = 0; i < LossSums::kNumbers; ++i) EXPECT_NEAR(all.numbers()[i], apart.numbers()[i], 1e-5) << i;
}

// What the original says of two pairs (spec section 22), in float32 on both sides.
TEST(PairLosses, EqualTheOriginals) {
  const std::string golden = AXON_SOURCE_DIR "/tests/golden/mlx-tiny";
  ModelFiles files = ok(open_model(golden + "/fp"));
  const Config config = files.config;
  Ledger ledger(1_GiB);
  cpu::ThreadPool pool(1);
  const WeightsPlan plan = ok(plan_weights(config, files.tensors, {}, 1));
  const Model model = ok(Model::load(config, std::move(files.tensors), plan, ledger, pool));
  const TrainingShape shape{.row = {.tokens_max = kCapacity, .chunk = 16, .needs = {}}, .loss_rows = 16};
  ReferenceDevice device(Arithmetic::kExact);
  TrainingPass pass = ok(TrainingPass::create(model, device, ledger, shape));
  const LossSettings settings{.objective = Objective::kPreference, .lambda = 0.1, .compat = true};
  const Arena arena = ok(Arena::create(ledger, account::kBatch, runner_bytes(settings)));
  Carver carver = arena.carver();
  LossRunner runner(carver, settings, kCapacity);

  const Safetensors recorded = ok(Safetensors::open(golden + "/misc.safetensors"));
  const auto integers = [&](const std::string& name) {
    const TensorView* view = recorded.find("orpo." + name);
    std::vector<std::int32_t> out(view->shape.elements());
    std::copy_n(view->bytes.data(), view->bytes.size(), reinterpret_cast<std::byte*>(out.data()));
    return out;
  };
  const auto number = [&](const std::string& name) {
    return double{load_float(DType::kF32, recorded.find("orpo." + name)->bytes.data(), 0)};
  };
  const std::size_t width = 20;
  Rows data;
  for (std::size_t row = 0; row < 2; ++row) {
    data.rows.open_row();
    for (const bool chosen : {true, false}) {
      const std::string side = chosen ? "chosen" : "rejected";
      const auto ids = integers(side), labels = integers(side + "_labels");
      ASSERT_EQ(ids.size(), 2 * width);
      const auto place = data.rows.segment(width, chosen ? SegmentRole::kChosen : SegmentRole::kRejected, 1);
      for (std::size_t t = 0; t < width; ++t) {
        place.ids[t] = static_cast<TokenId>(ids[row * width + t]);
        const std::int32_t label = labels[row * width + t];
        place.labels[t] = label < 0 ? kIgnore : static_cast<std::uint32_t>(label);
      }
    }
  }
  const LossSums sums = runner.run(pass, data.batch(), /*learn=*/false);
  const auto expect = [&](double sum, const char* name) {
    EXPECT_NEAR(sum / sums.weight, number(name), 2e-6 * std::max(1.0, std::fabs(number(name)))) << name;
  };
  EXPECT_EQ(sums.weight, 2);
  expect(sums.loss, "total");
  expect(sums.nll, "nll_loss");
  expect(sums.odds, "orpo_loss");
  expect(sums.chosen, "chosen_logps");
  expect(sums.rejected, "rejected_logps");
  expect(sums.margin, "reward_margin");
}

}  // namespace
}  // namespace axon::train
