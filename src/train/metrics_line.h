#pragma once
// The lines of metrics.jsonl: what a training says of itself, one JSON object each. docs/training-metrics.md has the
// keys.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "base/error.h"

namespace axon::train {

// Means over the pairs of a step, or of a validation (ORPO, arXiv 2403.07691).
struct PairMetrics {
  double nll = 0;                               // of the chosen answers
  double odds_ratio_loss = 0;                   // -log sigmoid(log odds ratio), without its weight
  double chosen_logps = 0, rejected_logps = 0;  // log-likelihood of a token
  double reward_margin = 0;
  double reward_accuracy = 0;  // share of pairs whose chosen answer is the likelier one
};

// A number that is not finite is written as null, and read as NaN.
struct TrainMetrics {
  std::uint64_t step = 0;    // steps done with this one
  std::uint64_t update = 0;  // updates done
  double epoch = 0;          // passes over the data that are done, with the part of the present one
  double loss = 0;
  double gradient_norm = 0;  // before clipping, of the last update; 0 before the first
  double learning_rate = 0;  // of the last update
  std::uint64_t tokens = 0;  // of this step, on all processes
  double tokens_per_second = 0;
  double seconds = 0;  // this step took, pauses not counted
  Bytes memory;        // the process's largest resident memory so far
  std::optional<double> celsius{};
  std::uint64_t ranks = 0;    // of the adapters that learned in this step
  double paused_seconds = 0;  // before this step, for heat
  std::optional<PairMetrics> pairs{};
};

struct ValidationMetrics {
  std::uint64_t step = 0, update = 0;
  double loss = 0;        // mean over the targets
  double perplexity = 0;  // exp(loss)
  std::uint64_t tokens = 0;
  std::optional<PairMetrics> pairs{};
};

// "start", "resume", "checkpoint", "thermal", "stop", ... with words about it.
struct EventMetrics {
  std::uint64_t step = 0;
  std::string event;
  std::string detail{};
  std::optional<std::string> state{};  // "thermal": what holds from here on: "full", "half-rank", "pause", "stop"
  std::optional<double> celsius{};
};

using MetricsLine = std::variant<TrainMetrics, ValidationMetrics, EventMetrics>;
std::uint64_t step_of(const MetricsLine& line);

// Without a line break. The same line gives the same text.
std::string metrics_text(const MetricsLine& line);

// `what` names the line in messages. kCorrupt for what is no such line: a syntax error, a kind that there is not, a key
// that is missing or of another type. Keys that are unknown are passed over.
Result<MetricsLine> parse_metrics(std::string_view text, std::string_view what);

}  // namespace axon::train
