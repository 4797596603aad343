#pragma once
// How well a model predicts a text: the mean negative log likelihood of its tokens, in nats.

#include <functional>
#include <span>

#include "generate/session.h"

namespace axon {

struct Score {
  double mean_nll = 0;
  double standard_error = 0;  // of the mean, over tokens
  std::size_t tokens = 0;     // predicted
};

// Window i feeds ids [window*i, window*i + window) from an empty state and predicts the token after each of them; a
// window needs window + 1 ids. kInvalidArgument when `ids` is too short for one. `windows`: at most so many (0: all).
// The session's context must be at least `window`, its logits_rows decide how many positions are scored at once.
Result<Score> score_windows(Session& session, std::span<const std::uint32_t> ids, std::size_t window,
                            std::size_t windows,
                            const std::function<bool(std::size_t done, std::size_t total)>& progress);

// What follows is shared by all that score a text.

// The mean of numbers as they come. Welford's recurrence: no cancellation, however small the spread.
class RunningMean {
 public:
  void add(double x);
  std::size_t count() const { return count_; }
  double mean() const { return mean_; }
  double standard_error() const;  // 0 below two numbers

 private:
  std::size_t count_ = 0;
  double mean_ = 0, squares_ = 0;  // squares: of the distances to the mean
};

// log of the sum of exp(logit), in double: a token's negative log likelihood is this less its logit.
double log_sum_exp(std::span<const float> logits);

// What a walk over the windows of a text does on its way.
class WindowReader {
 public:
  virtual ~WindowReader() = default;
  virtual void begin() = 0;  // a window: forget all that was read
  virtual Status read(std::span<const std::uint32_t> chunk) = 0;
  // Rows [row, row + targets.size()) of the chunk that was just read predict `targets`.
  virtual void score(std::size_t row, std::span<const std::uint32_t> targets) = 0;
};

// Visits the windows of score_windows, in chunks and rows as the options of a session have them. `progress` is called
// after every chunk with numbers of tokens; false stops (kCancelled).
Status walk_windows(WindowReader& reader, std::span<const std::uint32_t> ids, std::size_t window, std::size_t windows,
                    const SessionOptions& options,
                    const std::function<bool(std::size_t done, std::size_t total)>& progress);

}  // namespace axon
