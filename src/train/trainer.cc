#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "memory/system.h"
#include "train/epochs.h"

namespace axon::train {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::optional<PairMetrics> pair_metrics(const TrainSettings& settings, const LossSums& sums) {
  if (settings.objective != Objective::kPreference || sums.weight == 0) return std::nullopt;
  return PairMetrics{.nll = sums.nll / sums.weight,
                     .odds_ratio_loss = sums.odds / sums.weight,
                     .chosen_logps = sums.chosen / sums.weight,
                     .rejected_logps = sums.rejected / sums.weight,
                     .reward_margin = sums.margin / sums.weight,
                     .reward_accuracy = sums.better / sums.weight};
}

}  // namespace

Trainer::Trainer(Training& training, Ranks& ranks, Governor* governor, TrainerFiles files)
    : training_(training),
      ranks_(ranks),
      governor_(governor),
      files_(std::move(files)),
      settings_(training.settings()),
      total_steps_(count_steps()) {}

std::uint64_t Trainer::count_steps() const {
  if (settings_.max_steps != 0) return settings_.max_steps;
  const double steps = settings_.epochs * steps_of_epoch(training_.data(), settings_, ranks_.count());
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(steps - 1e-9)));
}

Schedule Trainer::schedule() const {
  const std::uint64_t updates = (total_steps_ + settings_.grad_accum - 1) / settings_.grad_accum;
  Schedule schedule{.peak = settings_.learning_rate,
                    .floor = settings_.learning_rate_floor,
                    .warmup = settings_.warmup,
                    .total = settings_.compat ? total_steps_ : updates,
                    .decay = settings_.decay,
                    .compat = settings_.compat};
  if (!settings_.compat) schedule.warmup = std::min(schedule.warmup, updates - 1);
  return schedule;
}

// A step's window of accumulation ends with it. The original throws an unfinished one away at the end.
bool Trainer::window_ends() const {
  const std::uint64_t done = at_.step + 1;
  return done % settings_.grad_accum == 0 || (done == total_steps_ && !settings_.compat);
}

Result<TrainEnd> Trainer::run(const std::atomic<bool>& stop, const OnMetrics& on_metrics) {
  on_metrics_ = on_metrics;
  stop_ = &stop;
  AXON_TRY(schedule().check());
  AXON_TRY(begin());
  while (at_.step < total_steps_) {
    double paused = 0;
    const Agreement agreed = AXON_TRY(agree(stop, paused));
    // Among several processes a window's gradients are not one process's to keep, so its end is waited for.
    const bool whole = ranks_.count() == 1 || at_.step % settings_.grad_accum == 0;
    if (agreed.stop && whole) {
      AXON_TRY(event("stop", "interrupted"));
      AXON_TRY(save());
      return TrainEnd::kStopped;
    }
    if (agreed.hot && whole) {
      AXON_TRY(cool_down(stop));
      continue;
    }
    if (at_.step % settings_.grad_accum == 0) at_.half = agreed.half;
    AXON_TRY(step(paused));
    const bool last = at_.step == total_steps_;
    const bool evaluate = settings_.eval_every != 0 && at_.step % settings_.eval_every == 0;
    if (training_.validates() && (evaluate || last)) AXON_TRY(validate_and_tell());
    const bool between = ranks_.count() == 1 || at_.step % settings_.grad_accum == 0;
    if (last) AXON_TRY(event("done"));
    if (last || (between && at_.step - saved_.value_or(0) >= settings_.save_every)) AXON_TRY(save());
  }
  return TrainEnd::kDone;
}

Status Trainer::begin() {
  Checkpoints checkpoints = AXON_TRY(Checkpoints::open(files_.checkpoints()));
  const std::optional<std::uint64_t> latest = checkpoints.latest();
  if (latest && !files_.resume) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "{}: has checkpoints of a training, the last of step {}: --resume goes on with it; or choose another "
        "folder",
        files_.folder, *latest);
  }
  if (latest) AXON_TRY(resume(checkpoints, *latest));
  checkpoints_.emplace(std::move(checkpoints));
  if (first() && !latest) AXON_TRY(remove_metrics());
  if (first()) metrics_.emplace(AXON_TRY(MetricsFile::resume(files_.metrics(), at_.step)));
  if (latest) return event("resume", fmt::format("after step {}", at_.step));
  AXON_TRY(event("start", fmt::format("{} steps", total_steps_)));
  if (training_.validates()) AXON_TRY(validate_and_tell());
  return Ok{};
}

