// plan: every account of a run before anything is loaded.

#include "cli/common.h"

namespace axon::cli {
namespace {

Json plan_json(const OpenedModel& model, const EngineOptions& options, const RunPlan& plan,
               const std::vector<Suggestion>& suggestions, const SystemMemory& system) {
  Json accounts = Json::array(), changes = Json::array();
  for (const PlanLine& line : plan.engine.lines)
    accounts.push_back({{"account", line.account}, {"bytes", line.bytes.count}});
  for (const Suggestion& s : suggestions) changes.push_back({{"options", s.options}, {"total_bytes", s.total.count}});
  Json machine = {{"physical_bytes", system.physical.count}, {"available_bytes", system.available.count}};
  if (system.cgroup_limit) machine["cgroup_limit_bytes"] = system.cgroup_limit->count;
  return {{"model", model.files.folder},
          {"context", options.session.context},
          {"prefill_chunk", options.session.prefill_chunk},
          {"weights", to_string(options.weights)},
          {"exact", options.session.arithmetic == Arithmetic::kExact},
          {"threads", options.threads},
          {"accounts", std::move(accounts)},
          {"total_bytes", plan.total.count},
          {"budget_bytes", plan.budget.limit.count},
          {"budget_source", plan.budget.source},
          {"fits", plan.fits()},
          {"would_fit", std::move(changes)},
          {"machine", std::move(machine)}};
}

void print_plan(const OpenedModel& model, const EngineOptions& options, const RunPlan& plan,
                const std::vector<Suggestion>& suggestions) {
  fmt::print("{}  context {}, weights {}, prefill chunk {}, {} arithmetic, {} threads\n\n", bold(model.files.folder),
             options.session.context, to_string(options.weights), options.session.prefill_chunk,
             options.session.arithmetic == Arithmetic::kExact ? "exact" : "fast", options.threads);
  for (const PlanLine& line : plan.engine.lines) {
    const double share = static_cast<double>(line.bytes.count) / static_cast<double>(plan.total.count);
    std::string bar;
    for (int i = 0; i < static_cast<int>(share * 30 + 0.5); ++i) bar += "█";
    fmt::print("  {:<34} {:>12}  {}\n", line.account, to_string(line.bytes), bar);
  }
  fmt::print("  {:<34} {:>12}\n\n", bold("total"), to_string(plan.total));
  if (plan.fits()) {
    fmt::print("fits: {} of {} ({})\n", to_string(plan.total), to_string(plan.budget.limit), plan.budget.source);
  } else {
    fmt::print("does not fit: {}\n", refusal(plan, suggestions));
  }
}

Result<int> execute(const PlanOptions& options) {
  const OpenedModel model = AXON_TRY(open_for_run(options.model, /*needs_tokenizer=*/false));
  EngineOptions engine_opts = AXON_TRY(engine_options(options, model.files.config));
  engine_opts.text = Bytes{4 * (engine_opts.session.context + options.max_tokens)};  // as run holds them
  const SystemMemory system = read_system_memory();
  const Budget budget = decide_budget(AXON_TRY(parse_budget(options.memory_budget)), system);
  const RunPlan plan = AXON_TRY(plan_run(model.files, model.shape(), engine_opts, budget));
  std::vector<Suggestion> suggestions;
  if (!plan.fits()) suggestions = AXON_TRY(suggest(model.files, model.shape(), engine_opts, budget));
  if (options.json) {
    fmt::print("{}\n", plan_json(model, engine_opts, plan, suggestions, system).dump(2));
  } else {
    print_plan(model, engine_opts, plan, suggestions);
  }
  return plan.fits() ? kExitOk : kExitDoesNotFit;
}

}  // namespace

int plan_command(const PlanOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

}  // namespace axon::cli
