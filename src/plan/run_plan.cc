#include "plan/run_plan.h"

#include <algorithm>

namespace axon {
namespace {

EngineOptions applied(const EngineOptions& options, const Change& change) {
  EngineOptions out = options;
  if (change.chunk) out.session.prefill_chunk = *change.chunk;
  if (change.context) out.session.context = *change.context;
  if (change.weights) {
    Result<WeightFormat> format = parse_weight_format(*change.weights);
    AXON_CHECK(format.ok());
    out.weights = format.value();
  }
  return out;
}

std::string typed(const Change& change) {
  std::string out;
  if (change.context) out += fmt::format(" --context {}", *change.context);
  if (change.weights) out += fmt::format(" --weights {}", *change.weights);
  if (change.chunk) out += fmt::format(" --prefill-chunk {}", *change.chunk);
  return out.substr(out.empty() ? 0 : 1);
}

}  // namespace

const PlanLine& RunPlan::largest() const {
  return *std::max_element(engine.lines.begin(), engine.lines.end(),
                           [](const PlanLine& a, const PlanLine& b) { return a.bytes < b.bytes; });
}

Result<RunPlan> plan_run(const ModelFiles& files, const TokenizerShape* tokenizer, const EngineOptions& options,
                         const Budget& budget) {
  RunPlan plan{.engine = AXON_TRY(Engine::plan(files, tokenizer, options)), .budget = budget, .total = {}};
  plan.total = plan.engine.total();
  return plan;
}

Result<std::vector<Suggestion>> suggest(const std::function<Result<Bytes>(const Change&)>& total,
                                        const SuggestFrom& from, Bytes limit) {
  std::vector<std::optional<std::string>> precisions = {std::nullopt};
  const Bytes today = AXON_TRY(total({}));
  for (const char* p : {"q8", "q6", "q5", "q4", "q3", "q2"}) {
    // Only what is smaller than today's weights is a way out. Bytes alone are known of some files: then none is.
    Result<Bytes> needed = total({.chunk = {}, .weights = p, .context = {}});
    if (needed.ok() && needed.value() < today) precisions.emplace_back(p);
  }
  // A smaller piece costs time alone, so it goes before context.
  std::vector<std::optional<std::uint64_t>> chunks = {std::nullopt};
  if (from.chunk > 32) chunks.emplace_back(32);
  std::vector<Suggestion> found;
  const auto add_if_fits = [&](const Change& change) -> Result<bool> {
    const Bytes needed = AXON_TRY(total(change));
    if (needed > limit) return false;
    if (!typed(change).empty()) found.push_back({typed(change), needed});
    return true;
  };
  // The longest context that fits, in steps of 256: memory grows with it, so halving finds it.
  const auto longest_context = [&](Change change) -> Result<std::uint64_t> {
    std::uint64_t low = 0, high = from.context_longest / 256;
    while (low < high) {
      change.context = (low + high + 1) / 2 * 256;
      if (AXON_TRY(total(change)) <= limit) {
        low = *change.context / 256;
      } else {
        high = *change.context / 256 - 1;
      }
    }
    return low * 256;
  };
  for (const auto& weights : precisions) {
    if (found.size() == 3) break;
    bool fits = false;
    for (const auto& chunk : chunks) {
      if (!fits) fits = AXON_TRY(add_if_fits({.chunk = chunk, .weights = weights, .context = {}}));
    }
    for (const auto& chunk : chunks) {
      if (fits) break;
      Change change{.chunk = chunk, .weights = weights, .context = {}};
      change.context = AXON_TRY(longest_context(change));
      fits = *change.context > 0 && AXON_TRY(add_if_fits(change));
    }
  }
  return found;
}

Result<std::vector<Suggestion>> suggest(const ModelFiles& files, const TokenizerShape* tokenizer,
                                        const EngineOptions& options, const Budget& budget) {
  const auto total = [&](const Change& change) -> Result<Bytes> {
    return AXON_TRY(Engine::plan(files, tokenizer, applied(options, change))).total();
  };
  return suggest(
      total,
      {.chunk = options.session.prefill_chunk,
       .context_longest = std::min<std::uint64_t>(options.session.context - 1, files.config.swa_window_size)},
      budget.limit);
}

std::string refusal(const RunPlan& plan, const std::vector<Suggestion>& suggestions) {
  std::string out = fmt::format("needs {}, but the budget is {} ({}). The largest account is \"{}\" with {}.",
                                to_string(plan.total), to_string(plan.budget.limit), plan.budget.source,
                                plan.largest().account, to_string(plan.largest().bytes));
  if (suggestions.empty()) return out + " No choice of --context, --weights and --prefill-chunk fits.";
  out += " This would fit:";
  for (const Suggestion& s : suggestions) out += fmt::format("\n  {}  ({})", s.options, to_string(s.total));
  return out;
}

}  // namespace axon
