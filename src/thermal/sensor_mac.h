#pragma once
// macOS's words for how hot it is: what they mean is decided here, on every system and under test; asking the system
// is two small functions that exist on macOS alone.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "thermal/sensor.h"

namespace axon {

// What `powermetrics` printed: the hottest "... die temperature: 61.3 C" (sampler smc, Intel only) and the last
// "Current pressure level: Nominal" (sampler thermal). What is not in the text, or not sane, is absent.
ThermalReading parse_powermetrics(std::string_view text);

// `pmset -g batt`: "Now drawing from 'AC Power'" or 'Battery Power'. A 'UPS Power' is a battery.
PowerSource parse_pmset_battery(std::string_view text);

// The state of the notification com.apple.system.thermalpressurelevel: 0 nominal ... 4 sleeping
// (libkern/OSThermalNotification.h, macOS).
std::optional<ThermalPressure> mac_pressure(std::uint64_t level);

// How a sensor asks. Commands answer with what they printed, nothing when they failed.
struct MacQuestions {
  std::function<std::optional<std::uint64_t>()> pressure_level;
  std::function<std::string()> pmset;
  std::function<std::string()> powermetrics;  // absent when not root: it refuses everyone else
};

// Pressure at every read, power at every 30th (a process each). Degrees as long as powermetrics has them: its first
// answer without is its last, for Apple's own chips have no such sampler. kNotFound when all three are silent.
Result<std::unique_ptr<Sensor>> mac_sensor(MacQuestions questions);

#if defined(__APPLE__)
Result<std::unique_ptr<Sensor>> open_mac_sensor();
#endif

}  // namespace axon
