#pragma once
// What a training is, apart from its files: every number that its result depends on, and when it looks up from its
// work.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "model/adapters.h"
#include "thermal/policy.h"
#include "train/data_record.h"
#include "train/schedule.h"

namespace axon::train {

// A step is one batch on every process; an update follows every grad_accum steps.
struct TrainSettings {
  Objective objective = Objective::kSupervised;
  AdapterKind adapter = AdapterKind::kLora;
  std::uint64_t rank = 16;
  double scale = 2.0;  // alpha / rank
  double dropout = 0.0;
  std::vector<std::string> targets{};  // empty: default_targets()

  std::uint64_t batch_size = 1;  // examples, of one process; with `pack` rows
  std::uint64_t grad_accum = 4;
  std::uint64_t max_seq_len = 2048;
  bool pack = false;
  bool mask_prompt = true;
  bool raw_completions = false;
  std::uint64_t seed = 42;

  std::uint64_t max_steps = 0;  // 0: epochs says
  double epochs = 1.0;
  double learning_rate = 2e-4;
  double learning_rate_floor = 0.0;
  std::uint64_t warmup = 10;  // updates
  Decay decay = Decay::kCosine;
  double weight_decay = 0.01;
  double max_grad_norm = 1.0;
  double orpo_lambda = 0.1;

  bool compat = false;        // the Python original's variants (spec sections 8 to 14)
  bool exact = false;         // float32 throughout
  std::uint64_t chunk = 512;  // tokens that go through a layer at once

  // These change no result.
  std::uint64_t eval_every = 0;    // steps; 0: at the end only
  std::uint64_t eval_batches = 0;  // 0: all of the validation data
  std::uint64_t save_every = 100;  // steps
  std::uint64_t keep = 3;          // checkpoints

  Arithmetic arithmetic() const { return exact ? Arithmetic::kExact : Arithmetic::kMixed; }
  std::span<const std::string> wanted_targets() const {
    return targets.empty() ? default_targets() : std::span<const std::string>(targets);
  }
};

// kInvalidArgument names the setting, what it may be and what it is.
Status check_settings(const TrainSettings& settings);

// Names and values of all that a resumed training must have in common with the one that it goes on with.
std::vector<std::pair<std::string, std::string>> fixed_settings(const TrainSettings& settings);
// And the rest of them, for a report.
std::vector<std::pair<std::string, std::string>> all_settings(const TrainSettings& settings);

}  // namespace axon::train
