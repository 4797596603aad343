#pragma once
// The accounts of an engine plan with their formulas: each line's terms, read off the lists that the engine allocates.

#include <vector>

#include "generate/engine.h"
#include "plan/subject.h"
#include "train/training.h"

namespace axon {

// One account a line. The terms of each sum to its bytes.
std::vector<Account> explained(const Config& config, const EnginePlan& plan, const EngineOptions& options,
                               bool has_tokenizer);
// The same of a training.
std::vector<Account> explained(const Config& config, const EnginePlan& plan, const train::TrainingInputs& inputs,
                               bool has_tokenizer);
// What the accounts do not say: what a batch takes, and data that was not named.
std::vector<std::string> training_notes(const train::TrainingInputs& inputs);

// The same tensors at a precision that the engine does not have: matrices in `precision`, routers in bf16, the
// rest in float32. One account a zone, marked as estimates.
Result<std::vector<Account>> weights_at(const Config& config, const Precision& precision);

}  // namespace axon
