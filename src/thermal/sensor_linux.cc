#include "thermal/sensor_linux.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/text_number.h"

namespace axon {
namespace {

enum class Kind { kPackage, kCores, kChip, kZone };

struct Source {
  Kind kind;
  std::string file;
  std::string name;
};

// The first line, without spaces around it; empty when there is no such file. These files have one.
std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return std::string(trimmed(line));
}

std::optional<double> sane_celsius(const std::string& path) {
  const auto thousandths = whole_number(first_line(path));  // a negative number is no number here
  if (!thousandths || *thousandths == 0 || *thousandths > 150'000) return std::nullopt;
  return static_cast<double>(*thousandths) / 1000;
}

// The entries of a folder whose names begin with `prefix`, in order; none when there is no such folder.
std::vector<std::string> entries(const std::string& folder, std::string_view prefix) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().filename().string().starts_with(prefix)) paths.push_back(at->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void add_hwmon(const std::string& folder, std::vector<Source>& sources) {
  const std::string chip = first_line(folder + "/name");
  const bool intel = chip == "coretemp", amd = chip == "k10temp" || chip == "zenpower";
  if (!intel && !amd && chip != "cpu_thermal") return;
  for (const std::string& file : entries(folder, "temp")) {
    constexpr std::string_view kInput = "_input";
    if (!file.ends_with(kInput)) continue;
    const std::string label = first_line(file.substr(0, file.size() - kInput.size()) + "_label");
    const bool package = (intel && label.starts_with("Package id")) || (amd && label == "Tdie");
    sources.push_back({package ? Kind::kPackage : Kind::kCores, file, label.empty() ? chip : chip + " " + label});
  }
}

void add_zone(const std::string& folder, std::vector<Source>& sources) {
  const std::string type = first_line(folder + "/type");
  std::string lower = type;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  Kind kind = Kind::kZone;
  if (lower == "x86_pkg_temp") {
    kind = Kind::kPackage;
  } else if (lower.find("cpu") != std::string::npos) {
    kind = Kind::kCores;
  } else if (lower.find("soc") != std::string::npos) {
    kind = Kind::kChip;
  }
  sources.push_back({kind, folder + "/temp", "zone " + type});
}

class LinuxSensor : public Sensor {
 public:
  LinuxSensor(std::string root, std::vector<Source> sources) : root_(std::move(root)), sources_(std::move(sources)) {}

  ThermalReading read() override {
    ThermalReading reading{.power = linux_power_source(root_)};
    for (const Source& source : sources_) {
      const auto celsius = sane_celsius(source.file);
      if (celsius && (!reading.celsius || *celsius > *reading.celsius)) reading.celsius = celsius;
    }
    return reading;
  }

  std::string source() const override {
    const std::string& first = sources_.front().name;
    return sources_.size() == 1 ? first : fmt::format("{} and {} more, the hottest", first, sources_.size() - 1);
  }

 private:
  std::string root_;
  std::vector<Source> sources_;  // of one kind, at least one
};

}  // namespace

Result<std::unique_ptr<Sensor>> open_linux_sensor(const std::string& root) {
  const std::string hwmon = root + "/sys/class/hwmon", zones = root + "/sys/class/thermal";
  std::vector<Source> sources;
  for (const std::string& folder : entries(hwmon, "hwmon")) add_hwmon(folder, sources);
  for (const std::string& folder : entries(zones, "thermal_zone")) add_zone(folder, sources);
  std::erase_if(sources, [](const Source& source) { return !sane_celsius(source.file); });
  if (sources.empty()) {
    return make_error(ErrorCode::kNotFound,
                      "no temperature sensor: neither {}/hwmon* (coretemp, k10temp, zenpower, cpu_thermal) nor "
                      "{}/thermal_zone* shows a temperature over 0 and up to 150 C",
                      hwmon, zones);
  }
  const auto hotter = [](const Source& a, const Source& b) { return a.kind < b.kind; };
  const Kind best = std::min_element(sources.begin(), sources.end(), hotter)->kind;
  std::erase_if(sources, [&](const Source& source) { return source.kind != best; });
  return std::unique_ptr<Sensor>(std::make_unique<LinuxSensor>(root, std::move(sources)));
}

PowerSource linux_power_source(const std::string& root) {
  bool online = false, offline = false, discharging = false, resting = false;
  for (const std::string& folder : entries(root + "/sys/class/power_supply", "")) {
    const std::string type = first_line(folder + "/type");
    if (first_line(folder + "/scope") == "Device") continue;
    if (type == "Battery") {
      const std::string status = first_line(folder + "/status");
      discharging |= status == "Discharging";
      resting |= status == "Charging" || status == "Full" || status == "Not charging";
    } else if (!type.empty()) {
      const std::string on = first_line(folder + "/online");
      online |= on == "1";
      offline |= on == "0";
    }
  }
  if (online) return PowerSource::kMains;
  if (discharging || (offline && resting)) return PowerSource::kBattery;
  return resting || offline ? PowerSource::kMains : PowerSource::kUnknown;
}

}  // namespace axon
