#include "thermal/policy.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string_view>

namespace axon {
namespace {

constexpr double kTrendSeconds = 10;  // enough readings that their noise is a tenth of a degree a second
constexpr double kStaleSeconds = 10;
// Sensors speak in whole degrees, and a step that begins cooler than the last one heats a little more.
constexpr double kMarginC = 1;

ThermalDecision pause(const ThermalLimits& limits, std::string reason) {
  return {ThermalAction::kPause, limits.pause_s, std::move(reason)};
}

// How warm it will be when the next step ends. What a step of the same length did is the best guess; the trend is it
// before there is one, and when heat comes from elsewhere. A trend is not drawn out farther than it looked back.
double expected_rise(const ThermalView& view) {
  const double ahead = std::clamp(view.last_step.seconds, 1.0, kTrendSeconds);
  return std::max({0.0, view.last_step.rise_c, thermal_trend(view.history).value_or(0) * ahead});
}

ThermalDecision by_degrees(const ThermalLimits& limits, const ThermalView& view) {
  const double is = view.history.back().celsius, rise = expected_rise(view), then = is + rise;
  if (view.stopped && is >= limits.resume_c) {
    return {ThermalAction::kStop, 0, fmt::format("{:.1f} C: goes on below {} C", is, limits.resume_c)};
  }
  const auto not_below = [&](double limit) { return fmt::format("{:.1f} C is not below {} C", is, limit); };
  const auto would_be = [&] { return fmt::format("{:.1f} C, and {:.1f} C after one more step", is, then); };
  if (is >= limits.stop_c) return {ThermalAction::kStop, 0, not_below(limits.stop_c)};
  if (is >= limits.pause_c) return pause(limits, not_below(limits.pause_c));
  if (then >= limits.stop_c - kMarginC) {
    // Cooler than cool is not waited for: some steps heat by more than lies between the limits.
    if (is >= limits.resume_c) return pause(limits, would_be());
    return {ThermalAction::kHalfRank, 0,
            fmt::format("{:.1f} C, but one step heats by {:.1f} C: shorter steps would hold the limit", is, rise)};
  }
  if (is >= limits.max_speed_c) return {ThermalAction::kHalfRank, 0, not_below(limits.max_speed_c)};
  if (then >= limits.pause_c) return {ThermalAction::kHalfRank, 0, would_be()};
  return {ThermalAction::kFull, 0, fmt::format("{:.1f} C", is)};
}

ThermalDecision by_pressure(const ThermalLimits& limits, const ThermalView& view) {
  const ThermalPressure pressure = *view.pressure;
  std::string reason = fmt::format("thermal pressure is {}", name_of(pressure));
  if (view.stopped && pressure != ThermalPressure::kNominal) return {ThermalAction::kStop, 0, std::move(reason)};
  switch (pressure) {
    case ThermalPressure::kNominal: return {ThermalAction::kFull, 0, std::move(reason)};
    case ThermalPressure::kModerate: return {ThermalAction::kHalfRank, 0, std::move(reason)};
    case ThermalPressure::kHeavy: return pause(limits, std::move(reason));
    case ThermalPressure::kTrapping:
    case ThermalPressure::kSleeping: break;
  }
  return {ThermalAction::kStop, 0, std::move(reason)};
}

// Slow halves the power that is drawn, whatever the step costs: rest and work last equally long.
ThermalDecision by_power(const ThermalLimits& limits, const ThermalView& view) {
  if (view.power != PowerSource::kBattery || limits.on_battery == OnBattery::kIgnore) return {};
  if (limits.on_battery == OnBattery::kStop) return {ThermalAction::kStop, 0, "on battery"};
  const double rest = view.last_step.seconds - view.rested_s;
  if (rest <= 0) return {};
  return {ThermalAction::kPause, std::min(rest, limits.pause_s), "on battery"};
}

// A sensor that fell silent may hide any temperature, yet waiting for it could be for ever.
ThermalDecision blind(const ThermalLimits& limits, const ThermalView& view) {
  constexpr const char* kReason = "no reading from the sensor";
  if (view.rested_s < limits.pause_s) return pause(limits, kReason);
  return {ThermalAction::kHalfRank, 0, kReason};
}

void take_harsher(ThermalDecision& worst, ThermalDecision other) {
  if (other.action > worst.action || worst.reason.empty()) worst = std::move(other);
}

std::string lower(std::string_view word) {
  std::string out(word);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

Status check_limits(const ThermalLimits& limits) {
  const bool rising = 0 < limits.max_speed_c && limits.max_speed_c < limits.pause_c && limits.pause_c < limits.stop_c;
  if (!rising || !(limits.stop_c <= 150)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "temperature limits must be 0 < max-speed < pause < stop <= 150 C, not {}, {} and {}",
                      limits.max_speed_c, limits.pause_c, limits.stop_c);
  }
  if (!(0 < limits.resume_c && limits.resume_c <= limits.pause_c)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the temperature to resume at must be over 0 and at most that of pause ({} C), not {} C",
                      limits.pause_c, limits.resume_c);
  }
  if (!(0 < limits.pause_s && limits.pause_s <= 60)) {
    return make_error(ErrorCode::kInvalidArgument, "a pause must be over 0 and at most 60 s, not {} s", limits.pause_s);
  }
  return Ok{};
}

ThermalDecision decide(const ThermalLimits& limits, const ThermalView& view) {
  ThermalDecision worst;
  const bool degrees = !view.history.empty() && view.now_s - view.history.back().seconds <= kStaleSeconds;
  if (degrees) take_harsher(worst, by_degrees(limits, view));
  if (view.pressure) take_harsher(worst, by_pressure(limits, view));
  if (!degrees && !view.pressure) take_harsher(worst, blind(limits, view));
  take_harsher(worst, by_power(limits, view));
  return worst;
}

std::optional<double> thermal_trend(std::span<const Temperature> history) {
  std::size_t first = history.size();
  while (first > 0 && history.back().seconds - history[first - 1].seconds <= kTrendSeconds) --first;
  const auto recent = history.subspan(first);
  if (recent.size() < 3 || recent.back().seconds - recent.front().seconds < 2) return std::nullopt;
  double mean_s = 0, mean_c = 0;
  for (const Temperature& at : recent) {
    mean_s += at.seconds / static_cast<double>(recent.size());
    mean_c += at.celsius / static_cast<double>(recent.size());
  }
  double across = 0, along = 0;
  for (const Temperature& at : recent) {
    across += (at.seconds - mean_s) * (at.celsius - mean_c);
    along += (at.seconds - mean_s) * (at.seconds - mean_s);
  }
  return across / along;
}

const char* name_of(ThermalAction action) {
  switch (action) {
    case ThermalAction::kFull: return "full";
    case ThermalAction::kHalfRank: return "half-rank";
    case ThermalAction::kPause: return "pause";
    case ThermalAction::kStop: break;
  }
  return "stop";
}

const char* name_of(ThermalPressure pressure) {
  switch (pressure) {
    case ThermalPressure::kNominal: return "nominal";
    case ThermalPressure::kModerate: return "moderate";
    case ThermalPressure::kHeavy: return "heavy";
    case ThermalPressure::kTrapping: return "trapping";
    case ThermalPressure::kSleeping: break;
  }
  return "sleeping";
}

std::optional<ThermalPressure> thermal_pressure(std::string_view word) {
  const std::string name = lower(word);
  if (name == "nominal") return ThermalPressure::kNominal;
  if (name == "moderate" || name == "fair") return ThermalPressure::kModerate;
  if (name == "heavy" || name == "serious") return ThermalPressure::kHeavy;
  if (name == "trapping" || name == "critical") return ThermalPressure::kTrapping;
  if (name == "sleeping") return ThermalPressure::kSleeping;
  return std::nullopt;
}

}  // namespace axon
