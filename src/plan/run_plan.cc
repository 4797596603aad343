#include "plan/run_plan.h"

#include <algorithm>

#include "plan/kv_costs.h"

namespace axon {
namespace {

EngineOptions applied(const EngineOptions& options, const Change& change) {
  EngineOptions out = options;
  if (change.chunk) out.session.prefill_chunk = *change.chunk;
  if (change.context) out.session.context = *change.context;
  if (change.kv) {
    Result<KvType> kv = parse_kv_type(*change.kv);
    AXON_CHECK(kv.ok());
    out.session.kv = kv.value();
  }
  if (change.weights) {
    Result<WeightFormat> format = parse_weight_format(*change.weights);
    AXON_CHECK(format.ok());
    out.weights = format.value();
  }
  return out;
}

std::string typed(const Change& change, std::string_view context_option) {
  std::string out;
  if (change.context) out += fmt::format(" {} {}", context_option, *change.context);
  if (change.weights) out += fmt::format(" --weights {}", *change.weights);
  if (change.kv) out += fmt::format(" --kv {}", *change.kv);
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

namespace {

// The search of suggest().
class Suggester {
 public:
  Suggester(const std::function<Result<Bytes>(const Change&)>& total, const SuggestFrom& from, Bytes limit)
      : total_(total), from_(from), limit_(limit) {
    // A smaller piece costs time alone, so it goes first.
    if (from.chunk > 32) chunks_.emplace_back(32);
  }

  Result<std::vector<Suggestion>> search() {
    const Bytes today = AXON_TRY(total_({}));
    const std::vector<std::string> kv = smaller(from_.kv, today, &Change::kv);
    std::vector<std::optional<std::string>> precisions = {std::nullopt};
    for (std::string& p : smaller({"q8", "q6", "q5", "q4", "q3", "q2"}, today, &Change::weights)) {
      precisions.emplace_back(std::move(p));
    }
    for (const auto& weights : precisions) {
      Change change;
      change.weights = weights;
      const bool whole = AXON_TRY(add_first({change}));
      // With the weights as they are a smaller cache is offered beside less context, else in place of it.
      const bool with_kv = (!weights || !whole) && AXON_TRY(add_first(with_each(change, kv)));
      if (!whole && (!weights || !with_kv)) AXON_TRY(add_with_less_context(change));
    }
    if (found_.size() > 3) found_.resize(3);
    return std::move(found_);
  }

 private:
  // Those that take less than today. Bytes alone are known of some files, and some types cannot hold some models: then
  // it is none.
  std::vector<std::string> smaller(const std::vector<std::string>& names, Bytes today,
                                   std::optional<std::string> Change::*option) const {
    std::vector<std::string> out;
    for (const std::string& name : names) {
      Change change;
      change.*option = name;
      Result<Bytes> needed = total_(change);
      if (needed.ok() && needed.value() < today) out.push_back(name);
    }
    return out;
  }
  static std::vector<Change> with_each(const Change& change, const std::vector<std::string>& kv) {
    std::vector<Change> out;
    for (const std::string& name : kv) out.emplace_back(change).kv = name;
    return out;
  }
  Result<bool> add_if_fits(const Change& change) {
    const Bytes needed = AXON_TRY(total_(change));
    if (needed > limit_) return false;
    const std::string options = typed(change, from_.context_option);
    if (!options.empty()) found_.push_back({options, needed});
    return true;
  }
  Result<bool> add_first(const std::vector<Change>& changes) {
    for (Change change : changes) {
      for (const auto& chunk : chunks_) {
        change.chunk = chunk;
        if (AXON_TRY(add_if_fits(change))) return true;
      }
    }
    return false;
  }
  // The longest context that fits, in steps of 256: memory grows with it, so halving finds it.
  Status add_with_less_context(Change change) {
    for (const auto& chunk : chunks_) {
      change.chunk = chunk;
      std::uint64_t low = 0, high = from_.context_longest / 256;
      while (low < high) {
        change.context = (low + high + 1) / 2 * 256;
        if (AXON_TRY(total_(change)) <= limit_) {
          low = *change.context / 256;
        } else {
          high = *change.context / 256 - 1;
        }
      }
      change.context = low * 256;
      if (low > 0 && AXON_TRY(add_if_fits(change))) return Ok{};
    }
    return Ok{};
  }

  const std::function<Result<Bytes>(const Change&)>& total_;
  const SuggestFrom& from_;
  Bytes limit_;
  std::vector<std::optional<std::uint64_t>> chunks_ = {std::nullopt};
  std::vector<Suggestion> found_;
};

}  // namespace

Result<std::vector<Suggestion>> suggest(const std::function<Result<Bytes>(const Change&)>& total,
                                        const SuggestFrom& from, Bytes limit) {
  return Suggester(total, from, limit).search();
}

Result<std::vector<Suggestion>> suggest(const ModelFiles& files, const TokenizerShape* tokenizer,
                                        const EngineOptions& options, const Budget& budget,
                                        std::string_view context_option) {
  const auto total = [&](const Change& change) -> Result<Bytes> {
    return AXON_TRY(Engine::plan(files, tokenizer, applied(options, change))).total();
  };
  SuggestFrom from{
      .chunk = options.session.prefill_chunk,
      .kv = {},
      .context_longest = std::min<std::uint64_t>(options.session.context - 1, files.config.swa_window_size),
      .context_option = context_option};
  // With a cache of each type beside the others there is none to choose.
  if (options.more_kv.empty()) from.kv.assign(kv_ladder().begin(), kv_ladder().end());
  return suggest(total, from, budget.limit);
}

std::string refusal(const RunPlan& plan, const std::vector<Suggestion>& suggestions, std::string_view context_option) {
  std::string out = fmt::format("needs {}, but the budget is {} ({}). The largest account is \"{}\" with {}.",
                                to_string(plan.total), to_string(plan.budget.limit), plan.budget.source,
                                plan.largest().account, to_string(plan.largest().bytes));
  if (suggestions.empty()) {
    return out + fmt::format(" No choice of {}, --weights, --kv and --prefill-chunk fits.", context_option);
  }
  out += " This would fit:";
  for (const Suggestion& s : suggestions) out += fmt::format("\n  {}  ({})", s.options, to_string(s.total));
  return out;
}

}  // namespace axon
