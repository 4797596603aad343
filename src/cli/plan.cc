// plan: how much memory a model needs, for any model and machine, before anything is loaded.

#include <algorithm>

#include "architectures/known_models.h"
#include "cli/plan_json.h"
#include "io/atomic_file.h"
#include "plan/machines.h"
#include "plan/pages.h"
#include "plan/query.h"
#include "plan/report_words.h"
#include "plan/training_plan.h"

namespace axon::cli {
namespace {

struct MachineAndBudget {
  MachineReport machine;
  Budget budget;
};

MachineReport this_machine() {
  MachineReport machine;
  machine.name = "this machine";
  machine.memory = read_system_memory();
  machine.processors = usable_processors();
  return machine;
}

MachineReport other_machine(std::string name, Bytes ram) {
  MachineReport machine;
  machine.name = std::move(name);
  machine.this_machine = false;
  machine.ram = ram;
  return machine;
}

// Two options that contradict each other are wrong usage, as a wrong value is.
Status check_reserve(const PlanOptions& options) {
  if (options.ram.empty() || options.reserve.empty()) return Ok{};
  const Bytes ram = AXON_TRY(parse_size(options.ram)), reserve = AXON_TRY(parse_size(options.reserve));
  if (reserve < ram) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "--reserve {} leaves nothing of --ram {}", to_string(reserve),
                    to_string(ram));
}

Result<MachineAndBudget> decide_machine(const PlanOptions& options) {
  MachineAndBudget out{.machine = this_machine(), .budget = {}};
  out.budget = decide_budget({}, out.machine.memory);
  if (!options.machine.empty()) {
    const MachineProfile& profile = *find_machine(options.machine);  // judged when it was typed
    out.machine = other_machine(std::string(profile.title), profile.ram);
    for (const Reserve& r : profile.reserves) {
      if (!r.gpu_only) out.machine.reserves.push_back({std::string(r.what), r.bytes, std::string(r.source)});
    }
    out.machine.gpu_budget = profile.gpu_budget();
    out.machine.gpu_source = profile.gpu_share_source;
    out.budget = {profile.budget(), std::string(profile.name)};
  } else if (!options.ram.empty()) {
    const Bytes ram = AXON_TRY(parse_size(options.ram));
    const Bytes reserve = options.reserve.empty() ? Bytes{} : AXON_TRY(parse_size(options.reserve));
    out.machine = other_machine(fmt::format("a machine with {}", to_string(ram)), ram);
    if (reserve > 0_B) out.machine.reserves.push_back({"reserve", reserve, "--reserve"});
    out.budget = {ram - reserve, reserve > 0_B ? "--ram less --reserve" : "--ram"};
  }
  if (const std::optional<Bytes> given = AXON_TRY(parse_budget(options.memory_budget))) {
    out.budget = {*given, "--memory-budget"};
  }
  return out;
}

// As `train` has them. What init would write is planned in 4 bits, unless said otherwise.
Result<TrainChoice> train_choice(const PlanOptions& options, const SubjectFacts& facts) {
  const bool stored = facts.runs_here && facts.evidence == "files";
  const std::string& weights = options.weights.front();
  TrainChoice train{.weights = weights == "keep" && !stored ? "q4" : weights,
                    .settings = {},
                    .optimizer = options.optimizer,
                    .checkpointing = !options.no_checkpointing,
                    .threads = thread_count(options.threads),
                    .data = {},
                    .validation = {}};
  train::TrainSettings& s = train.settings;
  s.objective = options.method == "orpo" ? train::Objective::kPreference : train::Objective::kSupervised;
  s.adapter = options.adapter == "dora" ? AdapterKind::kDora : AdapterKind::kLora;
  s.rank = options.rank;
  s.scale = options.scale;
  s.dropout = options.dropout;
  s.targets = options.targets;
  s.batch_size = options.batch_size;
  s.grad_accum = options.grad_accum;
  s.max_seq_len = AXON_TRY(parse_tokens(options.max_seq_len));
  s.pack = options.pack;
  s.chunk = options.chunk;
  s.compat = options.compat;
  s.exact = options.exact;
  if (!options.data.empty()) train.data = AXON_TRY(measure_data(options.data));
  if (!options.val_data.empty()) train.validation = AXON_TRY(measure_data(options.val_data));
  return train;
}

Result<PlanQuery> query_of(const PlanOptions& options, const SubjectFacts& facts) {
  PlanQuery query;
  for (const std::string& context : options.context) query.contexts.push_back(AXON_TRY(parse_tokens(context)));
  query.weights = options.weights;
  query.kv = options.kv;
  query.base.window = AXON_TRY(parse_window(options.attention_window));
  query.base.prefill_chunk = options.prefill_chunk;
  query.base.threads = thread_count(options.threads);
  query.base.max_tokens = options.max_tokens;
  query.base.exact = options.exact;
  for (const std::string& what : options.solve) query.solve.push_back(AXON_TRY(parse_solve_for(what)));
  if (trains(options)) query.train = AXON_TRY(train_choice(options, facts));
  MachineAndBudget machine = AXON_TRY(decide_machine(options));
  query.machine = std::move(machine.machine);
  query.budget = std::move(machine.budget);
  if (!options.memory_budget.empty())
    query.budget_options = fmt::format(" --memory-budget {}", shell_word(options.memory_budget));
  // They change a run's bytes, and no subject can tell what was typed from what follows from this machine.
  if (options.threads != 0) query.budget_options += fmt::format(" --threads {}", options.threads);
  if (options.max_tokens != PlanOptions{}.max_tokens) {
    query.budget_options += fmt::format(" --max-tokens {}", options.max_tokens);
  }
  if (!options.machine.empty()) query.machine_options = fmt::format(" --machine {}", options.machine);
  if (!options.ram.empty()) query.machine_options = fmt::format(" --ram {}", shell_word(options.ram));
  if (!options.reserve.empty()) query.machine_options += fmt::format(" --reserve {}", shell_word(options.reserve));
  if (!options.data.empty()) query.train_options = fmt::format(" --data {}", shell_word(options.data));
  if (!options.val_data.empty()) query.train_options += fmt::format(" --val-data {}", shell_word(options.val_data));
  query.curve = !options.html.empty();
  return query;
}

void print_list() {
  fmt::print("{}\n  {}\n\n{}\n", bold("presets of this program's own models"), fmt::join(preset_names(), " "),
             bold("known models"));
  for (const KnownModel& model : known_models()) fmt::print("  {:<26} {}\n", model.name, model.title);
  fmt::print("\n{}\n", bold("machines"));
  for (const MachineProfile& m : machine_profiles()) {
    fmt::print("  {:<26} {:<38} {:>10} for a model\n", m.name, m.title, to_string(m.budget()));
  }
  fmt::print("\n{}\n", bold("precisions of weights"));
  for (const Precision& p : precisions()) fmt::print("  {:<10} {:>8.4f} bits  {}\n", p.name, p.bits(), p.what);
  fmt::print("\n{}\n", bold("KV caches"));
  for (const KvFormat& format : kv_formats()) fmt::print("  {:<10} {}\n", format.name, format.what);
}

Result<int> explain(const PlanReport& report, const std::string& account) {
  if (!report.training && report.cells.size() > 1) {
    return make_error(ErrorCode::kInvalidArgument, "--explain wants one context, precision and cache, not {} choices",
                      report.cells.size());
  }
  const Footprint& footprint = report.training ? *report.training : report.cells.front().footprint;
  fmt::print("{}", AXON_TRY(explain_text(footprint, account)));
  return kExitOk;
}

Result<int> execute(const PlanOptions& options) {
  if (options.list) {
    print_list();
    return kExitOk;
  }
  const SubjectOptions subject_options{.default_model = default_model(),
                                       .fallback = options.fallback,
                                       .layers = options.layers,
                                       .hidden_size = options.hidden_size};
  if (!options.page.empty()) {
    fmt::print("{}", AXON_TRY(page_text(options.page, subject_options)));
    return kExitOk;
  }
  const std::unique_ptr<Subject> subject = AXON_TRY(open_subject(options.target, subject_options));
  if (!options.adapter.empty() && !trains(options))
    AXON_TRY(subject->add_adapter(options.adapter, options.adapter_scale));
  const PlanReport report = AXON_TRY(answer(*subject, AXON_TRY(query_of(options, subject->facts()))));
  if (!options.explain.empty()) return explain(report, options.explain);
  if (!options.html.empty()) AXON_TRY(write_file(options.html, report_html(report), Existing::kReplace));
  if (options.json) {
    // Names of folders and of what is in files may be no UTF-8.
    fmt::print("{}\n", plan_json(report).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}", report_text(report, {.colour = stdout_is_terminal(), .columns = 100}));
    if (!options.html.empty()) fmt::print("wrote {}\n", printable(options.html));
  }
  return report.fits() ? kExitOk : kExitDoesNotFit;
}

}  // namespace

bool trains(const PlanOptions& options) {
  return options.train || std::find(options.solve.begin(), options.solve.end(), "train") != options.solve.end();
}

int plan_command(const PlanOptions& options) {
  if (const Status checked = check_reserve(options); !checked.ok()) {
    report(checked.error());
    return kExitUsage;
  }
  Result<int> status = execute(options);
  if (status.ok()) return status.value();
  return report(status.error());
}

}  // namespace axon::cli
