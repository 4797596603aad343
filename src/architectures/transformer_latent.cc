// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values of all heads are made from
// one latent a token, and only that latent and one rotary key are kept.

#include "architectures/transformer_parts.h"

namespace axon {
namespace {

struct Latent {
  std::uint64_t query_rank = 0;  // 0: queries come from one full matrix
  std::uint64_t kv_rank = 0, rope_dim = 0, nope_dim = 0, value_dim = 0;
  bool bias = false;
};

Result<Latent> read_latent(const Fields& fields) {
  Latent latent;
  if (!fields.is_null("q_lora_rank")) latent.query_rank = AXON_TRY(fields.count_or("q_lora_rank", 1536));
  latent.kv_rank = AXON_TRY(fields.count_or("kv_lora_rank", 512));
  latent.rope_dim = AXON_TRY(fields.count_or("qk_rope_head_dim", 64));
  latent.nope_dim = AXON_TRY(fields.count_or("qk_nope_head_dim", 128));
  latent.value_dim = AXON_TRY(fields.count_or("v_head_dim", 128));
  latent.bias = AXON_TRY(fields.flag_or("attention_bias", false));
  return latent;
}

void add_latent_attention(Builder& builder, std::uint64_t hidden, std::uint64_t heads, const Latent& latent) {
  const std::uint64_t queries = heads * (latent.nope_dim + latent.rope_dim);
  const std::uint64_t kept = latent.kv_rank + latent.rope_dim;
  const std::uint64_t expanded = heads * (latent.nope_dim + latent.value_dim);
  const auto project = [&](std::string_view name, std::uint64_t rows, std::uint64_t cols, bool bias = false) {
    builder.matrix(fmt::format("layers.*.self_attn.{}", name), Part::kAttention, rows, cols, 1, bias);
  };
  if (latent.query_rank == 0) {
    project("q_proj", queries, hidden);
  } else {
    project("q_a_proj", latent.query_rank, hidden, latent.bias);
    builder.vector("layers.*.self_attn.q_a_layernorm.weight", Part::kNorm, latent.query_rank);
    project("q_b_proj", queries, latent.query_rank);
  }
  project("kv_a_proj_with_mqa", kept, hidden, latent.bias);
  builder.vector("layers.*.self_attn.kv_a_layernorm.weight", Part::kNorm, latent.kv_rank);
  project("kv_b_proj", expanded, latent.kv_rank);
  project("o_proj", hidden, heads * latent.value_dim, latent.bias);
  builder.layer({.kind = "latent attention", .memory = {.latent_dim = kept}});
  builder.width(2 * hidden + queries + kept + expanded + heads * latent.value_dim);
}

struct Sparsity {
  std::uint64_t first = 0, step = 1;  // layers with experts: from `first` on, every `step`-th
  bool at(std::uint64_t layer) const { return layer >= first && layer % step == 0; }
};

Result<Sparsity> read_sparsity(const Fields& fields, std::uint64_t layers, std::uint64_t default_first) {
  Sparsity sparsity;
  sparsity.first = AXON_TRY(fields.zero_or_more("first_k_dense_replace", default_first));
  sparsity.step = AXON_TRY(fields.count_or("moe_layer_freq", 1));
  if (sparsity.first > layers) {
    return fields.wrong("first_k_dense_replace", fmt::format("at most num_hidden_layers ({})", layers));
  }
  return sparsity;
}

void add_routed(Builder& builder, std::uint64_t hidden, const Experts& experts, bool correction) {
  const DenseStyle style;
  builder.matrix("layers.*.mlp.gate", Part::kRouter, experts.count, hidden);
  if (correction) builder.vector("layers.*.mlp.gate.e_score_correction_bias", Part::kRouter, experts.count);
  if (experts.shared_inner != 0) {
    add_feed_forward(builder, "layers.*.mlp.shared_experts", Part::kSharedExpert, hidden, experts.shared_inner, style);
  }
  builder.share(experts.top_k, experts.count);
  add_feed_forward(builder, "layers.*.mlp.experts.*", Part::kExperts, hidden, experts.inner, style, experts.count);
  builder.share(1, 1);
  add_experts_width(builder, hidden, experts);
}

Result<Experts> read_routed(const Fields& fields, std::uint64_t default_shared) {
  Experts experts = AXON_TRY(read_experts(fields, {.count = "n_routed_experts", .inner = "moe_intermediate_size"}));
  const std::uint64_t otherwise = fields.is_null("n_shared_experts") ? 0u : default_shared;
  const std::uint64_t shared = AXON_TRY(fields.zero_or_more("n_shared_experts", otherwise));
  experts.shared_inner = shared * experts.inner;  // they are stored as one
  return experts;
}

// V3's checkpoint also has layers that predict the token after next (num_nextn_predict_layers). Generation does without
// them, transformers does not load them, and so they are not counted.
Result<Architecture> read_deepseek(std::string_view family, const Fields& fields, bool v3) {
  const Decoder sizes =
      AXON_TRY(read_decoder(fields, {.head_dim = 1, .context_max = std::uint64_t{v3 ? 4096u : 2048u}}));
  const Latent latent = AXON_TRY(read_latent(fields));
  const Sparsity sparsity = AXON_TRY(read_sparsity(fields, sizes.layers, v3 ? 3u : 0u));
  const Experts experts = AXON_TRY(read_routed(fields, v3 ? 1u : 2u));
  std::uint64_t dense = 0;
  for (std::uint64_t i = 0; i < sizes.layers; ++i) dense += sparsity.at(i) ? 0u : 1u;
  const std::uint64_t inner = dense == 0 ? 0u : AXON_TRY(read_inner(fields));
  const DenseStyle style;
  Builder builder(family, fields);
  for (std::uint64_t i = 0; i < sizes.layers; ++i) {
    add_norms(builder, sizes, style);
    add_latent_attention(builder, sizes.hidden_size, sizes.heads, latent);
    if (sparsity.at(i)) {
      add_routed(builder, sizes.hidden_size, experts, v3);
    } else {
      add_mlp(builder, sizes, inner, style);
    }
  }
  add_ends(builder, sizes, style);
  return builder.finish();
}

}  // namespace

// Kimi K2 is a V3 with other sizes.
std::vector<Family> latent_families() {
  return {{"deepseek_v2", [](const Fields& fields) { return read_deepseek("deepseek_v2", fields, false); }},
          {"deepseek_v3", [](const Fields& fields) { return read_deepseek("deepseek_v3", fields, true); }},
          {"kimi_k2", [](const Fields& fields) { return read_deepseek("kimi_k2", fields, true); }}};
}

}  // namespace axon
