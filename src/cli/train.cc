// bit-axon train: from a JSONL file to an adapter.

#include "cli/train.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "io/atomic_file.h"
#include "model/adapter_files.h"
#include "plan/training_plan.h"
#include "thermal/trace.h"
#include "train/history.h"
#include "train/report.h"

namespace axon::cli {
namespace {

using train::TrainSettings;

Result<TrainSettings> settings_of(const TrainOptions& o) {
  TrainSettings s;
  s.objective = o.method == "orpo" ? train::Objective::kPreference : train::Objective::kSupervised;
  s.adapter = o.adapter == "dora" ? AdapterKind::kDora : AdapterKind::kLora;
  s.rank = o.rank;
  s.scale = o.alpha ? *o.alpha / static_cast<double>(o.rank) : o.scale.value_or(o.compat ? kOriginalScale : s.scale);
  s.dropout = o.dropout;
  s.targets = o.targets;
  s.batch_size = o.batch_size;
  s.grad_accum = o.grad_accum;
  s.max_seq_len = o.max_seq_len;
  s.pack = o.pack;
  s.mask_prompt = o.mask_prompt;
  s.raw_completions = o.raw_completions;
  s.seed = o.seed;
  s.max_steps = o.max_steps;
  s.epochs = o.epochs;
  s.learning_rate = o.learning_rate;
  s.learning_rate_floor = o.min_learning_rate;
  s.warmup = o.warmup;
  s.decay = AXON_TRY(train::parse_decay(o.schedule));
  s.weight_decay = o.weight_decay;
  s.max_grad_norm = o.max_grad_norm;
  s.orpo_lambda = o.orpo_lambda;
  s.compat = o.compat;
  s.exact = o.exact;
  s.chunk = o.chunk;
  s.eval_every = o.eval_every;
  s.eval_batches = o.eval_batches;
  s.save_every = o.save_every;
  s.keep = o.keep;
  AXON_TRY(train::check_settings(s));
  return s;
}

train::DataOptions data_options(const TrainOptions& o, const TrainSettings& s) {
  return {.objective = s.objective,
          .encode = {.max_seq_len = s.max_seq_len,
                     .mask_prompt = s.mask_prompt,
                     .raw_completions = s.raw_completions,
                     .compat = s.compat},
          .skip_bad = o.skip_bad};
}

// Lines are at least as many as examples: a plan before the data is read.
Result<train::DataSize> size_of_data(const std::string& path) {
  if (path.empty()) return train::DataSize{};
  const Bytes index = AXON_TRY(train::JsonlExamples::measure(path));
  return train::DataSize{.examples = index.count / train::JsonlExamples::kBytesPerLine, .index = index};
}

std::string data_text(const std::string& path, const train::JsonlExamples& data) {
  const train::DataStats& s = data.stats();
  std::string text =
      fmt::format("{}: {} examples ({}), {} tokens, {} to be learned; longest {}, mean {:.0f}", path, s.examples,
                  train::format_name(data.format()), s.tokens, s.targets, s.longest, s.mean());
  if (s.truncated != 0) text += fmt::format("; {} longer than --max-seq-len and cut", s.truncated);
  if (s.emptied != 0) text += fmt::format("; {} left out: nothing to learn was left of them", s.emptied);
  if (s.without_targets != 0) text += fmt::format("; {} left out: nothing to learn in them", s.without_targets);
  if (s.bad != 0) {
    text += fmt::format("; {} malformed lines left out", s.bad);
    for (const std::string& message : s.first_bad) text += fmt::format("\n  {}", message);
  }
  return text;
}

Json data_json(const train::JsonlExamples& data) {
  const train::DataStats& s = data.stats();
  return {{"examples", s.examples}, {"format", train::format_name(data.format())},
          {"tokens", s.tokens},     {"targets", s.targets},
          {"longest", s.longest},   {"truncated", s.truncated},
          {"emptied", s.emptied},   {"without_targets", s.without_targets},
          {"malformed", s.bad}};
}

bool wants_limits(const TrainOptions& o) {
  const ThermalLimits standard;
  return o.limits.max_speed_c != standard.max_speed_c || o.limits.pause_c != standard.pause_c ||
         o.limits.stop_c != standard.stop_c || o.limits.resume_c != standard.resume_c ||
         o.limits.pause_s != standard.pause_s || o.limits.on_battery != standard.on_battery;
}

// Null: trains at full speed.
Result<std::unique_ptr<Governor>> governor_of(const TrainOptions& o, TrainDisplay& display) {
  std::unique_ptr<Governor> none;
  if (o.no_thermal) return none;
  AXON_TRY(check_limits(o.limits));
  std::unique_ptr<Sensor> sensor;
  if (!o.thermal_trace.empty()) {
    const auto start = std::chrono::steady_clock::now();
    sensor = trace_sensor(AXON_TRY(ThermalTrace::open(o.thermal_trace)), [start] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    });
  } else {
    Result<std::unique_ptr<Sensor>> opened = open_sensor();
    if (!opened.ok() && wants_limits(o)) {
      return make_error(opened.error().code, "temperature limits were asked for, but {}; --no-thermal trains without",
                        opened.error().message);
    }
    if (!opened.ok()) {
      display.say(fmt::format("no temperature is watched: {}", opened.error().message));
      return none;
    }
    sensor = std::move(opened).value();
  }
  display.say(
      fmt::format("temperature: {}; half of the rank learns from {:.0f} C, pauses from {:.0f} C, stops at {:.0f} C",
                  sensor->source(), o.limits.max_speed_c, o.limits.pause_c, o.limits.stop_c));
  return std::make_unique<Governor>(std::move(sensor), o.limits);
}

// Everything that lives as long as the training, in the order in which it is needed.
struct Run {
  const TrainOptions& options;
  TrainSettings settings;
  std::unique_ptr<train::Ranks> ranks;
  std::string model_folder;
  std::unique_ptr<train::Training> training;
  const train::JsonlExamples* data = nullptr;
  const train::JsonlExamples* validation = nullptr;
  AdapterForm form = AdapterForm::kPeft;
  Budget budget;
  bool made_folder = false;  // the output's

