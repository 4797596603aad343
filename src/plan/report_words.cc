#include "plan/report_words.h"

#include <algorithm>

#include "memory/ledger.h"
#include "plan/kv_costs.h"

namespace axon {
namespace {

std::string layer_words(const SubjectFacts::LayerKind& layer) {
  std::string out = fmt::format("{} {}", grouped(layer.count), printable(layer.kind));
  if (layer.window > 0) out += fmt::format(" (window {})", grouped(layer.window));
  return out;
}

std::string in_brackets(std::string_view text) { return text.empty() ? "" : fmt::format(" ({})", printable(text)); }

std::string swap_words(const SystemMemory& memory) {
  if (memory.swap_total == Bytes{}) return "none";
  std::string text = fmt::format("{}, {} free", to_string(memory.swap_total), to_string(memory.swap_free));
  if (memory.cgroup_swap_limit) text += fmt::format(", control group limit {}", to_string(*memory.cgroup_swap_limit));
  return text + "; never counted";
}

std::string huge_page_words(const SystemMemory& memory) {
  std::vector<std::string> parts;
  if (!memory.transparent_huge_pages.empty()) parts.push_back(printable(memory.transparent_huge_pages));
  if (memory.huge_total > Bytes{}) {
    parts.push_back(
        fmt::format("{} reserved, {} of them free", to_string(memory.huge_total), to_string(memory.huge_free)));
  }
  return join(parts, ", ");
}

void add_once(std::vector<std::string>& list, const std::string& text) {
  if (!text.empty() && std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
}

std::vector<const Footprint*> footprints(const PlanReport& report) {
  std::vector<const Footprint*> out;
  if (report.training) out.push_back(&*report.training);
  for (const PlanCell& cell : report.cells) out.push_back(&cell.footprint);
  return out;
}

Verdict one_verdict(const PlanReport& report, const Footprint& footprint) {
  const Bytes total = footprint.total(), limit = report.budget.limit;
  const bool estimate = footprint.estimate();
  Verdict out;
  out.fits = total <= limit;
  out.text =
      fmt::format("{} of {} ({})", size_words(total, estimate), to_string(limit), printable(report.budget.source));
  if (out.fits) {
    out.text += fmt::format(", {} to spare", size_words(limit - total, estimate));
    return out;
  }
  out.text += fmt::format(", {} too much", size_words(total - limit, estimate));
  const Account& largest = footprint.largest();
  out.text += fmt::format("; the largest account is \"{}\", {}", printable(largest.name),
                          size_words(largest.bytes, largest.estimate));
  for (const PlanReport::Way& way : report.ways) {
    out.more.push_back(fmt::format("would fit: {}, {}", printable(way.options), size_words(way.total, estimate)));
  }
  return out;
}

std::string row_words(const PlanReport& report, std::size_t k, std::size_t w) {
  std::string out = weights_words(report.weights[w]);
  if (report.kv.size() > 1) out += fmt::format(" with kv {}", printable(report.kv[k]));
  return out;
}

Verdict matrix_verdict(const PlanReport& report) {
  Verdict out;
  const auto fitting =
      std::count_if(report.cells.begin(), report.cells.end(), [](const PlanCell& c) { return c.fits; });
  out.fits = fitting > 0;
  out.text = fmt::format("{} of {} within {} ({})", out.fits ? std::to_string(fitting) : "none", report.cells.size(),
                         to_string(report.budget.limit), printable(report.budget.source));
  const std::size_t contexts = report.contexts.size();
  std::size_t smallest = 0;
  for (std::size_t i = 0; i < report.cells.size(); ++i) {
    if (report.cells[i].footprint.total() < report.cells[smallest].footprint.total()) smallest = i;
  }
  if (!out.fits) {
    const PlanCell& cell = report.cells[smallest];
    const std::size_t row = smallest / contexts, weights = report.weights.size();
    out.text += fmt::format("; the smallest, {} at {} tokens, takes {}",
                            row_words(report, row / weights, row % weights), context_words(report, cell.choice.context),
                            size_words(cell.footprint.total(), cell.footprint.estimate()));
    return out;
  }
  if (contexts < 2) return out;
  for (std::size_t row = 0; row < report.cells.size() / contexts; ++row) {
    const PlanCell* longest = nullptr;
    for (std::size_t c = 0; c < contexts; ++c) {
      const PlanCell& cell = report.cells[row * contexts + c];
      if (cell.fits && (longest == nullptr || cell.choice.context > longest->choice.context)) longest = &cell;
    }
    out.more.push_back(fmt::format(
        "{} {}", row_words(report, row / report.weights.size(), row % report.weights.size()),
        longest == nullptr ? "at no context" : "up to " + context_words(report, longest->choice.context) + " tokens"));
  }
  return out;
}

std::string_view asked(SolveFor what) {
  switch (what) {
    case SolveFor::kContext: return "longest context";
    case SolveFor::kWeights: return "best precision of weights";
    case SolveFor::kKv: return "best precision of the kv cache";
    case SolveFor::kTrain: return "largest training";
  }
  return "";
}

std::string_view why_best(SolveFor what, bool runs_here) {
  switch (what) {
    case SolveFor::kContext: return "the model's maximum";
    case SolveFor::kWeights: return "as stored: nothing is gained above";
    case SolveFor::kKv: return "nothing is gained above";
    case SolveFor::kTrain: return runs_here ? "the model's maximum" : "the largest that was tried";
  }
  return "";
}

}  // namespace

std::string short_count(std::uint64_t number) {
  static constexpr struct {
    double unit;
    std::string_view name;
  } kUnits[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}};
  for (const auto& [unit, name] : kUnits) {
    const double value = static_cast<double>(number) / unit;
    if (value >= 0.9995) return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, name);
  }
  return grouped(number);
}