// Of a training that ended before its first checkpoint: nothing of it is gone on with.
Status Trainer::remove_metrics() const {
  std::error_code error;
  std::filesystem::remove(files_.metrics(), error);
  if (error) return make_error(ErrorCode::kIo, "{}: cannot be removed: {}", files_.metrics(), error.message());
  return Ok{};
}

Result<Trainer::Agreement> Trainer::agree(const std::atomic<bool>& stop, double& paused) {
  double flags[3] = {stop.load() ? 1.0 : 0.0, 0, 0};
  if (governor_ != nullptr && flags[0] == 0) {
    const double before = paused_seconds();
    const ThermalDecision decision = governor_->before_step(&stop);
    paused = paused_seconds() - before;
    flags[0] = decision.action == ThermalAction::kPause ? 1 : 0;  // stopped while it rested
    flags[1] = decision.action == ThermalAction::kStop ? 1 : 0;
    flags[2] = decision.rank_fraction() < 1 ? 1 : 0;
    if (decision.action != last_action_ && decision.action != ThermalAction::kPause) {
      last_action_ = decision.action;
      EventMetrics line{
          .step = at_.step, .event = "thermal", .detail = decision.reason, .state = name_of(decision.action)};
      line.celsius = governor_->status().celsius;
      AXON_TRY(tell(line));
    }
  }
  if (ranks_.count() > 1) ranks_.sum(std::span<double>(flags));
  return Agreement{.stop = flags[0] > 0, .hot = flags[1] > 0, .half = flags[2] > 0};
}

Status Trainer::cool_down(const std::atomic<bool>& stop) {
  AXON_TRY(save());
  if (governor_ != nullptr && governor_->decision().action == ThermalAction::kStop) governor_->wait_until_cool(&stop);
  if (ranks_.count() > 1) ranks_.barrier();
  return Ok{};
}

Status Trainer::step(double paused) {
  const auto start = Clock::now();
  const bool opens = at_.step % settings_.grad_accum == 0;
  if (opens) {
    std::ranges::fill(training_.gradients(), 0.0f);
    at_.window = {};
    training_.adapters().learn_ranks(at_.half ? std::max<std::size_t>(1, settings_.rank / 2) : settings_.rank);
  }
  const Batch batch = AXON_TRY(next_batch());
  const std::uint64_t process = at_.step * ranks_.count() + ranks_.rank();
  training_.pass().set_dropout(static_cast<float>(settings_.dropout), mix64(settings_.seed ^ mix64(process + 1)));
  LossSums sums = training_.losses().run(training_.pass(), batch, /*learn=*/true);
  const bool fine = std::isfinite(sums.loss);
  if (ranks_.count() > 1) ranks_.sum(sums.numbers());  // before anything ends: the others are in their sum, too
  if (!fine) return not_a_number(batch, "the loss is not a number");
  if (!std::isfinite(sums.loss)) return not_a_number(batch, "the loss of another process is not a number");
  at_.window += sums;
  if (window_ends()) {
    AXON_TRY(update());
    if (!std::isfinite(at_.last_norm)) return not_a_number(batch, "the gradient is not a number");
  }
  ++at_.step;
  at_.position = training_.batches().position();

  const double seconds = seconds_since(start);
  TrainMetrics line{.step = at_.step,
                    .update = at_.update,
                    .epoch = epochs_done(),
                    .loss = sums.mean(),
                    .gradient_norm = at_.last_norm,
                    .learning_rate = at_.last_rate,
                    .tokens = static_cast<std::uint64_t>(sums.tokens),
                    .tokens_per_second = seconds > 0 ? sums.tokens / seconds : 0,
                    .seconds = seconds,
                    .memory = peak_resident(),
                    .celsius = {},
                    .ranks = training_.adapters().ranks_learning(),
                    .paused_seconds = paused,
                    .pairs = pair_metrics(settings_, sums)};
  if (governor_ != nullptr) line.celsius = governor_->status().celsius;
  return tell(line);
}

// The original passes over batches without a target, and does not count them.
Result<Batch> Trainer::next_batch() {
  Batches& batches = training_.batches();
  const bool passes_over = settings_.compat && settings_.objective == Objective::kSupervised;
  const std::uint64_t epoch = batches.position().epoch;
  for (;;) {
    const Batch batch = AXON_TRY(batches.next());
    if (!passes_over || batch.targets != 0) return batch;
    if (batches.position().epoch > epoch + 1) {
      return make_error(ErrorCode::kInvalidArgument, "{}: no batch of a whole epoch has anything to learn",
                        files_.data);
    }
  }
}

