#pragma once
// Linux's sensors of the processor: files of /sys/class/hwmon and /sys/class/thermal below a root.

#include <memory>
#include <string>

#include "thermal/sensor.h"

namespace axon {

// The first kind below that shows a sane temperature (over 0, at most 150 C); of several of that kind the hottest:
//   the package  hwmon coretemp "Package id N", k10temp or zenpower "Tdie"; zone x86_pkg_temp
//   the cores    hwmon coretemp, k10temp, zenpower, cpu_thermal; zones named after a cpu (cpu-thermal, cpu0_thermal,
//   TCPU) the chip     zones named after a soc any zone     what else there is (acpitz, ...)
// k10temp's "Tctl" is a core and no package: on some processors it stands 10 to 27 C above the die (Linux,
// Documentation/hwmon/k10temp.rst). kNotFound with what was looked for.
Result<std::unique_ptr<Sensor>> open_linux_sensor(const std::string& root);

// From /sys/class/power_supply: mains when any supply that is no battery is online, or a battery is not discharging.
// Batteries of devices (a mouse) do not count.
PowerSource linux_power_source(const std::string& root);

}  // namespace axon
