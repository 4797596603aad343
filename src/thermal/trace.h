#pragma once
// A recorded or made-up course of temperatures in place of a sensor (--thermal-trace).

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "thermal/sensor.h"

namespace axon {

// A line a moment: `seconds celsius [ac|battery]`, parted by spaces, tabs or commas; '#' begins a comment.
class ThermalTrace {
 public:
  // kCorrupt "<name>: line 3: ..." unless seconds are at least 0 and strictly rise, degrees lie in -50 to 150, and
  // there is a line.
  static Result<ThermalTrace> parse(std::string_view text, std::string_view name);
  // Of a file of at most 16 MiB; also kNotFound, kIo.
  static Result<ThermalTrace> open(const std::string& path);

  // The straight line between the moments before and after; before the first and after the last, as there. Power is
  // that of the last line, up to then, that names one.
  ThermalReading at(double seconds) const;
  std::size_t size() const { return moments_.size(); }

 private:
  struct Moment {
    double seconds;
    double celsius;
    PowerSource power;
  };
  std::vector<Moment> moments_;  // at least one
};

// `seconds` is asked at each read for the time since the trace began.
std::unique_ptr<Sensor> trace_sensor(ThermalTrace trace, std::function<double()> seconds);

}  // namespace axon
