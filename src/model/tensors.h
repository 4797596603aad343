#pragma once
// The one list of a model's tensors. Planning, loading, saving, counting and initialising all walk it.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "io/safetensors.h"
#include "layers/block.h"
#include "model/config.h"

namespace axon {

struct ModelWeights {
  Linear embed_tokens;  // [V, S]
  Linear input_proj;    // [D, S]
  Linear output_proj;   // [S, D]
  Linear lm_head;       // [V, S]; the embedding itself when tied
  std::vector<BlockWeights> blocks;
};

// What a tensor is for, which decides how it is held: matrices in any precision, the rest in float32.
enum class TensorUse {
  kEmbedding,  // matrix that is read by row, and as the head when tied
  kMatrix,     // matrix of a linear layer
  kRouter,     // matrix that decides: small, and quantisation keeps it in floating point
  kVector,     // float32, as stored
  kConvTaps,   // stored [E, K, 1], held as [K, E]
  kALog,       // stored [E, N], held as [N, E] = -exp(A_log)
};

// Which axis of an attention matrix runs over the dimensions of one head after another.
enum class Heads { kNone, kInRows, kInCols };

// How the original initialises a tensor (spec section 2).
struct Init {
  enum Kind { kUniform, kNormal, kOnes, kZeros, kLogCount } kind = kZeros;
  double scale = 0;  // limit of the uniform, standard deviation of the normal
};

struct TensorSpec {
  std::string name;  // without ".weight": "layer_3.ssm.in_proj"; `suffix` completes it
  std::string suffix;
  Shape shape;  // as stored
  TensorUse use;
  std::string zone;  // its account, "weights: ssm layers 0-7"
  Init init;
  bool optional = false;             // lm_head of a tied model
  std::uint64_t active = 1, of = 1;  // active/of of the parameters take part in one token
  Heads heads = Heads::kNone;        // q, k, v: kInRows; o: kInCols

  std::string full_name() const { return name + suffix; }
  bool is_matrix() const {
    return use == TensorUse::kEmbedding || use == TensorUse::kMatrix || use == TensorUse::kRouter;
  }
  // As a matrix: leading dimensions folded into rows.
  std::uint64_t cols() const { return shape[shape.rank() - 1]; }
  std::uint64_t rows() const { return shape.elements() / cols(); }
};

// Where a loaded tensor goes.
using TensorSlot = std::variant<Linear*, Mat<const float>*, std::span<const float>*>;

// Prepares weights.blocks for the config's layer kinds, then visits every tensor in file order: embedding, projections,
// layers from first to last, head.
void for_each_tensor(const Config& config, ModelWeights& weights,
                     const std::function<void(const TensorSpec&, TensorSlot)>& visit);
// The list alone.
std::vector<TensorSpec> tensor_list(const Config& config);

struct ParameterCount {
  std::uint64_t total = 0;   // a tied head is counted once
  std::uint64_t active = 0;  // parameters that one token meets: top_k experts of each layer, and the shared one
};
ParameterCount count_parameters(const Config& config);

}  // namespace axon
