#pragma once
// A training's metrics in bounded memory: what its report draws and says.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/metrics_line.h"

namespace axon::train {

// Values over steps. Past kMost points neighbours become one, again and again: a run of any length keeps its shape.
class Curve {
 public:
  static constexpr std::size_t kMost = 2048;  // even
  struct Point {
    double step = 0, value = 0;  // means of what the point holds
  };
  // Steps do not fall. A value that is not finite is left out.
  void add(std::uint64_t step, double value);
  const std::vector<Point>& points() const { return points_; }
  bool empty() const { return points_.empty(); }
  // Each value as a mean of it and its neighbours on both sides, whose weights halve every `half_life` points: a mean
  // of the past alone would lag behind.
  std::vector<Point> smoothed(double half_life) const;

 private:
  void halve();
  std::vector<Point> points_;
  std::uint64_t stride_ = 1;      // values that a whole point holds
  std::uint64_t last_holds_ = 0;  // values that the last point holds so far
};

struct History {
  static constexpr std::size_t kMostEvents = 500;
  Curve loss, validation_loss, learning_rate, gradient_norm, tokens_per_second, celsius;
  Curve reward_margin, reward_accuracy;
  std::optional<TrainMetrics> first, last;
  std::optional<ValidationMetrics> best_validation, last_validation;
  double seconds = 0, paused_seconds = 0;
  std::uint64_t tokens = 0;
  Bytes memory_peak;
  std::uint64_t not_finite = 0;      // steps whose loss was no number
  std::vector<EventMetrics> events;  // the first kMostEvents
  std::uint64_t events_left_out = 0;

  void add(const MetricsLine& line);
  void add(const TrainMetrics& line);
  void add(const ValidationMetrics& line);
  void add(const EventMetrics& line);
};

// The errors are those of each_metrics.
Result<History> read_history(const std::string& metrics_path);

}  // namespace axon::train
