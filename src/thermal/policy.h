#pragma once
// How hard a laptop without a fan may train: a table of temperatures, looked at one step ahead (docs/design/0012).

#include <optional>
#include <span>
#include <string>

#include "base/error.h"

namespace axon {

// macOS tells how hot it is in these words and not in degrees. Other names of the same: fair, serious, critical.
enum class ThermalPressure { kNominal, kModerate, kHeavy, kTrapping, kSleeping };
enum class PowerSource { kUnknown, kMains, kBattery };
enum class OnBattery { kIgnore, kSlow, kStop };

struct ThermalLimits {
  double max_speed_c = 75;  // Celsius. Below: full speed. From here on half of the LoRA rank computes
  double pause_c = 85;      // from here on no step begins: pauses of pause_s until it is cooler
  double stop_c = 95;       // from here on training stops, behind a checkpoint ...
  double resume_c = 75;     // ... until it is below this
  double pause_s = 0.5;
  OnBattery on_battery = OnBattery::kIgnore;  // slow: rest as long as each step took
};

// kInvalidArgument, naming the limits, unless 0 < max_speed < pause < stop <= 150, 0 < resume <= pause,
// 0 < pause_s <= 60.
Status check_limits(const ThermalLimits& limits);

struct Temperature {
  double seconds;  // of any clock that does not go back
  double celsius;
};

// What the last step did. Zeros before the first.
struct StepHeat {
  double seconds = 0;
  double rise_c = 0;  // its last temperature less its first
};

struct ThermalView {
  double now_s = 0;
  std::span<const Temperature> history{};  // oldest first
  std::optional<ThermalPressure> pressure{};
  PowerSource power = PowerSource::kUnknown;
  StepHeat last_step{};
  double rested_s = 0;   // since the last step ended
  bool stopped = false;  // by kStop, and not yet cool
};

// From mild to harsh.
enum class ThermalAction { kFull, kHalfRank, kPause, kStop };

struct ThermalDecision {
  ThermalAction action = ThermalAction::kFull;
  double pause_s = 0;       // of kPause: rest this long, then ask again
  std::string reason = {};  // for people: "86.2 C is not below 85 C"
  double rank_fraction() const { return action == ThermalAction::kFull ? 1.0 : 0.5; }
};

// May a step begin? The harshest of what degrees, pressure and power ask for. Each row of the table is taken by the
// temperature that is; and the row one milder by the temperature that is to be expected when the step ends (to pass
// stop_c: a pause; to pass pause_c: half rank). Without a reading for 10 s: half rank, and one pause a step.
ThermalDecision decide(const ThermalLimits& limits, const ThermalView& view);

// The slope of the least-squares line through the last 10 s of `history`, in degrees a second; none over fewer than
// three readings or less than 2 s.
std::optional<double> thermal_trend(std::span<const Temperature> history);

// "full", "half-rank", "pause", "stop"; "nominal", ...
const char* name_of(ThermalAction action);
const char* name_of(ThermalPressure pressure);
// Any case; none for an unknown word.
std::optional<ThermalPressure> thermal_pressure(std::string_view word);

}  // namespace axon