std::string size_words(Bytes bytes, bool estimate) {
  return fmt::format("{}{}", estimate ? "~" : "", to_string(bytes));
}

std::string share_words(Bytes part, Bytes whole) {
  if (part.count == 0) return "0 %";
  const double percent = 100.0 * static_cast<double>(part.count) / static_cast<double>(whole.count);
  return percent < 0.5 ? "<1 %" : fmt::format("{:.0f} %", percent);
}

std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += between;
    out += part;
  }
  return out;
}

std::vector<ReportRow> fact_rows(const SubjectFacts& facts) {
  std::vector<ReportRow> rows;
  const auto add = [&](std::string name, std::string value) { rows.push_back({std::move(name), {std::move(value)}}); };
  if (!facts.target.empty() && facts.target != facts.title) add("target", printable(facts.target));
  add("family", fmt::format("{} (from {})", printable(facts.family), printable(facts.evidence)));
  if (facts.parameters > 0) {
    std::string text = short_count(facts.parameters);
    if (facts.active > 0 && facts.active < facts.parameters)
      text += fmt::format(", {} active", short_count(facts.active));
    add("parameters", text);
  }
  if (!facts.layers.empty()) {
    ReportRow layers{"layers", {}};
    for (const SubjectFacts::LayerKind& layer : facts.layers) layers.values.push_back(layer_words(layer));
    rows.push_back(std::move(layers));
  }
  if (facts.context_max > 0) add("context", fmt::format("at most {} tokens", grouped(facts.context_max)));
  if (!facts.stored.empty()) add("stored", printable(facts.stored));
  if (!facts.source.empty()) add("source", printable(facts.source));
  if (!facts.runs_here) add("runs", "not with this program: only planned");
  return rows;
}

