#include "generate/score.h"

#include <algorithm>
#include <cmath>

namespace axon {
namespace {

class Scorer : public WindowReader {
 public:
  explicit Scorer(Session& session) : session_(session) {}
  void begin() override { session_.reset(); }
  Status read(std::span<const std::uint32_t> chunk) override { return session_.prefill(chunk); }
  void score(std::size_t row, std::span<const std::uint32_t> targets) override {
    const Mat<float> logits = session_.logits_of(row, targets.size());
    for (std::size_t r = 0; r < targets.size(); ++r) {
      nll_.add(log_sum_exp(logits.row(r)) - double{logits.row(r)[targets[r]]});
    }
  }
  const RunningMean& nll() const { return nll_; }

 private:
  Session& session_;
  RunningMean nll_;
};

// How many windows there are to read.
Result<std::size_t> count_windows(std::size_t ids, std::size_t window, std::size_t windows) {
  if (window == 0 || ids == 0 || ids - 1 < window) {
    return make_error(ErrorCode::kInvalidArgument, "the text has {} tokens, but one window of {} needs {}", ids, window,
                      window + 1);
  }
  const std::size_t available = (ids - 1) / window;
  if (windows <= available) return windows == 0 ? available : windows;
  return make_error(ErrorCode::kInvalidArgument,
                    "the text has {} tokens, enough for {} windows of {}, but {} were asked for", ids, available,
                    window, windows);
}

}  // namespace

void RunningMean::add(double x) {
  ++count_;
  const double distance = x - mean_;
  mean_ += distance / static_cast<double>(count_);
  squares_ += distance * (x - mean_);
}

double RunningMean::standard_error() const {
  if (count_ < 2) return 0;
  const auto n = static_cast<double>(count_);
  return std::sqrt(squares_ / (n - 1) / n);
}

double log_sum_exp(std::span<const float> logits) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - best);
  return best + std::log(sum);
}

Status walk_windows(WindowReader& reader, std::span<const std::uint32_t> ids, std::size_t window, std::size_t windows,
                    const SessionOptions& options,
                    const std::function<bool(std::size_t done, std::size_t total)>& progress) {
  const std::size_t count = AXON_TRY(count_windows(ids.size(), window, windows));
  for (std::size_t w = 0; w < count; ++w) {
    reader.begin();
    for (std::size_t at = w * window, end = at + window; at < end;) {
      const std::size_t tokens = std::min(options.prefill_chunk, end - at);
      AXON_TRY(reader.read(ids.subspan(at, tokens)));
      for (std::size_t row = 0; row < tokens; row += options.logits_rows) {
        reader.score(row, ids.subspan(at + row + 1, std::min(options.logits_rows, tokens - row)));
      }
      at += tokens;
      if (progress && !progress(at, count * window)) return Error{ErrorCode::kCancelled, "interrupted"};
    }
  }
  return Ok{};
}

Result<Score> score_windows(Session& session, std::span<const std::uint32_t> ids, std::size_t window,
                            std::size_t windows,
                            const std::function<bool(std::size_t done, std::size_t total)>& progress) {
  Scorer scorer(session);
  const auto after_windows = [&](std::size_t done, std::size_t total) {
    return !progress || done % window != 0 || progress(done / window, total / window);
  };
  AXON_TRY(walk_windows(scorer, ids, window, windows, session.options(), after_windows));
  const RunningMean& nll = scorer.nll();
  return Score{.mean_nll = nll.mean(), .standard_error = nll.standard_error(), .tokens = nll.count()};
}

}  // namespace axon
