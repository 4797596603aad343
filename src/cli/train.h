#pragma once
// What a person sees of a training while it runs.

#include <chrono>
#include <optional>
#include <string>

#include "cli/common.h"
#include "train/trainer.h"

namespace axon::cli {

// Lines on stderr: on a terminal one that is rewritten, elsewhere one now and then; validations and events always.
class TrainDisplay {
 public:
  explicit TrainDisplay(bool silent) : silent_(silent) {}
  ~TrainDisplay() { clear(); }
  void begin(std::uint64_t total_steps, std::uint64_t done) { total_ = total_steps, first_ = done; }
  void show(const train::MetricsLine& line, const Governor* governor);
  void say(const std::string& text);

  const std::optional<train::TrainMetrics>& last() const { return last_; }
  const std::optional<train::ValidationMetrics>& first_validation() const { return first_validation_; }
  const std::optional<train::ValidationMetrics>& last_validation() const { return last_validation_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::string step_text(const train::TrainMetrics& line, const Governor* governor) const;
  void clear();

  bool silent_;
  bool shown_ = false;
  std::uint64_t total_ = 0, first_ = 0;
  double smooth_loss_ = 0, seconds_ = 0;
  Clock::time_point last_line_{};
  std::optional<train::TrainMetrics> last_;
  std::optional<train::ValidationMetrics> first_validation_, last_validation_;
};

}  // namespace axon::cli