std::vector<ReportRow> machine_rows(const MachineReport& machine) {
  std::vector<ReportRow> rows;
  const auto add = [&](std::string name, std::string value) { rows.push_back({std::move(name), {std::move(value)}}); };
  if (!machine.this_machine) {
    add("machine", printable(machine.name));
    add("memory", to_string(machine.ram));
    for (const MachineReport::Reserve& reserve : machine.reserves) {
      add("less",
          fmt::format("{} for {}{}", to_string(reserve.bytes), printable(reserve.what), in_brackets(reserve.source)));
    }
    if (machine.gpu_budget) add("gpu", fmt::format("a run there would have {}", to_string(*machine.gpu_budget)));
    return rows;
  }
  const SystemMemory& memory = machine.memory;
  ReportRow first{"machine", {machine.name.empty() ? "this machine" : printable(machine.name)}};
  if (machine.processors > 0) {
    first.values.push_back(fmt::format("{} {}", machine.processors, machine.processors == 1 ? "core" : "cores"));
  }
  rows.push_back(std::move(first));
  add("memory", fmt::format("{}, {} available now{}", to_string(memory.physical), to_string(memory.available),
                            memory.available_estimated ? " (estimated: the kernel does not say)" : ""));
  if (memory.cgroup_limit) {
    std::string text =
        fmt::format("{} {}", memory.cgroup_throttles ? "throttled above" : "limit", to_string(*memory.cgroup_limit));
    if (memory.cgroup_spare) text += fmt::format(", {} left", to_string(*memory.cgroup_spare));
    add("control group", text);
  }
  add("swap", swap_words(memory));
  if (const std::string text = huge_page_words(memory); !text.empty()) add("huge pages", text);
  if (memory.gpu_limit) {
    add("gpu", fmt::format("may hold {}{}", to_string(*memory.gpu_limit), in_brackets(memory.gpu_limit_source)));
  }
  if (!memory.pressure.empty()) add("pressure", printable(memory.pressure));
  return rows;
}

std::string context_words(const PlanReport& report, std::uint64_t context) {
  if (context > 0) return grouped(context);
  return report.facts.context_max > 0 ? grouped(report.facts.context_max) : "maximum";
}

std::string weights_words(std::string_view weights) { return weights == "keep" ? "as stored" : printable(weights); }

std::string choice_words(const PlanReport& report, const RunChoice& choice, bool varies) {
  std::vector<std::string> parts;
  if (!varies || report.contexts.size() == 1) {
    parts.push_back(fmt::format("context {} tokens", context_words(report, choice.context)));
  }
  if (!varies || report.weights.size() == 1) parts.push_back("weights " + weights_words(choice.weights));
  if (!varies || report.kv.size() == 1) parts.push_back("kv " + printable(choice.kv));
  if (choice.window) {
    parts.push_back(*choice.window == 0 ? "full attention" : fmt::format("window {}", grouped(*choice.window)));
  }
  if (report.facts.runs_here) {
    parts.push_back(fmt::format("prefill chunk {}", grouped(choice.prefill_chunk)));
    parts.push_back(fmt::format("{} {}", grouped(choice.threads), choice.threads == 1 ? "thread" : "threads"));
    parts.push_back(choice.exact ? "exact arithmetic" : "fast arithmetic");
  }
  return join(parts, ", ");
}

std::string train_words(const PlanReport& report) {
  const TrainChoice& choice = report.train;
  const train::TrainSettings& s = choice.settings;
  std::vector<std::string> parts = {fmt::format("base {}", weights_words(choice.weights)),
                                    fmt::format("rank {}", grouped(s.rank)),
                                    fmt::format("batch {} x {} tokens", grouped(s.batch_size), grouped(s.max_seq_len))};
  if (!report.facts.runs_here) {
    parts.push_back(printable(choice.optimizer));
    parts.emplace_back(choice.checkpointing ? "with checkpointing" : "without checkpointing");
    return join(parts, ", ");
  }
  const bool dora = s.adapter == AdapterKind::kDora, pairs = s.objective == train::Objective::kPreference;
  parts.insert(parts.begin(), fmt::format("{}, {}", pairs ? "orpo" : "sft", dora ? "dora" : "lora"));
  if (!s.targets.empty()) parts.push_back(fmt::format("targets {}", printable(join(s.targets, ","))));
  if (s.dropout != 0.0) parts.push_back(fmt::format("dropout {}", s.dropout));
  if (s.pack) parts.emplace_back("packed");
  parts.push_back(fmt::format("chunk {}", grouped(s.chunk)));
  parts.push_back(fmt::format("{} {}", grouped(choice.threads), choice.threads == 1 ? "thread" : "threads"));
  parts.emplace_back(s.exact ? "exact arithmetic" : "mixed arithmetic");
  return join(parts, ", ");
}

