// benchmark: how fast a model is here, and how near that comes to what the machine can do; alone, or beside another.

#include <filesystem>

#include "cli/benchmark_report.h"
#include "io/atomic_file.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/level.h"
#include "plan/kv_costs.h"
#include "plan/report_words.h"

namespace axon::cli {
namespace {

// An engine to be: one, or two where weights differ. A cache of another type is a second session of the first.
struct Side {
  OpenedModel model;
  EngineOptions options;
  bool own_weights = false;  // their precision is what --compare named
};

struct Setup {
  std::vector<Side> sides;
  std::vector<BenchmarkCase> cases;
  BenchmarkLists lists;
  BenchmarkReport report;
};

Result<std::vector<std::size_t>> lengths(const std::vector<std::string>& typed) {
  std::vector<std::size_t> out;
  if (typed == std::vector<std::string>{"none"}) return out;
  for (const std::string& text : typed) out.push_back(AXON_TRY(parse_depth(text)));
  return out;
}

// What is measured, from the options and the models' own limit.
Status choose_cases(const BenchmarkOptions& options, Setup& setup) {
  BenchmarkReport& report = setup.report;
  report.max_seq_len = setup.sides.front().model.files.config.max_seq_len;
  for (const Side& side : setup.sides) {
    report.max_seq_len = std::min<std::size_t>(report.max_seq_len, side.model.files.config.max_seq_len);
  }
  BenchmarkLists& lists = setup.lists;
  lists = {.prefill = AXON_TRY(lengths(options.prefill)),
           .depth = AXON_TRY(lengths(options.depth)),
           .decode = options.decode};
  if (!options.prefill_given) report.prefill_left_out = leave_out_longer(lists.prefill, report.max_seq_len);
  if (!options.depth_given) report.depth_left_out = leave_out_longer(lists.depth, report.max_seq_len);
  setup.cases = AXON_TRY(benchmark_cases(lists, report.max_seq_len));
  if (!setup.cases.empty()) return Ok{};
  return make_error(ErrorCode::kInvalidArgument,
                    "nothing is left to measure: every prompt is longer than the model's "
                    "max_seq_len {}",
                    report.max_seq_len);
}

Result<Side> open_side(const ModelOptions& options) {
  OpenedModel opened = AXON_TRY(open_weights(options));
  EngineOptions engine = AXON_TRY(engine_options(options, opened));
  return Side{.model = std::move(opened), .options = std::move(engine)};
}

Result<Setup> set_up(const BenchmarkOptions& options) {
  Setup setup;
  setup.sides.push_back(AXON_TRY(open_side(options)));
  ModelOptions other = options;  // without the adapter: what stands beside the model can be the model itself
  other.adapter.clear();
  std::error_code error;
  if (options.compare.starts_with("kv=")) {
    setup.sides[0].options.more_kv.push_back(AXON_TRY(parse_kv_type(options.compare.substr(3))));
  } else if (std::filesystem::is_directory(options.compare, error)) {
    other.model = options.compare;
    setup.sides.push_back(AXON_TRY(open_side(other)));
  } else if (!options.compare.empty()) {
    setup.sides.push_back(AXON_TRY(open_side(other)));
    setup.sides[1].options.weights = AXON_TRY(parse_weight_format(options.compare));
    setup.sides[1].own_weights = true;
  }
  AXON_TRY(choose_cases(options, setup));
  for (Side& side : setup.sides) side.options.session.context = context_of(setup.cases);
  const std::size_t subjects = setup.sides.size() + setup.sides[0].options.more_kv.size();
  setup.sides[0].options.text = benchmark_bytes(setup.cases, subjects, options.repetitions);
  if (setup.sides.size() > 1) setup.sides[1].options.process = {};
  return setup;
}

void describe(const BenchmarkOptions& options, Setup& setup) {
  BenchmarkReport& report = setup.report;
  for (const Side& side : setup.sides) {
    std::string model = side.model.files.folder;
    if (side.model.adapter != nullptr) model += fmt::format(" with {}", side.model.adapter->path());
    report.sides.push_back(
        {model, to_string(side.options.weights), std::string(side.options.session.kv_type().name())});
    for (const KvType& kv : side.options.more_kv) {
      report.sides.push_back(report.sides.back());
      report.sides.back().kv = kv.name();
    }
  }
  const EngineOptions& first = setup.sides.front().options;
  report.processor = processor_name();
  report.level = cpu::name_of(cpu::level());
  report.threads = first.threads;
  report.prefill_chunk = options.prefill_chunk;
  report.context = first.session.context;
  report.decode = options.decode;
  report.repetitions = options.repetitions;
  report.exact = options.exact;
  report.last_level_cache = cpu::CeilingProbe::last_level_cache();
}

// All engines as one: accounts of the same name are added up.
void add_up(EnginePlan& sum, const EnginePlan& plan) {
  for (const PlanLine& line : plan.lines) {
    const auto same = std::find_if(sum.lines.begin(), sum.lines.end(),
                                   [&](const PlanLine& other) { return other.account == line.account; });
    if (same == sum.lines.end()) {
      sum.lines.push_back({line.account, line.bytes, {}});
    } else {
      same->bytes += line.bytes;
    }
  }
}

// What the engines would take with a change of options. `context` of a change is a --depth.
Result<Bytes> total_with(const Setup& setup, const Change& change) {
  BenchmarkLists lists = setup.lists;
  if (change.context) lists.depth = {*change.context};
  const std::size_t context = context_of(AXON_TRY(benchmark_cases(lists, setup.report.max_seq_len)));
  Bytes sum;
  for (const Side& side : setup.sides) {
    EngineOptions options = side.options;
    options.session.context = context;
    if (change.chunk) options.session.prefill_chunk = *change.chunk;
    if (change.kv) options.session.kv = AXON_TRY(parse_kv_type(*change.kv));
    if (change.weights && !side.own_weights) options.weights = AXON_TRY(parse_weight_format(*change.weights));
    sum += AXON_TRY(Engine::plan(side.model.files, nullptr, options)).total();
  }
  return sum;
}

Result<std::vector<Suggestion>> suggest_for(const Setup& setup, Bytes limit) {
  std::size_t deepest = 1;
  for (const std::size_t depth : setup.lists.depth) deepest = std::max(deepest, depth);
  SuggestFrom from{.chunk = setup.sides[0].options.session.prefill_chunk,
                   .kv = {kv_ladder().begin(), kv_ladder().end()},
                   .context_longest = deepest - 1,
                   .context_option = "--depth"};
  return suggest([&](const Change& change) { return total_with(setup, change); }, from, limit);
}

// The plan of all, and of each side alone.
struct Plans {
  RunPlan all;
  std::vector<RunPlan> sides;
};

Result<Plans> plan_or_refuse(const Setup& setup, const std::string& budget) {
  Plans plans;
  plans.all.budget = decide_budget(AXON_TRY(parse_budget(budget)), read_system_memory());
  for (const Side& side : setup.sides) {
    RunPlan plan{.engine = AXON_TRY(Engine::plan(side.model.files, nullptr, side.options)), .budget = {}, .total = {}};
    plan.total = plan.engine.total();
    plan.budget = {plan.total, plans.all.budget.source};
    add_up(plans.all.engine, plan.engine);
    plans.sides.push_back(std::move(plan));
  }
  plans.all.total = plans.all.engine.total();
  if (plans.all.fits()) return plans;
  return Error{ErrorCode::kOverBudget,
               refusal(plans.all, AXON_TRY(suggest_for(setup, plans.all.budget.limit)), "--depth")};
}

Status measure(const BenchmarkOptions& options, Setup setup, const Interruption& interruption) {
  const Plans plans = AXON_TRY(plan_or_refuse(setup, options.memory_budget));
  // Begun now, so that minutes of measuring are not lost to a folder that cannot be written to.
  std::optional<AtomicFile> svg;
  if (!options.svg.empty()) svg.emplace(AXON_TRY(AtomicFile::create(options.svg, Existing::kReplace)));
  BenchmarkReport& report = setup.report;
  std::vector<std::unique_ptr<Engine>> engines;
  std::vector<BenchmarkSubject> subjects;
  std::vector<const Ledger*> ledgers;
  for (std::size_t i = 0; i < setup.sides.size(); ++i) {
    Side& side = setup.sides[i];
    engines.push_back(AXON_TRY(load_engine(std::move(side.model), plans.sides[i], side.options, interruption)));
    for (std::size_t s = 0; s < engines.back()->sessions(); ++s) subjects.push_back({engines.back().get(), s});
    ledgers.push_back(&engines.back()->ledger());
  }
  ProgressLine line("measuring");
  report.result =
      AXON_TRY(run_benchmark(subjects, setup.cases, options.repetitions, [&](double done, const BenchmarkCase& now) {
        line.update(done, now.name());
        return !interruption.flag();
      }));
  line.clear();
  if (svg) {
    AXON_TRY(svg->write(benchmark_svg(report)));
    AXON_TRY(svg->finish());
  }
  if (options.json) {
    Json json = benchmark_json(report);
    json["memory"] = memory_json(plans.all, ledgers);
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    return Ok{};
  }
  fmt::print("{}", benchmark_text(report));
  if (svg) fmt::print("\nwrote {}\n", printable(options.svg));
  fmt::print(stderr, "{}\n", dim(memory_line(plans.all, ledgers)));
  return Ok{};
}

Status execute(const BenchmarkOptions& options) {
  const Interruption interruption;
  Setup setup = AXON_TRY(set_up(options));
  describe(options, setup);
  return measure(options, std::move(setup), interruption);
}

}  // namespace

int benchmark_command(const BenchmarkOptions& options) {
  const std::vector<std::string> none = {"none"};
  if (options.prefill == none && options.depth == none) {
    report({ErrorCode::kInvalidArgument, "--prefill none and --depth none leave nothing to measure"});
    return kExitUsage;
  }
  const Status status = execute(options);
  return status.ok() ? kExitOk : report(status.error());
}

}  // namespace axon::cli
