#pragma once
// For tests: a small model with adapters whose values are as after some steps, and rows of tokens through it and back.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/adapters.h"
#include "model/tiny_model_for_test.h"
#include "model/training_pass.h"

namespace axon::testing_model {

// One block of each kind; small enough to differentiate in double, with groups of 32 to quantise.
inline Config three_block_config() {
  Config c = tiny_config();
  c.vocab_size = 41;
  c.hidden_dim = c.d_source_model = c.moe_intermediate_dim = 32;
  c.num_layers = 3;
  c.num_heads = 2;
  c.ssm_d_state = 3;
  c.ssm_d_conv = 3;
  c.ssm_expand = 1;
  c.swa_window_size = 4;
  c.moe_num_experts = 3;
  return c;
}

class AdaptedModel {
 public:
  static constexpr std::size_t kRank = 2;

  explicit AdaptedModel(const Config& config, AdapterKind kind = AdapterKind::kLora) : kind_(kind) {
    const WeightFormat q8{.kind = WeightFormat::kAffine, .bits = 8, .group_size = 32};
    put_model(folder_, config, tiny_tensors(config, 3, q8));
    ModelFiles files = ok(open_model(folder_.path()));
    plan_ = ok(plan_weights(config, files.tensors, {}, 1));
    model_.emplace(ok(Model::load(config, std::move(files.tensors), plan_, ledger_, pool_)));
    const std::vector<std::string> targets = {"all-linear", "experts"};
    const AdapterShape shape{.kind = kind, .scale = 1.5f, .linears = ok(find_linears(config, targets, kRank))};
    Carver measure;
    AdapterSet(measure, shape);
    arena_ = ok(Arena::create(ledger_, account::kAdapters, measure.peak()));
    Carver carver = arena_.carver();
    adapters_ = AdapterSet(carver, shape);
    adapters_.initialise(5);
    adapters_.attach(*model_, pool_, /*fresh=*/true);
    for (const AdapterTensor& t : adapters_.tensors()) {
      const std::span<float> values = adapters_.values_of(t);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const float noise = CounterRng(9, t.first).normal(i);
        if (t.part == AdapterTensor::Part::kB) values[i] = 0.2f * noise;
        if (t.part == AdapterTensor::Part::kMagnitude) values[i] *= 1 + 0.1f * noise;
      }
    }
    adapters_.refresh(pool_);
    gradients_.resize(adapters_.values().size());
    adapters_.learn(gradients_);
  }

  Model& model() { return *model_; }
  AdapterSet& adapters() { return adapters_; }
  std::vector<float>& gradients() { return gradients_; }
  cpu::ThreadPool& pool() { return pool_; }

  TrainingShape shape(std::size_t tokens, std::size_t chunk, bool dropout = false) const {
    const AdapterNeeds needs{.rank = kRank, .dora = kind_ == AdapterKind::kDora, .dropout = dropout, .backward = true};
    return {.row = {.tokens_max = tokens, .chunk = chunk, .needs = needs}, .loss_rows = 5};
  }
  // Of this processor, as wide as the shape asks; the ledger must outlive it.
  std::unique_ptr<cpu::CpuDevice> device(const TrainingShape& shape, Ledger& ledger,
                                         Arithmetic arithmetic = Arithmetic::kExact, std::size_t threads = 1) const {
    cpu::DeviceLimits limits = TrainingPass::limits(model_->config(), shape);
    limits.bf16_cols_max = limits.cols_max;
    return ok(cpu::CpuDevice::create(ledger, limits, threads, arithmetic));
  }

 private:
  AdapterKind kind_;
  Folder folder_;
  Ledger ledger_{1_GiB};
  cpu::ThreadPool pool_{1};
  WeightsPlan plan_;
  std::optional<Model> model_;
  Arena arena_;
  AdapterSet adapters_;
  std::vector<float> gradients_;
};

// The norm of a difference in units of the norm of what is expected.
inline double distance(std::span<const float> came, std::span<const float> expected) {
  EXPECT_EQ(came.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(came.size(), expected.size()); ++i) {
    const double d = double{came[i]} - double{expected[i]};
    difference += d * d;
    norm += double{expected[i]} * double{expected[i]};
  }
  return std::isfinite(difference) && norm > 0 ? std::sqrt(difference / norm) : HUGE_VAL;
}

}  // namespace axon::testing_model