  bool first() const { return ranks->rank() == 0; }
  Status write_adapter(const std::string& folder, Existing existing) const {
    return write_adapter_into(folder, training->adapters(), form, training->config(),
                              {.base_model = model_folder, .dropout = settings.dropout}, existing);
  }
};

Status load(Run& run, OpenedModel model, const train::TrainingInputs& inputs, const Interruption& interruption) {
  const auto open = [&](const std::string& path, const train::JsonlExamples*& to) -> train::Training::OpenData {
    if (path.empty()) return {};
    return [&run, &to, path](const Tokenizer* tokenizer,
                             Ledger& ledger) -> Result<std::unique_ptr<train::ExampleSource>> {
      ProgressLine line("reading " + path);
      auto opened = std::make_unique<train::JsonlExamples>(AXON_TRY(train::JsonlExamples::open(
          path, *tokenizer, data_options(run.options, run.settings), ledger, [&](Bytes done, Bytes total) {
            line.update(static_cast<double>(done.count) / static_cast<double>(std::max<std::uint64_t>(1, total.count)));
          })));
      to = opened.get();
      return std::unique_ptr<train::ExampleSource>(std::move(opened));
    };
  };
  ProgressLine line("loading");
  const auto progress = [&](std::size_t done, std::size_t total) {
    line.update(static_cast<double>(done) / static_cast<double>(total), fmt::format("tensor {} of {}", done, total));
    return !interruption.flag();
  };
  const MappedFile tokenizer = std::move(model.tokenizer_file);
  run.training = AXON_TRY(train::Training::create(
      std::move(model.files), model.shape(), tokenizer.text(), inputs,
      {open(run.options.data, run.data), open(run.options.val_data, run.validation)}, run.budget.limit, progress));
  return Ok{};
}

std::string memory_text(const Run& run) {
  const Bytes planned = run.training->plan().total(), peak = run.training->ledger().peak();
  return fmt::format("memory: planned {}, ledger peak {} ({}); resident peak {}; budget {} ({})", to_string(planned),
                     to_string(peak), planned == peak ? "equal to the byte" : "NOT EQUAL", to_string(peak_resident()),
                     to_string(run.budget.limit), run.budget.source);
}

Json accounts_json(const Run& run) {
  Json accounts = Json::array();
  for (const PlanLine& line : run.training->plan().lines) {
    accounts.push_back({{"account", line.account},
                        {"planned_bytes", line.bytes.count},
                        {"peak_bytes", run.training->ledger().peak(line.account).count}});
  }
  return {{"planned_bytes", run.training->plan().total().count},
          {"ledger_peak_bytes", run.training->ledger().peak().count},
          {"resident_peak_bytes", peak_resident().count},
          {"budget_bytes", run.budget.limit.count},
          {"budget_source", run.budget.source},
          {"accounts", std::move(accounts)}};
}

// The last name of a path.
std::string name_in(const std::string& path) {
  const std::filesystem::path p(path);
  return (p.has_filename() ? p.filename() : p.parent_path().filename()).string();
}

// The adapter itself, whole or not at all file by file, and what there is to look at.
Status write_results(const Run& run) {
  const std::string& folder = run.options.output;
  AXON_TRY(run.write_adapter(folder, Existing::kReplace));  // of this training's last stop
  train::TrainingReport report{.title = fmt::format("{} on {}", name_in(run.model_folder), name_in(run.options.data))};
  for (const auto& [name, value] : train::all_settings(run.settings)) report.settings.push_back({name, value});
  for (const PlanLine& line : run.training->plan().lines) {
    report.memory.push_back({line.account, line.bytes, run.training->ledger().peak(line.account)});
  }
  report.history = AXON_TRY(train::read_history(folder + "/metrics.jsonl"));
  AXON_TRY(train::write_training_report(folder + "/report.html", report));
  return write_file(folder + "/loss.svg", train::loss_svg(report.history, report.title), Existing::kReplace);
}

// What the processor did in all steps and validations, for shares of its ceilings (bit-axon benchmark).
Json work_json(const Run& run) {
  const cpu::DeviceWork& work = run.training->device().work();
  Json seconds = Json::object();
  for (std::size_t i = 0; i < cpu::kVerbs; ++i) {
    if (work.seconds[i] != 0) seconds[std::string(cpu::name_of(static_cast<cpu::Verb>(i)))] = work.seconds[i];
  }
  return {{"seconds", work.total()},
          {"bf16_flops", work.bf16_flops},
          {"fp32_flops", work.fp32_flops},
          {"weight_bytes", work.weight_bytes},
          {"verb_seconds", std::move(seconds)}};
}

Json validation_json(const std::optional<train::ValidationMetrics>& v) {
  if (!v) return nullptr;
  Json json = {{"step", v->step}, {"loss", v->loss}, {"perplexity", v->perplexity}, {"tokens", v->tokens}};
  if (v->pairs) {
    json["reward_margin"] = v->pairs->reward_margin;
    json["reward_accuracy"] = v->pairs->reward_accuracy;
  }
  return json;
}

void print_json(const Run& run, const TrainDisplay& display, const train::Trainer& trainer, bool stopped) {
  const auto& last = display.last();
  const Json json = {{"adapter", run.options.output},
                     {"stopped", stopped},
                     {"steps", trainer.steps_done()},
                     {"total_steps", trainer.total_steps()},
                     {"trainable_parameters", run.training->adapters().values().size()},
                     {"loss", last ? Json(last->loss) : Json(nullptr)},
                     {"seconds_per_step", last ? Json(last->seconds) : Json(nullptr)},
                     {"tokens_per_second", last ? Json(last->tokens_per_second) : Json(nullptr)},
                     {"validation_before", validation_json(display.first_validation())},
                     {"validation_after", validation_json(display.last_validation())},
                     {"paused_seconds", trainer.paused_seconds()},
                     {"threads", run.training->device().threads()},
                     {"processes", run.ranks->count()},
                     {"work", work_json(run)},
                     {"data", data_json(*run.data)},
                     {"memory", accounts_json(run)}};
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

Status prepare_folder(Run& run) {
  const TrainOptions& o = run.options;
  std::error_code error;
  run.made_folder = std::filesystem::create_directories(o.output, error);
  if (error) return make_error(ErrorCode::kIo, "{}: cannot be made: {}", o.output, error.message());
  const bool begun = std::filesystem::exists(o.output + "/metrics.jsonl", error);
  if (begun && !o.resume) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: a training was begun there: --resume goes on with it; or choose another folder", o.output);
  }
  for (const char* file : {"metrics.jsonl", "adapter", "report.html", "loss.svg"}) {
    AXON_TRY(remove_leftovers(o.output, file));
  }
  return Ok{};
}

Result<int> execute(Run& run, TrainDisplay& display) {
  const TrainOptions& o = run.options;
  run.settings = AXON_TRY(settings_of(o));
  run.form = o.format == "mlx" ? AdapterForm::kMlxLm : AdapterForm::kPeft;
  ModelOptions which;
  which.model = o.model;
  OpenedModel model = AXON_TRY(open_for_run(which, /*needs_tokenizer=*/true));
  run.model_folder = model.files.folder;
  train::TrainingInputs inputs{.settings = run.settings,
                               .weights = AXON_TRY(parse_weight_format(o.weights)),
                               .threads = thread_count(o.threads),
                               .ranks = run.ranks->count(),
                               .rank = run.ranks->rank(),
                               .data = AXON_TRY(size_of_data(o.data)),
                               .validation = AXON_TRY(size_of_data(o.val_data))};
  run.budget = decide_budget(AXON_TRY(parse_budget(o.memory_budget)), read_system_memory());
  const TrainingPlan plan = AXON_TRY(plan_training(model.files, model.shape(), inputs, run.budget));
  if (!plan.fits()) {
    return Error{ErrorCode::kOverBudget, AXON_TRY(training_refusal(plan, model.files, model.shape(), inputs))};
  }
  const std::unique_ptr<Governor> governor = AXON_TRY(governor_of(o, display));
  if (run.first()) AXON_TRY(prepare_folder(run));
  run.ranks->barrier();
  Interruption interruption;
  AXON_TRY(load(run, std::move(model), inputs, interruption));
  display.say(data_text(o.data, *run.data));
  if (run.validation != nullptr) display.say(data_text(o.val_data, *run.validation));

  train::Trainer trainer(
      *run.training, *run.ranks, governor.get(),
      {.folder = o.output,
       .data = o.data,
       .write_adapter = [&](const std::string& folder) { return run.write_adapter(folder, Existing::kRefuse); },
       .resume = o.resume});
  display.say(fmt::format("{} {} of rank {} on {} layers: {} parameters learn; {} steps; planned {}", o.adapter,
                          o.method == "orpo" ? "by ORPO" : "adapters", run.settings.rank,
                          run.training->adapters().shape().linears.size(), run.training->adapters().values().size(),
                          trainer.total_steps(), to_string(run.training->plan().total())));
  bool begun = false;
  const train::TrainEnd end = AXON_TRY(trainer.run(interruption.flag(), [&](const train::MetricsLine& line) {
    if (!begun) display.begin(trainer.total_steps(), trainer.steps_done());
    begun = true;
    display.show(line, governor.get());
  }));
  const bool stopped = end == train::TrainEnd::kStopped;
  if (!run.first()) return stopped ? kExitError : kExitOk;
  AXON_TRY(write_results(run));
  if (o.json) print_json(run, display, trainer, stopped);
  display.say(dim(memory_text(run)));
  if (stopped) {
    display.say(fmt::format("stopped after step {} of {}; the same command with --resume goes on", trainer.steps_done(),
                            trainer.total_steps()));
    return kExitError;
  }
  display.say(fmt::format("adapter: {0}\n  bit-axon run --model {1} --adapter {0} \"...\"\n  report: {0}/report.html",
                          o.output, run.model_folder));
  return kExitOk;
}

}  // namespace

int train_command(const TrainOptions& options) {
  Result<std::unique_ptr<train::Ranks>> ranks = train::connect_ranks();
  if (!ranks.ok()) return report(ranks.error());
  Run run{.options = options,
          .settings = {},
          .ranks = std::move(ranks).value(),
          .model_folder = {},
          .training = {},
          .budget = {}};
  TrainDisplay display(!run.first());
  Result<int> status = execute(run, display);
  if (status.ok()) return status.value();
  const int exit_status = report(status.error());
  std::error_code ignored;
  if (run.made_folder) std::filesystem::remove(options.output, ignored);  // when nothing is in it
  if (run.ranks->count() > 1) run.ranks->abort(exit_status);
  return exit_status;
}

}  // namespace axon::cli
