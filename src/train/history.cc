#include "train/history.h"

#include <algorithm>
#include <cmath>

#include "train/metrics.h"

namespace axon::train {

void Curve::add(std::uint64_t step, double value) {
  if (!std::isfinite(value)) return;
  if (points_.empty() || last_holds_ == stride_) {
    if (points_.size() == kMost) halve();
    points_.push_back({});
    last_holds_ = 0;
  }
  ++last_holds_;
  Point& last = points_.back();
  const double share = 1 / static_cast<double>(last_holds_);
  last.step += (static_cast<double>(step) - last.step) * share;
  last.value += (value - last.value) * share;
}

void Curve::halve() {
  for (std::size_t i = 0; i < points_.size() / 2; ++i) {
    const Point a = points_[2 * i], b = points_[2 * i + 1];
    points_[i] = {.step = (a.step + b.step) / 2, .value = (a.value + b.value) / 2};
  }
  points_.resize(points_.size() / 2);
  stride_ *= 2;
}

std::vector<Curve::Point> Curve::smoothed(double half_life) const {
  std::vector<Point> out = points_;
  const double keep = std::exp2(-1 / half_life);
  std::vector<double> weights(out.size());
  double sum = 0, weight = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {  // it and what is before
    sum = keep * sum + points_[i].value;
    weight = keep * weight + 1;
    out[i].value = sum;
    weights[i] = weight;
  }
  sum = weight = 0;
  for (std::size_t i = out.size(); i-- > 0;) {  // what is after
    out[i].value = (out[i].value + sum) / (weights[i] + weight);
    sum = keep * (sum + points_[i].value);
    weight = keep * (weight + 1);
  }
  return out;
}

void History::add(const MetricsLine& line) {
  std::visit([&](const auto& l) { add(l); }, line);
}

void History::add(const TrainMetrics& line) {
  if (!first) first = line;
  last = line;
  loss.add(line.step, line.loss);
  if (!std::isfinite(line.loss)) ++not_finite;
  if (line.update > 0) gradient_norm.add(line.step, line.gradient_norm);  // before the first there is none
  learning_rate.add(line.step, line.learning_rate);
  tokens_per_second.add(line.step, line.tokens_per_second);
  if (line.celsius) celsius.add(line.step, *line.celsius);
  if (line.pairs) reward_margin.add(line.step, line.pairs->reward_margin);
  if (line.pairs) reward_accuracy.add(line.step, line.pairs->reward_accuracy);
  if (std::isfinite(line.seconds)) seconds += line.seconds;
  if (std::isfinite(line.paused_seconds)) paused_seconds += line.paused_seconds;
  tokens += line.tokens;
  memory_peak = std::max(memory_peak, line.memory);
}

void History::add(const ValidationMetrics& line) {
  validation_loss.add(line.step, line.loss);
  last_validation = line;
  if (std::isfinite(line.loss) && (!best_validation || line.loss < best_validation->loss)) best_validation = line;
}

void History::add(const EventMetrics& line) {
  if (events.size() < kMostEvents)
    events.push_back(line);
  else
    ++events_left_out;
}

Result<History> read_history(const std::string& metrics_path) {
  History out;
  AXON_TRY(each_metrics(metrics_path, [&](const MetricsLine& line) -> Status {
    out.add(line);
    return Ok{};
  }));
  return out;
}

}  // namespace axon::train
