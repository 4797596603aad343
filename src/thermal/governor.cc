#include "thermal/governor.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace axon {
namespace {

constexpr std::size_t kHistory = 60;
constexpr double kSliceSeconds = 0.1;  // a wait looks at its stop flag this often: a flag of a signal wakes nobody

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool is_set(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(); }

}  // namespace

Governor::Governor(std::unique_ptr<Sensor> sensor, const ThermalLimits& limits, double interval_s)
    : Governor(std::move(sensor), limits, interval_s, ThermalClock{.now = {}, .sleep = {}}) {}

Governor::Governor(std::unique_ptr<Sensor> sensor, const ThermalLimits& limits, double interval_s, ThermalClock clock)
    : sensor_(std::move(sensor)),
      limits_(limits),
      interval_s_(interval_s),
      clock_(std::move(clock)),
      source_(sensor_->source()) {
  AXON_CHECK(check_limits(limits_).ok() && interval_s_ > 0);
  AXON_CHECK(!clock_.now == !clock_.sleep);
  step_ended_s_ = now();
  take(sensor_->read(), now());
  if (!clock_.now) thread_ = std::thread([this] { read_until_closed(); });
}

Governor::~Governor() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  closing_.notify_all();
  if (thread_.joinable()) thread_.join();
}

double Governor::now() const { return clock_.now ? clock_.now() : steady_seconds(); }

void Governor::take(const ThermalReading& reading, double now_s) {
  const std::lock_guard lock(mutex_);
  read_s_ = now_s;
  reading_ = reading;
  if (!reading.celsius) return;
  history_.push_back({now_s, *reading.celsius});
  if (history_.size() > kHistory) history_.pop_front();
}

// With a thread, only that thread reads; without, only the caller.
void Governor::read_if_due() {
  if (thread_.joinable()) return;
  const double now_s = now();
  if (now_s - read_s_ >= interval_s_) take(sensor_->read(), now_s);
}

void Governor::read_until_closed() {
  std::unique_lock lock(mutex_);
  while (!closing_.wait_for(lock, std::chrono::duration<double>(interval_s_), [&] { return closed_; })) {
    lock.unlock();
    const ThermalReading reading = sensor_->read();
    take(reading, now());
    lock.lock();
  }
}

// False when `stop` was set. What was slept is added to `account`.
bool Governor::sleep(double seconds, const std::atomic<bool>* stop, double& account) {
  const double began = now();
  if (clock_.sleep) {
    if (!is_set(stop)) clock_.sleep(seconds);
  } else {
    for (double left = seconds; left > 0 && !is_set(stop); left = seconds - (now() - began)) {
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(left, kSliceSeconds)));
    }
  }
  read_if_due();
  const std::lock_guard lock(mutex_);
  account += now() - began;
  return !is_set(stop);
}

ThermalDecision Governor::decide_locked() const {
  const std::vector<Temperature> history(history_.begin(), history_.end());
  const double now_s = now();
  return decide(limits_, {.now_s = now_s,
                          .history = history,
                          .pressure = reading_.pressure,
                          .power = reading_.power,
                          .last_step = last_step_,
                          .rested_s = now_s - step_ended_s_,
                          .stopped = stopped_});
}

ThermalDecision Governor::before_step(const std::atomic<bool>* stop) {
  read_if_due();
  {
    const std::lock_guard lock(mutex_);
    step_ended_s_ = now();
    if (step_began_) {
      const double rise_c = history_.empty() ? 0 : history_.back().celsius - step_began_->celsius;
      last_step_ = {step_ended_s_ - step_began_->seconds, rise_c};
      step_began_.reset();
    }
  }
  for (;;) {
    ThermalDecision decision;
    {
      const std::lock_guard lock(mutex_);
      decision = decide_locked();
      stopped_ = decision.action == ThermalAction::kStop;
      const bool begins = decision.action < ThermalAction::kPause;
      if (begins) step_began_ = Temperature{now(), history_.empty() ? 0 : history_.back().celsius};
    }
    if (decision.action != ThermalAction::kPause || !sleep(decision.pause_s, stop, paused_s_)) return decision;
  }
}

bool Governor::wait_until_cool(const std::atomic<bool>* stop) {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = decide_locked().action == ThermalAction::kStop;
      if (!stopped_) return !is_set(stop);
    }
    if (!sleep(interval_s_, stop, stopped_s_)) return false;
  }
}

ThermalDecision Governor::decision() const {
  const std::lock_guard lock(mutex_);
  return decide_locked();
}

ThermalStatus Governor::status() const {
  const std::lock_guard lock(mutex_);
  ThermalStatus status{.celsius = reading_.celsius,
                       .pressure = reading_.pressure,
                       .power = reading_.power,
                       .decision = decide_locked(),
                       .paused_s = paused_s_,
                       .stopped_s = stopped_s_,
                       .source = source_};
  const std::vector<Temperature> history(history_.begin(), history_.end());
  if (const auto trend = thermal_trend(history)) status.trend_c_per_minute = *trend * 60;
  return status;
}

}  // namespace axon
