// macOS's words, from texts in the format that powermetrics and pmset print.

#include "thermal/sensor_mac.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace axon {
namespace {

constexpr const char* kIntel = R"(Machine model: MacBookPro15,1
OS version: 21G115
Boot arguments: 

*** Sampled system activity (Sat Nov  7 10:11:12 2026 +0100) (1.02ms elapsed) ***

**** SMC sensors ****

CPU Thermal level: 33
GPU Thermal level: 0
IO Thermal level: 0
Fan: 2160 rpm
CPU die temperature: 61.31 C
GPU die temperature: 58.00 C
CPU Plimit: 0.00
Number of prochots: 0
)";

constexpr const char* kAppleSilicon = R"(Machine model: Mac16,12
OS version: 24D70

*** Sampled system activity (Sat Nov  7 10:11:12 2026 +0100) (1002.33ms elapsed) ***

**** Thermal pressure ****

Current pressure level: Moderate
)";

TEST(MacSensor, DieTemperature) {
  const ThermalReading reading = parse_powermetrics(kIntel);
  EXPECT_EQ(reading.celsius, 61.31);
  EXPECT_EQ(reading.pressure, std::nullopt);
  EXPECT_EQ(parse_powermetrics("Die temperature: 61.3 C").celsius, 61.3);
  EXPECT_EQ(parse_powermetrics("die Temperature:  99 C\r\n").celsius, 99);
}

TEST(MacSensor, PressureLevel) {
  const ThermalReading reading = parse_powermetrics(kAppleSilicon);
  EXPECT_EQ(reading.celsius, std::nullopt);
  EXPECT_EQ(reading.pressure, ThermalPressure::kModerate);
  EXPECT_EQ(parse_powermetrics("Current pressure level: Nominal\nCurrent pressure level: Heavy").pressure,
            ThermalPressure::kHeavy);
}

TEST(MacSensor, TextsThatAreBroken) {
  for (const char* text : {"", "powermetrics: unrecognized sampler: smc", "CPU die temperature: 61.31",
                           "CPU die temperature: C", "CPU die temperature: 0.00 C", "CPU die temperature: 151 C",
                           "CPU die temperature: nan C", "CPU die temperature: 6 1 C", "CPU die temperature: -5 C",
                           "Current pressure level: Warm", "CPU die temperature", "die temperature: F: 61 C"}) {
    const ThermalReading reading = parse_powermetrics(text);
    EXPECT_FALSE(reading.celsius || reading.pressure) << text;
  }
}

TEST(MacSensor, BatteryOrMains) {
  EXPECT_EQ(parse_pmset_battery("Now drawing from 'Battery Power'\n -InternalBattery-0 (id=23855203)\t87%; "
                                "discharging; 9:12 remaining present: true\n"),
            PowerSource::kBattery);
  EXPECT_EQ(parse_pmset_battery("Now drawing from 'AC Power'\n -InternalBattery-0 (id=23855203)\t100%; charged; 0:00 "
                                "remaining present: true\n"),
            PowerSource::kMains);
  EXPECT_EQ(parse_pmset_battery("Now drawing from 'UPS Power'\n"), PowerSource::kBattery);
  EXPECT_EQ(parse_pmset_battery("-InternalBattery-0 'AC Power'\n"), PowerSource::kUnknown);
  EXPECT_EQ(parse_pmset_battery(""), PowerSource::kUnknown);
}

TEST(MacSensor, NumbersOfTheNotification) {
  EXPECT_EQ(mac_pressure(0), ThermalPressure::kNominal);
  EXPECT_EQ(mac_pressure(2), ThermalPressure::kHeavy);
  EXPECT_EQ(mac_pressure(4), ThermalPressure::kSleeping);
  EXPECT_EQ(mac_pressure(5), std::nullopt);
}

TEST(MacSensor, AsksWhatAnswers) {
  int powers = 0, metrics = 0;
  std::string metrics_text = kIntel;
  auto sensor = mac_sensor({.pressure_level = [] { return std::optional<std::uint64_t>(1); },
                            .pmset =
                                [&] {
                                  ++powers;
                                  return "Now drawing from 'AC Power'";
                                },
                            .powermetrics =
                                [&] {
                                  ++metrics;
                                  return metrics_text;
                                }});
  ASSERT_TRUE(sensor.ok());
  EXPECT_EQ(sensor.value()->source(), "powermetrics and macOS thermal pressure");
  const ThermalReading reading = sensor.value()->read();
  EXPECT_EQ(reading.celsius, 61.31);
  EXPECT_EQ(reading.pressure, ThermalPressure::kModerate);
  EXPECT_EQ(reading.power, PowerSource::kMains);
  metrics_text = kAppleSilicon;
  for (int i = 0; i < 29; ++i) EXPECT_EQ(sensor.value()->read().celsius, std::nullopt);
  EXPECT_EQ(metrics, 3) << "its first answer without degrees is the last";
  EXPECT_EQ(powers, 2) << "31 reads";
  EXPECT_EQ(sensor.value()->source(), "macOS thermal pressure");
}

TEST(MacSensor, NobodyAnswers) {
  const auto sensor = mac_sensor({.pressure_level = [] { return std::optional<std::uint64_t>(); },
                                  .pmset = [] { return "Now drawing from 'AC Power'"; },
                                  .powermetrics = {}});
  ASSERT_FALSE(sensor.ok());
  EXPECT_EQ(sensor.error().code, ErrorCode::kNotFound);
}

RC_GTEST_PROP(MacSensor, AnyTextIsSafe, (const std::string& text)) {
  const ThermalReading reading = parse_powermetrics("CPU die temperature: " + text + " C");
  RC_ASSERT(!reading.celsius || (*reading.celsius > 0 && *reading.celsius <= 150));
  parse_pmset_battery("Now drawing from " + text);
}

}  // namespace
}  // namespace axon
