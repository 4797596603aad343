// Any bytes as a thermal trace and as what macOS's programs print: an error that names the trace, or degrees in bounds.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/utf8.h"
#include "thermal/sensor_mac.h"
#include "thermal/trace.h"

using namespace axon;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ThermalReading reading = parse_powermetrics(text);
  AXON_CHECK(!reading.celsius || (*reading.celsius > 0 && *reading.celsius <= 150));
  parse_pmset_battery(text);

  Result<ThermalTrace> trace = ThermalTrace::parse(text, "fuzz");
  if (!trace.ok()) {
    AXON_CHECK(trace.error().message.starts_with("fuzz: ") && !utf8::first_error(trace.error().message));
    return 0;
  }
  AXON_CHECK(trace.value().size() > 0 && trace.value().size() <= size);
  for (const double seconds : {0.0, 0.5, 1.0, 100.0, 1e9, 1e300}) {
    const double celsius = *trace.value().at(seconds).celsius;
    AXON_CHECK(celsius >= -50 - 1e-6 && celsius <= 150 + 1e-6);
  }
  return 0;
}
