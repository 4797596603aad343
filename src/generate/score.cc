#include "generate/score.h"

#include <algorithm>
#include <cmath>

namespace axon {
namespace {

// -log softmax(logits)[target], in double.
double nll(std::span<const float> logits, std::uint32_t target) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - best));
  return std::log(sum) - static_cast<double>(logits[target] - best);
}

}  // namespace

Result<Score> score_windows(Session& session, std::span<const std::uint32_t> ids, std::size_t window,
                            std::size_t windows,
                            const std::function<bool(std::size_t done, std::size_t total)>& progress) {
  if (window == 0 || ids.size() < window + 1) {
    return make_error(ErrorCode::kInvalidArgument, "the text has {} tokens, but one window of {} needs {}", ids.size(),
                      window, window + 1);
  }
  const std::size_t available = (ids.size() - 1) / window;
  const std::size_t count = windows == 0 ? available : windows;
  if (count > available) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the text has {} tokens, enough for {} windows of {}, but {} were asked for", ids.size(),
                      available, window, count);
  }
  const std::size_t chunk = session.options().prefill_chunk, rows_max = session.options().logits_rows;
  double sum = 0, squares = 0;
  for (std::size_t w = 0; w < count; ++w) {
    session.reset();
    for (std::size_t at = 0; at < window; at += chunk) {
      const std::size_t tokens = std::min(chunk, window - at);
      AXON_TRY(session.prefill(ids.subspan(w * window + at, tokens)));
      for (std::size_t row = 0; row < tokens; row += rows_max) {
        const Mat<float> logits = session.logits_of(row, std::min(rows_max, tokens - row));
        for (std::size_t r = 0; r < logits.rows; ++r) {
          const double loss = nll(logits.row(r), ids[w * window + at + row + r + 1]);
          sum += loss;
          squares += loss * loss;
        }
      }
    }
    if (progress && !progress(w + 1, count)) return Error{ErrorCode::kCancelled, "interrupted"};
  }
  const auto n = static_cast<double>(count * window);
  const double mean = sum / n;
  const double variance = n > 1 ? std::max(0.0, (squares - n * mean * mean) / (n - 1)) : 0.0;
  return Score{.mean_nll = mean, .standard_error = std::sqrt(variance / n), .tokens = count * window};
}

}  // namespace axon
