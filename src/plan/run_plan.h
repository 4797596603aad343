#pragma once
// The question before every run: how much, how much is there, does it fit, and if not, what would.

#include <optional>
#include <string>
#include <vector>

#include "generate/engine.h"
#include "memory/system.h"

namespace axon {

// What a run may take, and who says so.
struct Budget {
  Bytes limit;
  std::string source;  // "--memory-budget", "available memory" or "control group limit"
};
// The given size, or what the machine can spare now.
Budget decide_budget(std::optional<Bytes> given, const SystemMemory& system);

// A change of options, and what the run would then take.
struct Suggestion {
  std::string options;  // as typed: "--context 2048 --weights q4"
  Bytes total;
};

struct RunPlan {
  EnginePlan engine;
  Budget budget;
  Bytes total;
  bool fits() const { return total <= budget.limit; }
  const PlanLine& largest() const;
};

Result<RunPlan> plan_run(const ModelFiles& files, const TokenizerShape* tokenizer, const EngineOptions& options,
                         const Budget& budget);

// The changes that make a run fit, the least loss first; at most three. Empty when none does.
Result<std::vector<Suggestion>> suggest(const ModelFiles& files, const TokenizerShape* tokenizer,
                                        const EngineOptions& options, const Budget& budget);

// The refusal in words: the sum, the budget, the largest account, what would fit.
std::string refusal(const RunPlan& plan, const std::vector<Suggestion>& suggestions);

}  // namespace axon