// The original's packed rows are not counted: how far an epoch has come is then not known.
double Trainer::epochs_done() const {
  const double whole = static_cast<double>(at_.position.epoch);
  if (settings_.compat && !training_.data().pairs()) return whole;
  return whole + static_cast<double>(at_.position.index) / static_cast<double>(training_.data().size());
}

Status Trainer::update() {
  AdapterSet& adapters = training_.adapters();
  cpu::ThreadPool& pool = training_.device().pool();
  if (ranks_.count() > 1) ranks_.sum(training_.gradients());
  adapters.finish_gradients(pool, settings_.compat);
  const AdamWStep step{.learning_rate = schedule().rate(at_.update),
                       .average = settings_.compat ? 1.0 : 1.0 / std::max(at_.window.weight, 1.0),
                       .max_norm = settings_.max_grad_norm};
  const AdamWOutcome outcome =
      training_.optimizer().update(pool, ranges(), step, training_.gradients(), adapters.values());
  at_.last_norm = outcome.gradient_norm;
  at_.last_rate = step.learning_rate;
  if (!outcome.applied) return Ok{};
  ++at_.update;
  if (at_.half) ++at_.half_updates;
  adapters.refresh(pool, settings_.compat);
  return Ok{};
}

// Both halves of each adapter's ranks, or the first alone.
std::vector<ParameterRange> Trainer::ranges() const {
  const std::uint64_t late = at_.update - at_.half_updates;
  std::vector<ParameterRange> list;
  for (const AdapterTensor& t : training_.adapters().tensors()) {
    if (t.part == AdapterTensor::Part::kMagnitude) {
      list.push_back({t.first, t.size(), at_.update});
      continue;
    }
    const std::size_t rows = std::min<std::size_t>(t.rows, std::max<std::size_t>(1, settings_.rank / 2));
    list.push_back({t.first, rows * t.cols, at_.update});
    if (!at_.half && rows < t.rows) list.push_back({t.first + rows * t.cols, (t.rows - rows) * t.cols, late});
  }
  return list;
}

Error Trainer::not_a_number(const Batch& batch, std::string_view what) const {
  std::string lines;
  std::size_t named = 0;
  for (const Row& row : batch.rows) {
    for (const std::uint32_t line : row.lines) {
      if (++named <= 20) lines += fmt::format("{}{}", lines.empty() ? "" : ", ", line);
    }
  }
  if (named > 20) lines += fmt::format(" and {} more", named - 20);
  return make_error(
      ErrorCode::kCorrupt, "step {}: {}; its batch is line {} of {}. {}", at_.step + 1, what, lines, files_.data,
      saved_ ? fmt::format("The last checkpoint, of step {}, is whole: {}", *saved_, checkpoints_->path_of(*saved_))
             : std::string("There is no checkpoint yet"));
}

// Before what heats as a step does, but is to be finished: a stop flag ends the rest alone.
void Trainer::rest() {
  if (governor_ == nullptr) return;
  while (governor_->before_step(stop_).action == ThermalAction::kStop && governor_->wait_until_cool(stop_)) {
  }
}

Result<LossSums> Trainer::validate() {
  Batches& batches = *AXON_TRY(training_.validation_batches());
  training_.pass().set_dropout(0.0f, 0);
  LossSums sums;
  for (std::uint64_t i = 0; !batches.finished() && (settings_.eval_batches == 0 || i < settings_.eval_batches); ++i) {
    const Batch batch = AXON_TRY(batches.next());
    rest();
    sums += training_.losses().run(training_.pass(), batch, /*learn=*/false);
  }
  if (ranks_.count() > 1) ranks_.sum(sums.numbers());
  return sums;
}

Status Trainer::validate_and_tell() {
  const LossSums sums = AXON_TRY(validate());
  return tell(ValidationMetrics{.step = at_.step,
                                .update = at_.update,
                                .loss = sums.mean(),
                                .perplexity = std::exp(sums.mean()),
                                .tokens = static_cast<std::uint64_t>(sums.tokens),
                                .pairs = pair_metrics(settings_, sums)});
}

Status Trainer::tell(const MetricsLine& line) {
  if (metrics_) AXON_TRY(metrics_->write(line));
  if (on_metrics_) on_metrics_(line);
  return Ok{};
}

Status Trainer::event(std::string name, std::string detail) {
  return tell(EventMetrics{.step = at_.step, .event = std::move(name), .detail = std::move(detail)});
}

