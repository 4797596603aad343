// Linux's sensors, from folders laid out as /sys is on several machines.

#include "thermal/sensor_linux.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

namespace axon {
namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

// A root with these files of /sys/class, gone at the end.
class Root {
 public:
  explicit Root(const Files& files)
      : folder_(testing::TempDir() + "axon_sensor_linux_" + std::to_string(::getpid()) + "_" +
                std::to_string(counter_++)) {
    for (const auto& [path, text] : files) write(path, text);
  }
  ~Root() { std::filesystem::remove_all(folder_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;
  const std::string& path() const { return folder_; }

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = folder_ + "/sys/class/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }

 private:
  static inline int counter_ = 0;
  std::string folder_;
};

const Files kIntelLaptop = {{"hwmon/hwmon0/name", "acpitz"},
                            {"hwmon/hwmon0/temp1_input", "92000"},
                            {"hwmon/hwmon3/name", "nvme"},
                            {"hwmon/hwmon3/temp1_input", "99850"},
                            {"hwmon/hwmon5/name", "coretemp"},
                            {"hwmon/hwmon5/temp1_input", "61000"},
                            {"hwmon/hwmon5/temp1_label", "Package id 0"},
                            {"hwmon/hwmon5/temp1_max", "100000"},
                            {"hwmon/hwmon5/temp2_input", "63000"},
                            {"hwmon/hwmon5/temp2_label", "Core 0"},
                            {"thermal/thermal_zone0/type", "acpitz"},
                            {"thermal/thermal_zone0/temp", "27800"},
                            {"thermal/cooling_device0/type", "Processor"}};

double celsius(const Root& root, const std::string& source) {
  auto sensor = open_linux_sensor(root.path());
  if (!sensor.ok()) {
    ADD_FAILURE() << sensor.error().message;
    return 0;
  }
  EXPECT_EQ(sensor.value()->source(), source);
  return sensor.value()->read().celsius.value_or(0);
}

TEST(LinuxSensor, IntelPackageBeforeItsCoresAndOtherChips) {
  EXPECT_EQ(celsius(Root(kIntelLaptop), "coretemp Package id 0"), 61);
}

TEST(LinuxSensor, AmdDieBeforeControl) {
  Root root({{"hwmon/hwmon1/name", "k10temp"},
             {"hwmon/hwmon1/temp1_input", "88250"},
             {"hwmon/hwmon1/temp1_label", "Tctl"},
             {"hwmon/hwmon1/temp2_input", "61250"},
             {"hwmon/hwmon1/temp2_label", "Tdie"}});
  EXPECT_EQ(celsius(root, "k10temp Tdie"), 61.25);
  root.write("hwmon/hwmon1/temp2_input", "0");
  EXPECT_EQ(celsius(root, "k10temp Tctl"), 88.25);
}

TEST(LinuxSensor, HottestOfSeveralOfOneKind) {
  const Root root({{"thermal/thermal_zone0/type", "cpu0-thermal"},
                   {"thermal/thermal_zone0/temp", "51000"},
                   {"thermal/thermal_zone1/type", "cpu1-thermal"},
                   {"thermal/thermal_zone1/temp", "57000"},
                   {"thermal/thermal_zone2/type", "gpu-thermal"},
                   {"thermal/thermal_zone2/temp", "60000"},
                   {"thermal/thermal_zone3/type", "soc-thermal"},
                   {"thermal/thermal_zone3/temp", "60000"}});
  EXPECT_EQ(celsius(root, "zone cpu0-thermal and 1 more, the hottest"), 57);
}

TEST(LinuxSensor, ChipThenAnyZone) {
  Root root({{"thermal/thermal_zone0/type", "acpitz"},
             {"thermal/thermal_zone0/temp", "45000"},
             {"thermal/thermal_zone1/type", "soc_dts0"},
             {"thermal/thermal_zone1/temp", "40000"}});
  EXPECT_EQ(celsius(root, "zone soc_dts0"), 40);
  root.write("thermal/thermal_zone1/temp", "-273200");
  EXPECT_EQ(celsius(root, "zone acpitz"), 45);
}

TEST(LinuxSensor, NonsenseIsNoReading) {
  Root root(kIntelLaptop);
  auto sensor = open_linux_sensor(root.path());
  ASSERT_TRUE(sensor.ok());
  for (const char* nonsense : {"0", "-5000", "150001", "", "hot", "61000x", "99999999999999999999"}) {
    root.write("hwmon/hwmon5/temp1_input", nonsense);
    EXPECT_EQ(sensor.value()->read().celsius, std::nullopt) << nonsense;
  }
  root.write("hwmon/hwmon5/temp1_input", "150000");
  EXPECT_EQ(sensor.value()->read().celsius, 150);
}

TEST(LinuxSensor, NoneSaysWhatWasLookedFor) {
  const Root root({{"hwmon/hwmon3/name", "nvme"}, {"hwmon/hwmon3/temp1_input", "40000"}});
  const auto sensor = open_sensor(root.path());
  ASSERT_FALSE(sensor.ok());
  EXPECT_EQ(sensor.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(
      sensor.error().message,
      fmt::format("no temperature sensor: neither {0}/sys/class/hwmon/hwmon* (coretemp, k10temp, zenpower, "
                  "cpu_thermal) nor {0}/sys/class/thermal/thermal_zone* shows a temperature over 0 and up to 150 C",
                  root.path()));
}

TEST(LinuxPower, MainsOrBattery) {
  const auto power = [](const Files& files) { return linux_power_source(Root(files).path()); };
  const Files battery = {{"power_supply/BAT0/type", "Battery"}, {"power_supply/BAT0/status", "Discharging"}};
  EXPECT_EQ(power(battery), PowerSource::kBattery);
  EXPECT_EQ(power({{"power_supply/AC/type", "Mains"},
                   {"power_supply/AC/online", "1"},
                   {"power_supply/BAT0/type", "Battery"},
                   {"power_supply/BAT0/status", "Discharging"}}),
            PowerSource::kMains)
      << "a weak charger";
  EXPECT_EQ(power({{"power_supply/ucsi/type", "USB"},
                   {"power_supply/ucsi/online", "0"},
                   {"power_supply/BAT0/type", "Battery"},
                   {"power_supply/BAT0/status", "Full"}}),
            PowerSource::kBattery)
      << "just unplugged";
  EXPECT_EQ(power({{"power_supply/BAT0/type", "Battery"}, {"power_supply/BAT0/status", "Charging"}}),
            PowerSource::kMains);
  EXPECT_EQ(power({{"power_supply/mouse/type", "Battery"},
                   {"power_supply/mouse/scope", "Device"},
                   {"power_supply/mouse/status", "Discharging"}}),
            PowerSource::kUnknown);
  EXPECT_EQ(power({}), PowerSource::kUnknown);
}

TEST(LinuxPower, ComesWithEachReading) {
  Root root(kIntelLaptop);
  auto sensor = open_linux_sensor(root.path());
  ASSERT_TRUE(sensor.ok());
  EXPECT_EQ(sensor.value()->read().power, PowerSource::kUnknown);
  root.write("power_supply/BAT0/type", "Battery");
  root.write("power_supply/BAT0/status", "Discharging");
  EXPECT_EQ(sensor.value()->read().power, PowerSource::kBattery);
}

}  // namespace
}  // namespace axon
