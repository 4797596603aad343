#pragma once
// Other people's models by shape: which tensors they have, and what each layer remembers of a sequence. Everything that
// a memory plan needs follows from these two lists; nothing is guessed from a parameter count.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/json_value.h"

namespace axon {

// What a tensor is for. Formats treat the parts alike, but people ask "how much of it is experts?".
enum class Part { kEmbedding, kHead, kAttention, kFeedForward, kExperts, kSharedExpert, kRouter, kRecurrent, kNorm };
std::string_view name_of(Part part);  // "embedding", "head", "attention", "feed forward", "experts", ...

// Tensors of one shape that differ only by layer (and expert).
struct TensorGroup {
  std::string name;  // "layers.*.self_attn.q_proj.weight"
  Part part = Part::kNorm;
  std::uint64_t rows = 1, cols = 1;  // of one tensor; a vector has one row
  std::uint64_t count = 1;           // how many there are: layers, times experts
  bool matrix = false;               // weight of a linear layer or an embedding: what weight formats apply to
  std::uint64_t active = 1, of = 1;  // active/of of the elements take part in one token: 2/8 for top-2 of 8 experts

  // All of them; no value when it passes 64 bits.
  std::uint64_t elements() const { return rows * cols * count; }  // checked when the architecture is built
};

// What one layer keeps of a sequence. Attention keeps values for each token, a recurrent mixer a state of fixed size;
// a hybrid layer may have both.
struct LayerMemory {
  std::uint64_t kv_heads = 0, key_dim = 0, value_dim = 0;  // keys and values: kv_heads * (key_dim + value_dim) a token
  std::uint64_t latent_dim = 0;    // multi-head latent attention (DeepSeek): values a token, instead of keys and values
  std::uint64_t window = 0;        // tokens that attention reaches back; 0: all
  std::uint64_t state_values = 0;  // recurrent state, independent of the context
  std::uint64_t conv_values = 0;   // the last inputs of a causal convolution (or token shift)
};

struct Layer {
  std::string kind;  // "attention", "sliding attention", "latent attention", "mamba", "mamba2", "rwkv"
  LayerMemory memory;
};

struct Architecture {
  std::string family;  // as in config.json's model_type: "llama", "qwen3_moe", ...
  std::string name;    // how the target was named, for messages and titles
  std::uint64_t vocab_size = 0;
  std::uint64_t hidden_size = 0;
  std::uint64_t context_max = 0;    // what the model was made for; 0: not said, or without limit
  std::uint64_t widest_values = 0;  // values a token that the widest part of a layer holds at once: for workspace
  std::string native_weights;       // precision of the published weights: "bf16", "mxfp4", ...; empty: not said
  bool tied_head = false;           // the head is the embedding; there is no kHead tensor then
  std::vector<TensorGroup> tensors;
  std::vector<Layer> layers;

  struct Count {
    std::uint64_t total = 0, active = 0;
  };
  Count parameters() const;
  std::uint64_t attention_layers() const;  // with keys and values or a latent
  std::uint64_t recurrent_layers() const;
};

// From a config.json as published on model hubs. kUnsupported names a model_type that is unknown, and lists the known
// ones; kInvalidArgument names the field that is absent, absurd or contradicts another; nothing is assumed in its place
// but what the model's own code assumes by default.
Result<Architecture> read_architecture(const JsonValue& config, std::string_view what);
const std::vector<std::string_view>& known_families();

}  // namespace axon
