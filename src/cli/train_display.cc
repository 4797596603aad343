#include "cli/train.h"

#include <fmt/chrono.h>

#include <cmath>

namespace axon::cli {
namespace {

std::string duration_text(double seconds) {
  const auto s = static_cast<long>(std::max(0.0, std::min(seconds, 1e9)));
  if (s < 120) return fmt::format("{} s", s);
  if (s < 7200) return fmt::format("{} min", (s + 30) / 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

std::string pairs_text(const std::optional<train::PairMetrics>& pairs) {
  if (!pairs) return "";
  return fmt::format(", margin {:+.3f}, chosen preferred {:.0f} %", pairs->reward_margin, 100 * pairs->reward_accuracy);
}

}  // namespace

void TrainDisplay::clear() {
  if (shown_) fmt::print(stderr, "\r\x1b[K");
  shown_ = false;
}

void TrainDisplay::say(const std::string& text) {
  if (silent_) return;
  clear();
  fmt::print(stderr, "{}\n", text);
}

std::string TrainDisplay::step_text(const train::TrainMetrics& line, const Governor* governor) const {
  const double done = static_cast<double>(line.step - first_);
  const double left = done > 0 ? seconds_ / done * static_cast<double>(total_ - line.step) : 0;
  std::string text = fmt::format("step {}/{}  loss {:.3f} (mean {:.3f}){}  lr {:.1e}  {:.0f} tokens/s  {} left  {}",
                                 line.step, total_, line.loss, smooth_loss_, pairs_text(line.pairs), line.learning_rate,
                                 line.tokens_per_second, duration_text(left), to_string(line.memory));
  if (line.celsius) text += fmt::format("  {:.0f} C", *line.celsius);
  if (governor != nullptr && governor->decision().action != ThermalAction::kFull) {
    text += fmt::format("  [{}]", name_of(governor->decision().action));
  }
  return text;
}

void TrainDisplay::show(const train::MetricsLine& any, const Governor* governor) {
  if (const auto* line = std::get_if<train::ValidationMetrics>(&any)) {
    if (!first_validation_) first_validation_ = *line;
    last_validation_ = *line;
    say(fmt::format("step {}: validation loss {:.4f}, perplexity {:.2f}{}", line->step, line->loss, line->perplexity,
                    pairs_text(line->pairs)));
    return;
  }
  if (const auto* line = std::get_if<train::EventMetrics>(&any)) {
    if (line->event == "start" || line->event == "done") return;
    say(fmt::format("step {}: {}{}{}", line->step, line->event, line->state ? " " + *line->state : std::string(),
                    line->detail.empty() ? "" : fmt::format(": {}", line->detail)));
    return;
  }
  const auto& line = std::get<train::TrainMetrics>(any);
  smooth_loss_ = last_ ? 0.95 * smooth_loss_ + 0.05 * line.loss : line.loss;
  seconds_ += line.seconds + line.paused_seconds;
  last_ = line;
  if (silent_) return;
  const auto now = Clock::now();
  if (stderr_is_terminal()) {
    if (now - last_line_ < std::chrono::milliseconds(100) && line.step != total_) return;
    fmt::print(stderr, "\r\x1b[K{}", step_text(line, governor));
    std::fflush(stderr);
    shown_ = true;
  } else {
    if (now - last_line_ < std::chrono::seconds(10) && line.step != total_ && line.step != first_ + 1) return;
    fmt::print(stderr, "{}\n", step_text(line, governor));
  }
  last_line_ = now;
}

}  // namespace axon::cli
