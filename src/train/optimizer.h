#pragma once
// AdamW (Loshchilov and Hutter, arXiv 1711.05101; Adam: Kingma and Ba, arXiv 1412.6980) over the adapters' values, in
// float32, with the norm of all gradients clipped first (Pascanu, Mikolov, Bengio, arXiv 1211.5063). P: parameters.
//
//   g <- g * average * min(max_norm / (|g * average| + 1e-6), 1)
//   w <- w (1 - rate * decay)
//   m <- beta1 m + (1 - beta1) g
//   v <- beta2 v + (1 - beta2) g^2
//   w <- w - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)      t = 1 at the first update
//
// Without bias correction, as the Python original (MLX's default), both divisors are 1: the first updates are then some
// three times larger.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kernels/cpu/thread_pool.h"
#include "memory/arena.h"

namespace axon::train {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  bool bias_correction = true;  // false: compat
};

// Parameters that learn in an update, and how many updates they had before. Parameters that sat out while only half of
// the ranks learned had fewer: their moments are as young as that.
struct ParameterRange {
  std::size_t first = 0, count = 0;
  std::uint64_t updates = 0;
};

struct AdamWStep {
  double learning_rate = 0;
  double average = 1;  // the gradients' factor: 1 / target tokens, when they are sums over those
  double max_norm = std::numeric_limits<double>::infinity();
};

struct AdamWOutcome {
  double gradient_norm = 0;  // of the learning parameters, averaged, before clipping
  bool applied = false;      // false: the norm is not finite, and nothing was changed
};

// The moments live in what `state` hands out (account::kOptimizer); they must be zeros at the start of a training.
class AdamW {
 public:
  AdamW() = default;
  // Over a Carver that measures, this is the plan.
  AdamW(Carver& state, std::size_t parameters, const AdamWSettings& settings = {});
  static Bytes plan(std::size_t parameters);

  std::size_t parameters() const { return first_.size(); }
  // [P] each: what a checkpoint keeps.
  std::span<float> first_moments() const { return first_; }
  std::span<float> second_moments() const { return second_; }

  // One update. `ranges` are in order and do not overlap; what is outside keeps its values and moments. `gradients`,
  // [P], stay as they are. The bits do not depend on the number of threads. Allocates nothing.
  AdamWOutcome update(cpu::ThreadPool& pool, std::span<const ParameterRange> ranges, const AdamWStep& step,
                      std::span<const float> gradients, std::span<float> values);
  // The norm alone, times `average`.
  double gradient_norm(cpu::ThreadPool& pool, std::span<const ParameterRange> ranges, double average,
                       std::span<const float> gradients);

 private:
  struct Factors;
  Factors factors_of(const AdamWStep& step, float gradient_factor) const;
  void correct(std::uint64_t updates, double learning_rate, Factors& factors) const;

  AdamWSettings settings_;
  std::span<float> first_, second_;  // [P]
  std::span<double> squares_;        // [blocks of P]: sums of squares
};

}  // namespace axon::train
