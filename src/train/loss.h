#pragma once
// What training minimises: the mean negative log-likelihood of the target tokens; or, over pairs of answers, ORPO
// (Hong, Lee, Thorne, arXiv 2403.07691, eq. 5 to 7):
//   L = mean over pairs of  nll(chosen) + lambda * -log sigmoid(log odds(chosen) - log odds(rejected))
//   nll = -log p, log odds = log p - log(1 - p), log p the mean over an answer's tokens
// compat is the Python original's (spec sections 11 and 14): a batch's mean, each batch counting the same; in ORPO the
// likelihood of the token that is read instead of the one that follows, and lambda inside the sigmoid.

#include <cstdint>
#include <span>

#include "memory/arena.h"
#include "model/training_pass.h"
#include "train/data.h"
#include "train/data_record.h"

namespace axon::train {

struct LossSettings {
  Objective objective = Objective::kSupervised;
  double lambda = 0.1;
  bool compat = false;
};

// Sums; the mean of `loss` is loss / weight.
struct LossSums {
  double loss = 0;
  double weight = 0;  // target tokens; of ORPO pairs
  double tokens = 0;  // that were read
  // ORPO, over pairs
  double nll = 0, odds = 0, chosen = 0, rejected = 0, margin = 0, better = 0;  // better: pairs with chosen > rejected

  double mean() const { return weight == 0 ? 0 : loss / weight; }
  LossSums& operator+=(const LossSums& other);
  // As numbers, for summing over ranks and keeping in checkpoints.
  static constexpr std::size_t kNumbers = 9;
  std::span<double, kNumbers> numbers() { return std::span<double, kNumbers>(&loss, kNumbers); }
};

class LossRunner {
 public:
  // Views for rows of up to `capacity` tokens.
  LossRunner(Carver& carver, const LossSettings& settings, std::size_t capacity);

  // Goes through all rows of a batch, and, if `learn`, adds the gradients of the sum of losses (compat: of their mean)
  // to those of the adapters. `first_token`: of the batch, counted through the update.
  LossSums run(TrainingPass& pass, const Batch& batch, bool learn, std::uint64_t first_token = 0);

 private:
  LossSums supervised(TrainingPass& pass, const Row& row, bool learn, double unit);
  LossSums pairs(TrainingPass& pass, const Row& row, bool learn);
  LossSums compat_pairs(TrainingPass& pass, const Row& row, bool learn, double nll_unit, double pair_unit);

  LossSettings settings_;
  std::span<std::uint32_t> starts_, next_;          // [capacity]
  std::span<float> factors_, more_, loss_, logps_;  // [capacity]
};

}  // namespace axon::train
