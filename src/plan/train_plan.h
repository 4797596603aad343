#pragma once
// The memory of fine-tuning: a frozen quantised base, low-rank adapters with gradients and optimizer state,
// activations.

#include "plan/subject.h"

namespace axon {

struct TrainChoice {
  std::string weights = "q4";  // of the frozen base
  std::uint64_t rank = 16;
  std::uint64_t sequence = 2048;  // tokens of one example
  std::uint64_t batch = 1;
  std::string optimizer = "adamw";  // adamw, adamw8bit, sgd
  bool checkpointing = true;        // keep block inputs, recompute blocks
  std::uint64_t threads = 1;
};
Status check_optimizer(std::string_view name);

Result<Footprint> train_footprint(const Subject& subject, const TrainChoice& choice);

// Everything in 16 bits with gradients, and two float32 moments: what QLoRA avoids.   bytes = parameters * 12
Result<Bytes> full_fine_tuning(const Subject& subject);

}  // namespace axon
