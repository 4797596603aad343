#pragma once
// Training: everything that a training needs, planned as one list of accounts and granted by one ledger, as Engine is
// for a run. What happens in it, step by step, is the Trainer's (train/trainer.h).

#include <memory>
#include <optional>
#include <string>

#include "generate/engine.h"
#include "model/adapters.h"
#include "model/training_pass.h"
#include "train/data_batches.h"
#include "train/data_set.h"
#include "train/loss.h"
#include "train/optimizer.h"
#include "train/settings.h"

namespace axon::train {

// What is known of the data before it is read.
struct DataSize {
  std::uint64_t examples = 0;  // or lines, which are at least as many; 0: not known, and not counted
  Bytes index;                 // JsonlExamples' account
};

struct TrainingInputs {
  TrainSettings settings;
  WeightFormat weights{};
  std::size_t threads = 1;
  std::size_t ranks = 1, rank = 0;  // processes, and which of them this is
  DataSize data, validation;
};

class Training {
 public:
  // From headers alone. Without a tokenizer its line is missing. kInvalidArgument for settings that do not go with the
  // model.
  static Result<EnginePlan> plan(const Config& config, const Safetensors& tensors, const TokenizerShape* tokenizer,
                                 const TrainingInputs& inputs);
  static Result<AdapterShape> adapter_shape(const Config& config, const TrainSettings& settings);
  static Result<TrainingShape> shape(const Config& config, const WeightsPlan& weights, const TrainSettings& settings);

  // Opens one dataset, with its share of the plan: of max_seq_len tokens, and pairs if the objective is preference.
  using OpenData = std::function<Result<std::unique_ptr<ExampleSource>>(const Tokenizer*, Ledger&)>;
  struct Data {
    OpenData train, validation;  // validation may be empty
  };

  // Reads the data, then reserves what its real size needs, loads, and stands ready. kOverBudget when `limit` is below
  // the plan. `tokenizer` may be null for data that are ids already.
  static Result<std::unique_ptr<Training>> create(ModelFiles files, const TokenizerShape* tokenizer,
                                                  std::string_view tokenizer_json, const TrainingInputs& inputs,
                                                  const Data& data, Bytes limit, const Model::Progress& progress = {});

  const EnginePlan& plan() const { return plan_; }  // with the data's real size
  const Ledger& ledger() const { return ledger_; }
  const TrainSettings& settings() const { return inputs_.settings; }
  const TrainingInputs& inputs() const { return inputs_; }
  const Config& config() const { return model_->config(); }
  const Model& model() const { return *model_; }
  const std::string& fingerprint() const { return fingerprint_; }
  cpu::CpuDevice& device() { return *device_; }
  AdapterSet& adapters() { return adapters_; }
  std::span<float> gradients() const { return gradients_; }
  AdamW& optimizer() { return optimizer_; }
  TrainingPass& pass() { return *pass_; }
  LossRunner& losses() { return *losses_; }
  const ExampleSource& data() const { return *data_; }
  Batches& batches() { return *batches_; }
  bool validates() const { return validation_ != nullptr; }
  // From the start of the validation data: a single pass.
  Result<Batches*> validation_batches();

 private:
  explicit Training(Bytes limit) : ledger_(limit) {}
  static bool rounds_input(const WeightsPlan& weights, const TrainSettings& settings);
  Status open_data(const Data& data);
  Status reserve(const Config& config);

  Ledger ledger_;  // first, so that it outlives what it granted
  TrainingInputs inputs_;
  EnginePlan plan_;
  std::string fingerprint_;
  Reservation process_, text_;
  std::unique_ptr<cpu::CpuDevice> device_;
  std::optional<Tokenizer> tokenizer_;
  std::unique_ptr<ExampleSource> data_, validation_;
  std::optional<Batches> batches_, validation_batches_;
  std::optional<Model> model_;
  Arena adapter_arena_, gradient_arena_, optimizer_arena_, batch_arena_;
  AdapterSet adapters_;
  std::span<float> gradients_;
  AdamW optimizer_;
  std::optional<TrainingPass> pass_;
  std::optional<LossRunner> losses_;
};

}  // namespace axon::train
