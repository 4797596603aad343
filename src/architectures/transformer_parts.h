#pragma once
// What the transformer families share: the sizes that every config has, and the parts of a layer as lists of tensors.
// Defaults are those of the model's own configuration class in Hugging Face transformers; where this says "required",
// no published model leaves the field out.

#include <functional>
#include <string_view>
#include <vector>

#include "architectures/builder.h"

namespace axon {

// What a family's code assumes for an absent field; 0: the field is required, unless said otherwise.
struct DecoderDefaults {
  std::uint64_t vocab_size = 0, hidden_size = 0, layers = 0, heads = 0;
  std::uint64_t kv_heads = 0;  // 0: as many as heads, which null always means
  std::uint64_t head_dim = 0;  // 0: hidden_size / heads
  std::uint64_t context_max = 0;
  bool tied = false;
};

struct Decoder {
  std::uint64_t vocab_size = 0, hidden_size = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, context_max = 0;
  bool tied = false;
};
// Names the field that is absent or contradicts: heads that kv heads or hidden_size do not divide by.
Result<Decoder> read_decoder(const Fields& fields, const DecoderDefaults& defaults);

// intermediate_size; `otherwise` as in DecoderDefaults.
Result<std::uint64_t> read_inner(const Fields& fields, std::uint64_t otherwise = 0);

// Tokens that each layer's attention reaches back, 0 for all. layer_types says which layers slide; where the config
// does not have it, `slides` tells by the layer's number. `window` 0 is an error when layer_types says that some slide.
Result<std::vector<std::uint64_t>> read_windows(const Fields& fields, std::uint64_t layers, std::uint64_t window,
                                                const std::function<bool(std::uint64_t)>& slides);
// sliding_window; `otherwise` when absent, 0 for null.
Result<std::uint64_t> read_window(const Fields& fields, std::uint64_t otherwise);
// Qwen's: as read_window, but 0 unless use_sliding_window.
Result<std::uint64_t> read_optional_window(const Fields& fields, std::uint64_t otherwise);

enum class QkNorm {
  kNone,
  kOneHead,   // one vector of head_dim that all heads share
  kAllHeads,  // over the whole projection, or one vector a head
};

struct AttentionStyle {
  bool qkv_bias = false, out_bias = false;
  bool fused = false;  // one matrix makes queries, keys and values
  QkNorm qk_norm = QkNorm::kNone;
  bool qk_norm_bias = false;
  bool sinks = false;  // one learned score a head (gpt-oss)
  std::string_view out_name = "o_proj", norm_name = "norm";
};

enum class FeedForward { kGated, kGatedFused, kPlain };

// A layer of a dense model.
struct DenseStyle {
  AttentionStyle attention;
  FeedForward feed_forward = FeedForward::kGated;
  bool mlp_bias = false;
  std::string_view up_name = "up_proj", down_name = "down_proj";  // of kPlain
  std::vector<std::string_view> norms = {"input_layernorm", "post_attention_layernorm"};
  bool norm_bias = false;  // LayerNorm instead of RMSNorm
  std::string_view final_norm = "norm";
  bool head_bias = false;
};

// Embedding, final norm and head; and the fields of the model that follow from the sizes.
void add_ends(Builder& builder, const Decoder& sizes, const DenseStyle& style);
// The tensors of one layer's attention, and the layer itself.
void add_attention(Builder& builder, const Decoder& sizes, const AttentionStyle& style, std::uint64_t window);
// Norms of one layer.
void add_norms(Builder& builder, const Decoder& sizes, const DenseStyle& style);
// "NAME.gate_proj", "NAME.up_proj" and "NAME.down_proj", or as the style has them; `count` of each. No width.
void add_feed_forward(Builder& builder, std::string_view name, Part part, std::uint64_t hidden, std::uint64_t inner,
                      const DenseStyle& style, std::uint64_t count = 1);
// The feed forward of one layer, with its width.
void add_mlp(Builder& builder, const Decoder& sizes, std::uint64_t inner, const DenseStyle& style);

// A model with the same layer all the way but for its window.
Result<Architecture> dense_model(std::string_view family, const Fields& fields, const Decoder& sizes,
                                 const DenseStyle& style, const std::vector<std::uint64_t>& windows);

struct Experts {
  std::uint64_t count = 0, top_k = 0, inner = 0;
  std::uint64_t shared_inner = 0;  // of what runs beside the experts for every token; 0: none
};
struct ExpertFields {
  std::string_view count, inner;
  std::uint64_t default_count = 0, default_top_k = 0, default_inner = 0;  // 0: required
};
// kInvalidArgument when num_experts_per_tok is above the number of experts.
Result<Experts> read_experts(const Fields& fields, const ExpertFields& names);
// Values a token that running the experts takes, router scores and shared expert with them: Builder::width's rule.
void add_experts_width(Builder& builder, std::uint64_t hidden, const Experts& experts);

std::vector<Family> dense_families();
std::vector<Family> gemma_families();
std::vector<Family> moe_families();
std::vector<Family> latent_families();

}  // namespace axon
