#include "train/metrics_line.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "io/json.h"
#include "io/json_value.h"

namespace axon::train {
namespace {

// A line is listed once, key by key: `Walk` is a Writer or a Reader.
template <class Walk, class Pairs>
void walk_pairs(Walk& walk, Pairs& p) {
  walk("nll", p.nll);
  walk("odds_ratio_loss", p.odds_ratio_loss);
  walk("chosen_logps", p.chosen_logps);
  walk("rejected_logps", p.rejected_logps);
  walk("reward_margin", p.reward_margin);
  walk("reward_accuracy", p.reward_accuracy);
}

template <class Walk, class Line>
void walk_line(Walk& walk, Line& line) {
  using L = std::remove_const_t<Line>;
  walk("step", line.step);
  if constexpr (std::is_same_v<L, EventMetrics>) {
    walk("event", line.event);
    walk("detail", line.detail);
    walk("state", line.state);
    walk("celsius", line.celsius);
  } else {
    walk("update", line.update);
    if constexpr (std::is_same_v<L, TrainMetrics>) walk("epoch", line.epoch);
    walk("loss", line.loss);
    if constexpr (std::is_same_v<L, TrainMetrics>) {
      walk("grad_norm", line.gradient_norm);
      walk("learning_rate", line.learning_rate);
      walk("tokens", line.tokens);
      walk("tokens_per_second", line.tokens_per_second);
      walk("seconds", line.seconds);
      walk("memory_bytes", line.memory.count);
      walk("celsius", line.celsius);
      walk("ranks", line.ranks);
      walk("paused_seconds", line.paused_seconds);
    } else {
      walk("perplexity", line.perplexity);
      walk("tokens", line.tokens);
    }
    walk.pairs(line.pairs);
  }
}

class Writer {
 public:
  explicit Writer(std::string_view kind) : out_(fmt::format("{{\"kind\":\"{}\"", kind)) {}

  void operator()(std::string_view key, std::uint64_t value) { put(key, fmt::format("{}", value)); }
  void operator()(std::string_view key, double value) {  // the shortest digits that read back as the same number
    put(key, std::isfinite(value) ? fmt::format("{}", value) : "null");
  }
  void operator()(std::string_view key, const std::string& value) { put(key, json_quote(value)); }
  template <class T>
  void operator()(std::string_view key, const std::optional<T>& value) {
    if (value) (*this)(key, *value);
  }
  void pairs(const std::optional<PairMetrics>& value) {
    if (value) walk_pairs(*this, *value);
  }
  std::string finish() && { return std::move(out_) + "}"; }

 private:
  void put(std::string_view key, std::string_view value) { out_ += fmt::format(",\"{}\":{}", key, value); }
  std::string out_;
};

class Reader {
 public:
  Reader(const JsonValue& line, std::string_view what) : line_(line), what_(what) {}

  void operator()(std::string_view key, std::uint64_t& out) {
    const JsonValue* value = need(key);
    if (value == nullptr) return;
    const auto* number = value->get<std::uint64_t>();
    if (number == nullptr) return refuse(key, "a whole number", *value);
    out = *number;
  }
  void operator()(std::string_view key, double& out) {
    if (const JsonValue* value = need(key)) number(key, *value, out);
  }
  void operator()(std::string_view key, std::string& out) {
    const JsonValue* value = need(key);
    if (value == nullptr) return;
    const auto* text = value->get<std::string>();
    if (text == nullptr) return refuse(key, "a string", *value);
    out = *text;
  }
  template <class T>
  void operator()(std::string_view key, std::optional<T>& out) {
    if (line_.find(key) != nullptr) (*this)(key, out.emplace());
  }
  void pairs(std::optional<PairMetrics>& out) {
    if (line_.find("reward_margin") != nullptr) walk_pairs(*this, out.emplace());
  }
  // The first thing that was wrong.
  std::optional<Error> finish() && { return std::move(error_); }

 private:
  void number(std::string_view key, const JsonValue& value, double& out) {
    if (const auto* real = value.get<double>())
      out = *real;
    else if (const auto* whole = value.get<std::uint64_t>())
      out = static_cast<double>(*whole);
    else if (const auto* below = value.get<std::int64_t>())
      out = *below == 0 ? -0.0 : static_cast<double>(*below);  // "-0"
    else if (value.is_null())
      out = std::numeric_limits<double>::quiet_NaN();
    else
      refuse(key, "a number", value);
  }
  const JsonValue* need(std::string_view key) {
    const JsonValue* value = line_.find(key);
    if (value == nullptr && !error_) error_ = make_error(ErrorCode::kCorrupt, "{}: \"{}\" is missing", what_, key);
    return value;
  }
  void refuse(std::string_view key, std::string_view expected, const JsonValue& value) {
    if (error_) return;
    error_ = make_error(ErrorCode::kCorrupt, "{}: \"{}\" must be {}, not {}", what_, key, expected, value.brief());
  }
  const JsonValue& line_;
  std::string_view what_;
  std::optional<Error> error_;
};

template <class Line>
Result<MetricsLine> read_line(const JsonValue& value, std::string_view what) {
  Line line;
  Reader reader(value, what);
  walk_line(reader, line);
  if (auto error = std::move(reader).finish()) return *std::move(error);
  return MetricsLine(std::move(line));
}

constexpr std::string_view kind_of(const TrainMetrics&) { return "train"; }
constexpr std::string_view kind_of(const ValidationMetrics&) { return "validation"; }
constexpr std::string_view kind_of(const EventMetrics&) { return "event"; }

}  // namespace

std::uint64_t step_of(const MetricsLine& line) {
  return std::visit([](const auto& l) { return l.step; }, line);
}

std::string metrics_text(const MetricsLine& line) {
  return std::visit(
      [](const auto& l) {
        Writer writer(kind_of(l));
        walk_line(writer, l);
        return std::move(writer).finish();
      },
      line);
}

Result<MetricsLine> parse_metrics(std::string_view text, std::string_view what) {
  const JsonValue value = AXON_TRY(read_json_value(text, what));
  const JsonValue* kind = value.find("kind");
  const std::string* name = kind == nullptr ? nullptr : kind->get<std::string>();
  if (name != nullptr && *name == "train") return read_line<TrainMetrics>(value, what);
  if (name != nullptr && *name == "validation") return read_line<ValidationMetrics>(value, what);
  if (name != nullptr && *name == "event") return read_line<EventMetrics>(value, what);
  return make_error(ErrorCode::kCorrupt, "{}: \"kind\" must be \"train\", \"validation\" or \"event\", not {}", what,
                    kind == nullptr ? "missing" : kind->brief());
}

}  // namespace axon::train
