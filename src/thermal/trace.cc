#include "thermal/trace.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/utf8.h"
#include "io/atomic_file.h"

namespace axon {
namespace {

constexpr std::string_view kBlank = " \t\r,";
constexpr std::uint64_t kLargestFile = 16u << 20;

// Takes the first word off `line`; empty at the end.
std::string_view take_word(std::string_view& line) {
  const std::size_t first = std::min(line.find_first_not_of(kBlank), line.size());
  line.remove_prefix(first);
  const std::string_view word = line.substr(0, line.find_first_of(kBlank));
  line.remove_prefix(word.size());
  return word;
}

std::optional<double> number(std::string_view word) {
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

// For messages: short, and text whatever the file is.
std::string shown(std::string_view word) {
  std::array<char, 3 * 32> text;
  const auto [read, written] = utf8::convert(word.substr(0, 32), text.data());
  return std::string(text.data(), written);
}

}  // namespace

Result<ThermalTrace> ThermalTrace::parse(std::string_view text, std::string_view name) {
  ThermalTrace trace;
  std::size_t line_number = 0;
  const auto corrupt = [&](const std::string& reason) {
    return make_error(ErrorCode::kCorrupt, "{}: line {}: {}", name, line_number, reason);
  };
  while (!text.empty()) {
    ++line_number;
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    line = line.substr(0, line.find('#'));
    const std::string_view first = take_word(line), second = take_word(line), third = take_word(line);
    if (first.empty()) continue;
    const auto seconds = number(first), celsius = number(second);
    if (!seconds || !(*seconds >= 0 && *seconds <= 1e9)) {
      return corrupt(fmt::format("seconds must be a number from 0 to 1e9, not \"{}\"", shown(first)));
    }
    if (!celsius || !(*celsius >= -50 && *celsius <= 150)) {
      return corrupt(fmt::format("degrees must be a number from -50 to 150, not \"{}\"", shown(second)));
    }
    if (!trace.moments_.empty() && !(*seconds > trace.moments_.back().seconds)) {
      return corrupt(fmt::format("seconds must rise: {} comes after {}", *seconds, trace.moments_.back().seconds));
    }
    PowerSource power = trace.moments_.empty() ? PowerSource::kUnknown : trace.moments_.back().power;
    if (third == "ac") {
      power = PowerSource::kMains;
    } else if (third == "battery") {
      power = PowerSource::kBattery;
    } else if (!third.empty()) {
      return corrupt(fmt::format("power must be \"ac\" or \"battery\", not \"{}\"", shown(third)));
    }
    if (const auto more = take_word(line); !more.empty()) {
      return corrupt(fmt::format("\"{}\" follows seconds, degrees and power", shown(more)));
    }
    trace.moments_.push_back({*seconds, *celsius, power});
  }
  if (trace.moments_.empty()) {
    return make_error(ErrorCode::kCorrupt, "{}: no line of the form \"seconds celsius [ac|battery]\"", name);
  }
  return trace;
}

Result<ThermalTrace> ThermalTrace::open(const std::string& path) {
  return parse(AXON_TRY(read_small_file(path, kLargestFile)), path);
}

ThermalReading ThermalTrace::at(double seconds) const {
  const auto after = std::upper_bound(moments_.begin(), moments_.end(), seconds,
                                      [](double value, const Moment& moment) { return value < moment.seconds; });
  if (after == moments_.begin()) return {.celsius = after->celsius, .power = after->power};
  const Moment& before = *(after - 1);
  if (after == moments_.end()) return {.celsius = before.celsius, .power = before.power};
  const double share = (seconds - before.seconds) / (after->seconds - before.seconds);
  return {.celsius = before.celsius + share * (after->celsius - before.celsius), .power = before.power};
}

namespace {

class TraceSensor : public Sensor {
 public:
  TraceSensor(ThermalTrace trace, std::function<double()> seconds)
      : trace_(std::move(trace)), seconds_(std::move(seconds)) {}
  ThermalReading read() override { return trace_.at(seconds_()); }
  std::string source() const override { return fmt::format("a trace of {} moments", trace_.size()); }

 private:
  ThermalTrace trace_;
  std::function<double()> seconds_;
};

}  // namespace

std::unique_ptr<Sensor> trace_sensor(ThermalTrace trace, std::function<double()> seconds) {
  return std::make_unique<TraceSensor>(std::move(trace), std::move(seconds));
}

}  // namespace axon
