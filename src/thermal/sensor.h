#pragma once
// Where temperatures come from.

#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "thermal/policy.h"

namespace axon {

// What a sensor cannot tell is absent.
struct ThermalReading {
  std::optional<double> celsius{};
  std::optional<ThermalPressure> pressure{};
  PowerSource power = PowerSource::kUnknown;
};

// Read by one thread at a time.
class Sensor {
 public:
  virtual ~Sensor() = default;
  virtual ThermalReading read() = 0;
  virtual std::string source() const = 0;  // for people: "coretemp Package id 0"
};

// The best sensor of this machine: thermal/sensor_linux.h under `root`, or on macOS with an empty root
// thermal/sensor_mac.h. kNotFound, with what was looked for, where there is none: in most virtual machines.
Result<std::unique_ptr<Sensor>> open_sensor(const std::string& root = "");

}  // namespace axon
