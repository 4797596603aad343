#include "cli/plan_json.h"

#include "plan/kv_costs.h"

namespace axon::cli {
namespace {

std::string_view name_of(SolveFor what) {
  switch (what) {
    case SolveFor::kContext: return "context";
    case SolveFor::kWeights: return "weights";
    case SolveFor::kKv: return "kv";
    case SolveFor::kTrain: return "train";
  }
  return "";
}

Json accounts_json(const Footprint& footprint) {
  Json accounts = Json::array();
  for (const Account& account : footprint.accounts) {
    Json terms = Json::array();
    for (const Term& term : account.terms) terms.push_back({{"formula", term.text}, {"bytes", term.bytes.count}});
    accounts.push_back({{"account", account.name},
                        {"bytes", account.bytes.count},
                        {"estimate", account.estimate},
                        {"terms", std::move(terms)}});
  }
  return accounts;
}

// Keys of a run or a training alike.
void add_footprint(Json& to, const Footprint& footprint, bool fits) {
  to["accounts"] = accounts_json(footprint);
  to["total_bytes"] = footprint.total().count;
  to["estimate"] = footprint.estimate();
  to["fits"] = fits;
  to["notes"] = footprint.notes;
  to["cannot_run"] = footprint.cannot_run;
}

Json choice_json(const RunChoice& choice) {
  Json out = {{"context", choice.context}, {"weights", choice.weights},
              {"kv", choice.kv},           {"prefill_chunk", choice.prefill_chunk},
              {"threads", choice.threads}, {"max_tokens", choice.max_tokens},
              {"exact", choice.exact}};
  if (choice.window) out["attention_window"] = *choice.window;
  return out;
}

Json data_json(const train::DataSize& data) { return {{"lines", data.examples}, {"index_bytes", data.index.count}}; }

// Of a family that is not trained here, the keys up to "checkpointing" say all that counts.
Json train_json(const TrainChoice& train, bool trains_here) {
  const train::TrainSettings& s = train.settings;
  Json out = {{"weights", train.weights},     {"rank", s.rank},
              {"max_seq_len", s.max_seq_len}, {"batch_size", s.batch_size},
              {"optimizer", train.optimizer}, {"checkpointing", train.checkpointing}};
  if (!trains_here) return out;
  const std::span<const std::string> targets = s.wanted_targets();
  out["method"] = s.objective == train::Objective::kSupervised ? "sft" : "orpo";
  out["adapter"] = s.adapter == AdapterKind::kLora ? "lora" : "dora";
  out["targets"] = std::vector<std::string>(targets.begin(), targets.end());
  out["dropout"] = s.dropout;
  out["pack"] = s.pack;
  out["chunk"] = s.chunk;
  out["compat"] = s.compat;
  out["exact"] = s.exact;
  out["threads"] = train.threads;
  if (train.data.examples != 0) out["data"] = data_json(train.data);
  if (train.validation.examples != 0) out["validation_data"] = data_json(train.validation);
  return out;
}

Json cell_json(const PlanCell& cell) {
  Json out = choice_json(cell.choice);
  add_footprint(out, cell.footprint, cell.fits);
  return out;
}

Json facts_json(const SubjectFacts& facts) {
  Json layers = Json::array();
  for (const SubjectFacts::LayerKind& kind : facts.layers) {
    layers.push_back({{"kind", kind.kind}, {"count", kind.count}, {"window", kind.window}});
  }
  return {{"model", facts.target},
          {"title", facts.title},
          {"family", facts.family},
          {"evidence", facts.evidence},
          {"source", facts.source},
          {"parameters", facts.parameters},
          {"active_parameters", facts.active},
          {"context_max", facts.context_max},
          {"stored", facts.stored},
          {"layers", std::move(layers)},
          {"runs_here", facts.runs_here}};
}

Json machine_json(const MachineReport& machine) {
  Json out = {{"name", machine.name}, {"this_machine", machine.this_machine}};
  if (!machine.this_machine) {
    out["ram_bytes"] = machine.ram.count;
    Json reserves = Json::array();
    for (const MachineReport::Reserve& r : machine.reserves) {
      reserves.push_back({{"what", r.what}, {"bytes", r.bytes.count}, {"source", r.source}});
    }
    out["reserves"] = std::move(reserves);
    if (machine.gpu_budget) {
      out["gpu_budget_bytes"] = machine.gpu_budget->count;
      out["gpu_source"] = machine.gpu_source;
    }
    return out;
  }
  const SystemMemory& memory = machine.memory;
  out["physical_bytes"] = memory.physical.count;
  out["available_bytes"] = memory.available.count;
  if (memory.cgroup_limit) out["cgroup_limit_bytes"] = memory.cgroup_limit->count;
  if (memory.cgroup_spare) out["cgroup_spare_bytes"] = memory.cgroup_spare->count;
  out["swap_bytes"] = memory.swap_total.count;
  out["swap_free_bytes"] = memory.swap_free.count;
  out["huge_page_bytes"] = memory.huge_total.count;
  out["huge_page_free_bytes"] = memory.huge_free.count;
  out["transparent_huge_pages"] = memory.transparent_huge_pages;
  if (memory.gpu_limit) out["gpu_limit_bytes"] = memory.gpu_limit->count;
  out["processors"] = machine.processors;
  return out;
}

Json option_json(SolveFor what, bool runs_here, const Option& option) {
  Json out = {{"what", option.what}, {"total_bytes", option.total.count}, {"command", option.command}};
  out["choice"] = what == SolveFor::kTrain ? train_json(option.train, runs_here) : choice_json(option.run);
  return out;
}

Json solution_json(const Solution& solution, bool runs_here) {
  const auto one = [&](const Option& option) { return option_json(solution.what, runs_here, option); };
  const auto list = [&](const std::vector<Option>& options) {
    Json out = Json::array();
    for (const Option& option : options) out.push_back(one(option));
    return out;
  };
  return {{"solve", name_of(solution.what)},     {"best", solution.best ? one(*solution.best) : Json()},
          {"best_of_all", solution.best_of_all}, {"cheaper", list(solution.cheaper)},
          {"also", list(solution.also)},         {"smallest", solution.smallest ? one(*solution.smallest) : Json()}};
}

Json smaller_kv_json(const PlanReport& report) {
  Json list = Json::array();
  for (const PlanReport::SmallerKv& smaller : report.smaller_kv) {
    Json out = {{"kv", smaller.kv},
                {"bytes", smaller.bytes.count},
                {"saved_bytes", smaller.saved.count},
                {"total_bytes", smaller.total.count},
                {"fits", smaller.total <= report.budget.limit},
                {"cost", kv_cost_words(find_kv_cost(smaller.kv))}};
    list.push_back(std::move(out));
  }
  return list;
}

}  // namespace

Json plan_json(const PlanReport& report) {
  Json out = facts_json(report.facts);
  out["machine"] = machine_json(report.machine);
  out["budget_bytes"] = report.budget.limit.count;
  out["budget_source"] = report.budget.source;
  // A single run stands at the top level too.
  if (report.cells.size() == 1) out.update(cell_json(report.cells.front()));
  Json cells = Json::array(), ways = Json::array(), solutions = Json::array();
  for (const PlanCell& cell : report.cells) cells.push_back(cell_json(cell));
  out["cells"] = std::move(cells);
  if (report.training) {
    Json training = train_json(report.train, report.facts.runs_here);
    add_footprint(training, *report.training, report.training->total() <= report.budget.limit);
    out["training"] = std::move(training);
  }
  for (const PlanReport::Way& way : report.ways) {
    ways.push_back({{"options", way.options}, {"total_bytes", way.total.count}});
  }
  for (const Solution& solution : report.solutions)
    solutions.push_back(solution_json(solution, report.facts.runs_here));
  out["would_fit"] = std::move(ways);
  out["smaller_kv"] = smaller_kv_json(report);
  out["solutions"] = std::move(solutions);
  out["fits"] = report.fits();
  return out;
}

}  // namespace axon::cli
