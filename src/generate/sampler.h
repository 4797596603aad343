#pragma once
// From logits to a token, in the original's order: repetition penalty, temperature, top-k, top-p, min-p, draw.

#include <cstdint>
#include <optional>
#include <span>

#include "base/random.h"
#include "memory/arena.h"

namespace axon {

struct SamplingOptions {
  float temperature = 0.6f;         // 0: always the best token (the lowest id on a tie)
  std::size_t top_k = 50;           // 0: off; ties with the k-th are kept
  float top_p = 0.95f;              // >= 1: off; the token that crosses p is kept, and its ties
  float min_p = 0.0f;               // 0: off; drops tokens below min_p times the best one's probability
  float repetition_penalty = 1.0f;  // 1: off; as CTRL (arXiv 1909.05858), over prompt and answer
  std::uint64_t seed = 0;
};

// kInvalidArgument names the option that makes no sense.
Status check_sampling(const SamplingOptions& options);

class Sampler {
 public:
  // Takes its memory from `carver` (account "logits"): the plan runs the same constructor over a measuring Carver.
  Sampler(const SamplingOptions& options, std::size_t vocab_size, Carver& carver);

  // Notes tokens that the repetition penalty is to count.
  void note(std::span<const std::uint32_t> tokens);
  // One bit a token that was noted, [V / 64 rounded up]: to be saved and, in a fresh sampler, put back.
  std::span<std::uint64_t> noted() { return seen_; }
  // Draws from logits [at most V], which it may change. The draw is number `draws()` of the seed's stream.
  std::uint32_t sample(std::span<float> logits);
  std::uint64_t draws() const { return draws_; }

 private:
  struct Candidate {
    float logit;
    std::uint32_t id;
  };
  std::span<Candidate> keep_top_k(std::span<float> logits);
  std::span<Candidate> keep_top_p(std::span<Candidate> sorted) const;

  SamplingOptions options_;
  CounterRng rng_;
  std::span<Candidate> candidates_;  // [V]
  std::span<std::uint64_t> seen_;    // one bit a token
  std::uint64_t draws_ = 0;
};

}  // namespace axon