Verdict verdict(const PlanReport& report) {
  if (const Footprint* only = only_footprint(report)) return one_verdict(report, *only);
  AXON_CHECK(!report.cells.empty());
  return matrix_verdict(report);
}

SolutionWords solution_words(const PlanReport& report, const Solution& solution) {
  SolutionWords out;
  const bool estimate = has_estimate(report);
  out.heading = fmt::format("{} that fits {}", asked(solution.what), to_string(report.budget.limit));
  if (!solution.best) {
    out.nothing = "nothing fits";
    if (solution.smallest) {
      out.nothing += fmt::format(": the smallest, {}, takes {}", printable(solution.smallest->what),
                                 size_words(solution.smallest->total, estimate));
    }
    return out;
  }
  const auto add = [&](std::string rank, const Option& option, std::string_view why) {
    std::string what = printable(option.what);
    if (!why.empty()) what += fmt::format(" ({})", why);
    out.rows.push_back(
        {std::move(rank), std::move(what), size_words(option.total, estimate), printable(option.command)});
  };
  add("best", *solution.best, solution.best_of_all ? why_best(solution.what, report.facts.runs_here) : "");
  for (const Option& option : solution.cheaper) add("cheaper", option, "");
  for (const Option& option : solution.also) add("also", option, "");
  return out;
}

SmallerKvWords smaller_kv_words(const PlanReport& report) {
  // Below this share of the total nobody would choose a cache by its size, unless every byte counts.
  static constexpr double kShare = 0.05;
  SmallerKvWords out;
  if (report.smaller_kv.empty()) return out;
  const PlanCell& cell = report.cells.front();
  const Account* own = cell.footprint.find(account::kKvCache);
  const Bytes total = cell.footprint.total();
  if (cell.fits && static_cast<double>(own->bytes.count) < kShare * static_cast<double>(total.count)) {
    const PlanReport::SmallerKv& least = report.smaller_kv.back();
    out.instead = fmt::format("the kv cache is {} of the total; --kv {} would save {}", share_words(own->bytes, total),
                              least.kv, to_string(least.saved));
    return out;
  }
  for (const PlanReport::SmallerKv& smaller : report.smaller_kv) {
    out.rows.push_back(
        {smaller.kv, to_string(smaller.bytes), to_string(smaller.saved), kv_cost_words(find_kv_cost(smaller.kv))});
    if (!out.rows.back().cost.empty()) out.source = kv_costs_source();
  }
  return out;
}

const Footprint* only_footprint(const PlanReport& report) {
  if (report.training) return &*report.training;
  return report.cells.size() == 1 ? &report.cells.front().footprint : nullptr;
}

bool has_estimate(const PlanReport& report) {
  const auto cell_estimate = [](const PlanCell& cell) { return cell.footprint.estimate(); };
  return (report.training && report.training->estimate()) ||
         std::any_of(report.cells.begin(), report.cells.end(), cell_estimate) ||
         std::any_of(report.curve.begin(), report.curve.end(), cell_estimate);
}

std::vector<std::string> all_notes(const PlanReport& report) {
  std::vector<std::string> out;
  for (const Footprint* footprint : footprints(report)) {
    for (const std::string& note : footprint->notes) add_once(out, printable(note));
  }
  return out;
}

std::vector<std::string> all_hindrances(const PlanReport& report) {
  std::vector<std::string> out;
  for (const Footprint* footprint : footprints(report)) add_once(out, printable(footprint->cannot_run));
  return out;
}

bool PlanReport::fits() const {
  if (training) return training->total() <= budget.limit;
  if (cells.empty()) {
    return std::any_of(solutions.begin(), solutions.end(), [](const Solution& s) { return s.best.has_value(); });
  }
  return std::any_of(cells.begin(), cells.end(), [](const PlanCell& cell) { return cell.fits; });
}

}  // namespace axon
