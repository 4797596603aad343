#pragma once
// The memory of fine-tuning: a frozen quantised base, low-rank adapters with gradients and optimizer state,
// activations. Of our models it is Training's own plan; of other families an estimate.

#include "plan/subject.h"
#include "train/training.h"

namespace axon {

struct TrainChoice {
  std::string weights = "q4";  // of the frozen base
  // Of a family that this program does not train, only rank, max_seq_len and batch_size count.
  train::TrainSettings settings;
  // Other choices than these are for such families alone.
  std::string optimizer = "adamw";  // adamw, adamw8bit, sgd
  bool checkpointing = true;        // keep block inputs, recompute blocks
  std::uint64_t threads = 1;
  train::DataSize data, validation;
};
Status check_optimizer(std::string_view name);
// kInvalidArgument for what `train` does not have.
Status check_trainable(const TrainChoice& choice);
// "--weights q4 --rank 16 --batch-size 1 --max-seq-len 2048", and the rest where it is not as it is without being
// typed.
std::string typed(const TrainChoice& choice);

Result<Footprint> train_footprint(const Subject& subject, const TrainChoice& choice);

// A linear layer that an adapter may sit on, `count` times.
struct AdapterSite {
  std::string name;
  std::uint64_t in = 0, out = 0, count = 1;
};

// What an estimate knows of a model beside its weights.
struct EstimateShape {
  std::vector<AdapterSite> sites;
  std::uint64_t layers = 0, hidden_size = 0, vocab_size = 0;
  std::uint64_t widest_layer_values = 0;  // activations a token that the largest layer keeps for its backward pass
  std::uint64_t all_layers_values = 0;    // of all layers together: without checkpointing
};
Result<Footprint> estimated_training(const Subject& subject, const EstimateShape& shape, const TrainChoice& choice);

// Everything in 16 bits with gradients, and two float32 moments: what QLoRA avoids.   bytes = parameters * 12
Result<Bytes> full_fine_tuning(const Subject& subject);

}  // namespace axon
