#pragma once
// The question before every training: how much, does it fit, and if not, which settings would. Every number is
// Training::plan's.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plan/budget.h"
#include "plan/run_plan.h"
#include "train/training.h"

namespace axon {

struct TrainingPlan {
  EnginePlan engine;
  Budget budget;
  Bytes total;
  bool fits() const { return total <= budget.limit; }
};

// From headers alone; without a tokenizer its line is missing. kInvalidArgument as Training::plan.
Result<TrainingPlan> plan_training(const ModelFiles& files, const TokenizerShape* tokenizer,
                                   const train::TrainingInputs& inputs, const Budget& budget);

// The size of a JSONL file as data of a training, from the number of its lines alone: blank and malformed ones count.
// kInvalidArgument when it has none.
Result<train::DataSize> measure_data(const std::string& path);

// Settings in the order in which a user would rather give them up: length, time, then what adapters can learn, and the
// precision of the base.
struct TrainingChange {
  std::optional<std::uint64_t> max_seq_len, chunk, rank;
  std::optional<AdapterKind> adapter;
  std::optional<std::string> target;   // the only one
  std::optional<std::string> weights;  // a WeightFormat
};
train::TrainSettings applied(const train::TrainSettings& settings, const TrainingChange& change);

// What would fit. `options` of each as typed: "--max-seq-len 1024 --chunk 256".
struct TrainingSuggestions {
  std::vector<Suggestion> fitting;  // one setting each; where none is enough alone, one of several together
  Suggestion smallest;              // the least that was tried when nothing fits
};
// For a training that does not fit. `total`: its bytes with a change; an error for one that does not go with the model,
// which is then not offered.
Result<TrainingSuggestions> suggest_training(const std::function<Result<Bytes>(const TrainingChange&)>& total,
                                             const train::TrainSettings& settings, Bytes limit);

// The refusal in words: the sum, the budget, the largest accounts, what would fit.
Result<std::string> training_refusal(const TrainingPlan& plan, const ModelFiles& files, const TokenizerShape* tokenizer,
                                     const train::TrainingInputs& inputs);

}  // namespace axon