CheckpointNumbers Trainer::numbers() const {
  CheckpointNumbers n;
  for (const auto& [name, value] : fixed_settings(settings_)) n[fmt::format("setting.{}", name)] = value;
  n["model"] = training_.fingerprint();
  n["data"] = fmt::format("{:016x}", training_.data().fingerprint());
  n["processes"] = fmt::format("{}", ranks_.count());
  n["step"] = fmt::format("{}", at_.step);
  n["update"] = fmt::format("{}", at_.update);
  n["half_updates"] = fmt::format("{}", at_.half_updates);
  n["half"] = fmt::format("{}", at_.half ? 1 : 0);
  n["position.epoch"] = fmt::format("{}", at_.position.epoch);
  n["position.index"] = fmt::format("{}", at_.position.index);
  n["last_norm"] = exact_text(at_.last_norm);
  n["last_rate"] = exact_text(at_.last_rate);
  LossSums window = at_.window;
  for (std::size_t i = 0; i < LossSums::kNumbers; ++i) n[fmt::format("window.{}", i)] = exact_text(window.numbers()[i]);
  return n;
}

Status Trainer::save() {
  if (first()) {
    AXON_TRY(metrics_->sync());
    AdapterSet& adapters = training_.adapters();
    const bool open_window = at_.step % settings_.grad_accum != 0 && at_.step != total_steps_;
    const CheckpointArrays arrays{.values = adapters.values(),
                                  .first_moments = training_.optimizer().first_moments(),
                                  .second_moments = training_.optimizer().second_moments(),
                                  .gradients = open_window ? training_.gradients() : std::span<float>{}};
    AXON_TRY(checkpoints_->save(at_.step, arrays, numbers(), settings_.keep, files_.write_adapter));
  }
  saved_ = at_.step;
  if (ranks_.count() > 1) ranks_.barrier();
  if (on_metrics_)
    on_metrics_(EventMetrics{.step = at_.step, .event = "checkpoint", .detail = checkpoints_->path_of(at_.step)});
  return Ok{};
}

Status Trainer::read_numbers(const CheckpointNumbers& came) {
  at_.step = AXON_TRY(exact_count(came, "step"));
  at_.update = AXON_TRY(exact_count(came, "update"));
  at_.half_updates = AXON_TRY(exact_count(came, "half_updates"));
  at_.half = AXON_TRY(exact_count(came, "half")) != 0;
  at_.position.epoch = AXON_TRY(exact_count(came, "position.epoch"));
  at_.position.index = AXON_TRY(exact_count(came, "position.index"));
  at_.last_norm = AXON_TRY(exact_double(came, "last_norm"));
  at_.last_rate = AXON_TRY(exact_double(came, "last_rate"));
  for (std::size_t i = 0; i < LossSums::kNumbers; ++i) {
    at_.window.numbers()[i] = AXON_TRY(exact_double(came, fmt::format("window.{}", i)));
  }
  return Ok{};
}

Status Trainer::resume(Checkpoints& checkpoints, std::uint64_t step) {
  const CheckpointNumbers came = AXON_TRY(checkpoints.numbers(step));
  const std::string where = checkpoints.path_of(step);
  std::string differences;
  const auto same = [&](const std::string& key, const std::string& what, const std::string& mine) {
    const auto found = came.find(key);
    if (found != came.end() && found->second == mine) return;
    differences += fmt::format("{}{} was {}, and is {}", differences.empty() ? "" : "; ", what,
                               found == came.end() ? "not known" : found->second, mine);
  };
  for (const auto& [name, value] : fixed_settings(settings_)) same(fmt::format("setting.{}", name), name, value);
  const CheckpointNumbers mine = numbers();
  same("model", "the model", mine.at("model"));
  same("data", "the training data", mine.at("data"));
  same("processes", "the number of processes", mine.at("processes"));
  if (!differences.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: belongs to another training: {}", where, differences);
  }
  if (const Status read = read_numbers(came); !read.ok()) {
    return make_error(read.error().code, "{}: {}", where, read.error().message);
  }
  AdapterSet& adapters = training_.adapters();
  AXON_TRY(checkpoints.load(step, {.values = adapters.values(),
                                   .first_moments = training_.optimizer().first_moments(),
                                   .second_moments = training_.optimizer().second_moments(),
                                   .gradients = training_.gradients()}));
  adapters.refresh(training_.device().pool(), settings_.compat);
  adapters.learn_ranks(at_.half ? std::max<std::size_t>(1, settings_.rank / 2) : settings_.rank);
  if (const Status restored = training_.batches().restore(at_.position); !restored.ok()) {
    return make_error(ErrorCode::kCorrupt, "{}: {}", where, restored.error().message);
  }
  saved_ = step;
  return Ok{};
}

}  // namespace axon::train
