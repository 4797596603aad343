#include "thermal/sensor_mac.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "memory/text_number.h"

#if defined(__APPLE__)
#include <notify.h>
#include <unistd.h>

#include <cstdio>
#endif

namespace axon {
namespace {

template <class Take>
void for_each_line(std::string_view text, Take take) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    take(trimmed(line));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
}

// "CPU die temperature: 61.31 C"; the first letter of each word in either case.
std::optional<double> die_temperature(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string name(line.substr(0, colon));
  for (char& c : name) c = c == 'D' ? 'd' : c == 'T' ? 't' : c;
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (!name.ends_with("die temperature") || !value.ends_with(" C")) return std::nullopt;
  double celsius = 0;
  const char* const last = value.data() + value.size() - 2;
  const auto [end, error] = std::from_chars(value.data(), last, celsius, std::chars_format::fixed);
  if (error != std::errc() || end != last || !(celsius > 0 && celsius <= 150)) return std::nullopt;
  return celsius;
}

class MacSensor : public Sensor {
 public:
  explicit MacSensor(MacQuestions questions) : ask_(std::move(questions)) {}

  ThermalReading read() override {
    ThermalReading reading;
    if (ask_.powermetrics) {
      reading.celsius = parse_powermetrics(ask_.powermetrics()).celsius;
      if (!reading.celsius) ask_.powermetrics = nullptr;
    }
    if (const auto level = ask_.pressure_level()) reading.pressure = mac_pressure(*level);
    if (reads_++ % kReadsForPower == 0) power_ = parse_pmset_battery(ask_.pmset());
    reading.power = power_;
    return reading;
  }

  std::string source() const override {
    return ask_.powermetrics ? "powermetrics and macOS thermal pressure" : "macOS thermal pressure";
  }

 private:
  static constexpr std::size_t kReadsForPower = 30;
  MacQuestions ask_;
  std::size_t reads_ = 0;
  PowerSource power_ = PowerSource::kUnknown;
};

}  // namespace

ThermalReading parse_powermetrics(std::string_view text) {
  ThermalReading reading;
  for_each_line(text, [&](std::string_view line) {
    constexpr std::string_view kPressure = "Current pressure level:";
    if (line.starts_with(kPressure)) reading.pressure = thermal_pressure(trimmed(line.substr(kPressure.size())));
    const auto celsius = die_temperature(line);
    if (celsius) reading.celsius = std::max(*celsius, reading.celsius.value_or(0));
  });
  return reading;
}

PowerSource parse_pmset_battery(std::string_view text) {
  PowerSource power = PowerSource::kUnknown;
  for_each_line(text, [&](std::string_view line) {
    if (!line.starts_with("Now drawing from")) return;
    if (line.find("'AC Power'") != std::string_view::npos) power = PowerSource::kMains;
    if (line.find("'Battery Power'") != std::string_view::npos) power = PowerSource::kBattery;
    if (line.find("'UPS Power'") != std::string_view::npos) power = PowerSource::kBattery;
  });
  return power;
}

std::optional<ThermalPressure> mac_pressure(std::uint64_t level) {
  if (level > 4) return std::nullopt;
  return static_cast<ThermalPressure>(level);
}

Result<std::unique_ptr<Sensor>> mac_sensor(MacQuestions questions) {
  auto sensor = std::make_unique<MacSensor>(std::move(questions));
  const ThermalReading first = sensor->read();
  if (first.celsius || first.pressure) return std::unique_ptr<Sensor>(std::move(sensor));
  return make_error(
      ErrorCode::kNotFound,
      "no temperature sensor: macOS tells no com.apple.system.thermalpressurelevel, and powermetrics (for "
      "root, on Intel) no die temperature");
}

#if defined(__APPLE__)

namespace {

std::optional<std::uint64_t> notified_pressure_level() {
  static const int token = [] {
    int made = NOTIFY_TOKEN_INVALID;
    return notify_register_check("com.apple.system.thermalpressurelevel", &made) == NOTIFY_STATUS_OK
               ? made
               : NOTIFY_TOKEN_INVALID;
  }();
  std::uint64_t level = 0;
  if (token == NOTIFY_TOKEN_INVALID || notify_get_state(token, &level) != NOTIFY_STATUS_OK) return std::nullopt;
  return level;
}

std::string printed_by(const char* command) {
  std::string text;
  std::FILE* pipe = popen(command, "r");
  if (pipe == nullptr) return text;
  char buffer[4096];
  while (const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, count);
  return pclose(pipe) == 0 ? text : std::string();
}

}  // namespace

Result<std::unique_ptr<Sensor>> open_mac_sensor() {
  MacQuestions questions{.pressure_level = notified_pressure_level,
                         .pmset = [] { return printed_by("/usr/bin/pmset -g batt 2>/dev/null"); },
                         .powermetrics = {}};
  if (geteuid() == 0) {
    questions.powermetrics = [] { return printed_by("/usr/bin/powermetrics --samplers smc -i 1 -n 1 2>/dev/null"); };
  }
  return mac_sensor(std::move(questions));
}

#endif

}  // namespace axon
