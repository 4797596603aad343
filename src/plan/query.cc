#include "plan/query.h"

#include <algorithm>
#include <set>

#include "memory/ledger.h"
#include "plan/kv_costs.h"
#include "plan/run_plan.h"
#include "plan/training_plan.h"

namespace axon {
namespace {

std::uint64_t longest_context(const SubjectFacts& facts) { return facts.context_max != 0 ? facts.context_max : 4096; }

Result<PlanCell> cell_of(const Subject& subject, const RunChoice& choice, Bytes limit) {
  PlanCell cell;
  cell.choice = choice;
  cell.footprint = AXON_TRY(subject.footprint(choice));
  cell.fits = cell.footprint.total() <= limit;
  return cell;
}

Status add_cells(const Subject& subject, const PlanQuery& query, PlanReport& report) {
  if (report.contexts.size() * report.weights.size() * report.kv.size() > kCellsMax) {
    return make_error(ErrorCode::kInvalidArgument, "{} x {} x {} choices are more than {}", report.contexts.size(),
                      report.weights.size(), report.kv.size(), kCellsMax);
  }
  for (const std::string& kv : report.kv) {
    for (const std::string& weights : report.weights) {
      for (const std::uint64_t context : report.contexts) {
        RunChoice choice = query.base;
        choice.context = context;
        choice.weights = weights;
        choice.kv = kv;
        report.cells.push_back(AXON_TRY(cell_of(subject, choice, query.budget.limit)));
      }
    }
  }
  return Ok{};
}

// Powers of two from 1,024 to the model's maximum or the longest that was asked for, whichever is more; and the windows
// of its layers, where a line bends.
Status add_curve(const Subject& subject, const PlanQuery& query, PlanReport& report) {
  const std::uint64_t end =
      std::max(longest_context(report.facts), *std::max_element(report.contexts.begin(), report.contexts.end()));
  RunChoice choice = report.cells.front().choice;
  std::set<std::uint64_t> contexts = {end};
  for (std::uint64_t context = 1024; context != 0 && context < end; context *= 2) contexts.insert(context);
  for (const SubjectFacts::LayerKind& kind : report.facts.layers) {
    const std::uint64_t window = choice.window.value_or(kind.window);
    if (window >= 256 && window < end) contexts.insert(window);
  }
  for (const std::uint64_t context : contexts) {
    choice.context = context;
    report.curve.push_back(AXON_TRY(cell_of(subject, choice, query.budget.limit)));
  }
  return Ok{};
}

// What is smaller than the types before it, and than the run's own.
Status add_smaller_kv(const Subject& subject, PlanReport& report) {
  const PlanCell& cell = report.cells.front();
  const Account* own = cell.footprint.find(account::kKvCache);
  if (!report.facts.runs_here || own == nullptr) return Ok{};
  Bytes least = own->bytes;
  for (const std::string_view name : kv_ladder()) {
    RunChoice choice = cell.choice;
    choice.kv = name;
    const Footprint footprint = AXON_TRY(subject.footprint(choice));
    const Account* cache = footprint.find(account::kKvCache);
    if (cache == nullptr || cache->estimate || cache->bytes >= least) continue;
    least = cache->bytes;
    report.smaller_kv.push_back({choice.kv, cache->bytes, own->bytes - cache->bytes, footprint.total()});
  }
  return Ok{};
}

// Ways out for a single run that does not fit.
Status add_ways(const Subject& subject, const PlanQuery& query, PlanReport& report) {
  const PlanCell& cell = report.cells.front();
  const auto total = [&](const Change& change) -> Result<Bytes> {
    RunChoice choice = cell.choice;
    if (change.chunk) choice.prefill_chunk = *change.chunk;
    if (change.context) choice.context = *change.context;
    if (change.weights) choice.weights = *change.weights;
    if (change.kv) choice.kv = *change.kv;
    const Footprint footprint = AXON_TRY(subject.footprint(choice));
    if (cell.footprint.cannot_run.empty() && !footprint.cannot_run.empty()) {
      return make_error(ErrorCode::kUnsupported, "{}", footprint.cannot_run);
    }
    return footprint.total();
  };
  std::uint64_t longest = cell.choice.context - 1;
  for (const SubjectFacts::LayerKind& kind : report.facts.layers) {
    // Above the window of our own models, less context saves nothing.
    const std::uint64_t window = kind.window == 0 ? 0 : cell.choice.window.value_or(kind.window);
    if (report.facts.runs_here && window != 0) longest = std::min(longest, window);
  }
  const SuggestFrom from{
      .chunk = cell.choice.prefill_chunk, .kv = {kv_ladder().begin(), kv_ladder().end()}, .context_longest = longest};
  for (const Suggestion& s : AXON_TRY(suggest(total, from, query.budget.limit))) {
    report.ways.push_back({s.options, s.total});
  }
  return Ok{};
}

Status add_training(const Subject& subject, const PlanQuery& query, PlanReport& report) {
  report.train = *query.train;
  report.training = AXON_TRY(train_footprint(subject, *query.train));
  if (!report.facts.runs_here || report.training->total() <= query.budget.limit) return Ok{};
  const auto total = [&](const TrainingChange& change) -> Result<Bytes> {
    TrainChoice choice = *query.train;
    choice.settings = applied(choice.settings, change);
    if (change.weights) choice.weights = *change.weights;
    return AXON_TRY(train_footprint(subject, choice)).total();
  };
  const TrainingSuggestions found = AXON_TRY(suggest_training(total, query.train->settings, query.budget.limit));
  for (const Suggestion& s : found.fitting) report.ways.push_back({s.options, s.total});
  return Ok{};
}

// Commands are to be typed as they stand, so they carry the budget.
void add_budget(const PlanQuery& query, Solution& solution) {
  const auto complete = [&](Option& option) {
    const bool plans = option.command.starts_with("bit-axon plan");
    if (solution.what == SolveFor::kTrain) option.command += query.train_options;
    option.command += plans ? query.machine_options + query.budget_options : query.budget_options;
  };
  if (solution.best) complete(*solution.best);
  for (Option& option : solution.cheaper) complete(option);
  for (Option& option : solution.also) complete(option);
  if (solution.smallest) complete(*solution.smallest);
}

}  // namespace

Result<PlanReport> answer(const Subject& subject, const PlanQuery& query) {
  PlanReport report;
  report.facts = subject.facts();
  report.machine = query.machine;
  report.budget = query.budget;
  std::vector<std::string> kv = query.kv;
  if (kv.empty()) kv = {query.base.exact && report.facts.runs_here ? "fp32" : "fp16"};
  if (query.train) {
    AXON_TRY(add_training(subject, query, report));
  } else {
    report.contexts = query.contexts;
    if (report.contexts.empty()) report.contexts = {0};
    std::replace(report.contexts.begin(), report.contexts.end(), std::uint64_t{0}, longest_context(report.facts));
    report.weights = query.weights;
    report.kv = kv;
    AXON_TRY(add_cells(subject, query, report));
    if (query.curve) AXON_TRY(add_curve(subject, query, report));
    if (report.cells.size() == 1) AXON_TRY(add_smaller_kv(subject, report));
    if (report.cells.size() == 1 && !report.cells.front().fits) AXON_TRY(add_ways(subject, query, report));
  }
  for (const SolveFor what : query.solve) {
    RunChoice choice = query.base;
    choice.context = query.contexts.empty() ? 0 : query.contexts.front();
    choice.weights = query.weights.front();
    choice.kv = kv.front();
    report.solutions.push_back(
        AXON_TRY(solve(subject, what, choice, query.train.value_or(TrainChoice{}), query.budget.limit)));
    add_budget(query, report.solutions.back());
  }
  return report;
}

}  // namespace axon
