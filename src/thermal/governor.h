#pragma once
// Keeps a laptop without a fan cool while it trains: reads a sensor, and says before each step whether it may begin.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"
#include "thermal/policy.h"
#include "thermal/sensor.h"

namespace axon {

// A clock of one's own, for tests and for traces faster than time. With it the sensor is read inside the calls, when a
// reading is due, and there is no thread.
struct ThermalClock {
  std::function<double()> now;        // seconds
  std::function<void(double)> sleep;  // seconds
};

struct ThermalStatus {
  std::optional<double> celsius{};
  std::optional<ThermalPressure> pressure{};
  PowerSource power = PowerSource::kUnknown;
  std::optional<double> trend_c_per_minute{};
  ThermalDecision decision{};  // as of the last reading
  double paused_s = 0;         // in all, of before_step()
  double stopped_s = 0;        // in all, of wait_until_cool()
  std::string source{};
};

// before_step() and wait_until_cool() belong to the one thread that trains; decision() and status() to any.
class Governor {
 public:
  // The limits must have passed check_limits(). Reads once at once, then every `interval_s` in a thread of its own.
  Governor(std::unique_ptr<Sensor> sensor, const ThermalLimits& limits, double interval_s = 1);
  Governor(std::unique_ptr<Sensor> sensor, const ThermalLimits& limits, double interval_s, ThermalClock clock);
  ~Governor();  // within milliseconds, or what a read of the sensor takes
  Governor(const Governor&) = delete;
  Governor& operator=(const Governor&) = delete;

  // Call where a step would begin; the step is what happens until the next call, so calling before each micro-batch
  // holds a limit more closely. Sleeps for as long as it is too hot, and answers
  //   kFull, kHalfRank  begin, with rank_fraction() of each adapter's rank
  //   kStop             write a checkpoint, then wait_until_cool()
  //   kPause            `stop` was set meanwhile: begin nothing
  ThermalDecision before_step(const std::atomic<bool>* stop = nullptr);

  // Sleeps until decision() is no longer kStop. False when `stop` was set before.
  bool wait_until_cool(const std::atomic<bool>* stop = nullptr);

  // What holds at this moment; changes nothing.
  ThermalDecision decision() const;
  ThermalStatus status() const;

 private:
  double now() const;
  void read_if_due();
  void take(const ThermalReading& reading, double now_s);
  void read_until_closed();
  bool sleep(double seconds, const std::atomic<bool>* stop, double& account);
  ThermalDecision decide_locked() const;

  const std::unique_ptr<Sensor> sensor_;
  const ThermalLimits limits_;
  const double interval_s_;
  const ThermalClock clock_;
  const std::string source_;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable closing_;
  bool closed_ = false;
  double read_s_ = 0;  // when the sensor was read last
  ThermalReading reading_{};
  std::deque<Temperature> history_;  // of the last 60 readings with degrees
  std::optional<Temperature> step_began_{};
  StepHeat last_step_{};
  double step_ended_s_ = 0;
  bool stopped_ = false;
  double paused_s_ = 0, stopped_s_ = 0;
  std::thread thread_;
};

}  // namespace axon
