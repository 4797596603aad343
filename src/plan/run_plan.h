#pragma once
// The question before every run: how much, how much is there, does it fit, and if not, what would.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "generate/engine.h"
#include "plan/budget.h"

namespace axon {

// Options in the order in which a user would rather give them up: time, the cache's precision, context, the weights'.
struct Change {
  std::optional<std::uint64_t> chunk;
  std::optional<std::string> kv;
  std::optional<std::string> weights;
  std::optional<std::uint64_t> context;
};
// A change of options, and what the run would then take.
struct Suggestion {
  std::string options;  // as typed: "--context 2048 --weights q4"
  Bytes total;
};
struct SuggestFrom {
  std::uint64_t chunk = 0;            // --prefill-chunk of the run that does not fit
  std::vector<std::string> kv;        // other types of the KV cache, in falling size
  std::uint64_t context_longest = 0;  // worth trying: below the run's, and where memory grows with it
  std::string_view context_option = "--context";
};
// The changes that make a run fit, the least loss first; at most three. Empty when none does. Where a type of the KV
// cache alone is enough, the largest such is among them. `total`: the bytes of the run with a change.
Result<std::vector<Suggestion>> suggest(const std::function<Result<Bytes>(const Change&)>& total,
                                        const SuggestFrom& from, Bytes limit);

struct RunPlan {
  EnginePlan engine;
  Budget budget;
  Bytes total;
  bool fits() const { return total <= budget.limit; }
  const PlanLine& largest() const;
};

Result<RunPlan> plan_run(const ModelFiles& files, const TokenizerShape* tokenizer, const EngineOptions& options,
                         const Budget& budget);

Result<std::vector<Suggestion>> suggest(const ModelFiles& files, const TokenizerShape* tokenizer,
                                        const EngineOptions& options, const Budget& budget,
                                        std::string_view context_option = "--context");

// The refusal in words: the sum, the budget, the largest account, what would fit.
std::string refusal(const RunPlan& plan, const std::vector<Suggestion>& suggestions,
                    std::string_view context_option = "--context");

}  // namespace axon
