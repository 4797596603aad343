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

}  // namespace axon
