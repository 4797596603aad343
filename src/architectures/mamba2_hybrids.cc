// Mamba-2 layers among attention layers, a feed forward in each: Granite 4.0-H, Bamba; and Falcon-H1, whose layers have
// both side by side. Shapes as in transformers' GraniteMoeHybridModel, BambaModel and FalconH1Model.

#include <algorithm>

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

constexpr std::uint64_t kMaxContext = std::uint64_t{1} << 40;

// Two norms, a mixer of either kind: what Granite and Bamba have in common.
struct Mixers {
  Mamba2 mamba;
  GroupedAttention attention;
  std::vector<bool> attends;  // by layer
};

void add_mixers(Builder& builder, const Mixers& mixers, std::string_view second_norm) {
  const std::uint64_t layers = mixers.attends.size(), hidden = mixers.mamba.hidden;
  const auto attending = static_cast<std::uint64_t>(std::count(mixers.attends.begin(), mixers.attends.end(), true));
  builder.vector("layers.*.input_layernorm.weight", Part::kNorm, hidden, layers);
  builder.vector(fmt::format("layers.*.{}.weight", second_norm), Part::kNorm, hidden, layers);
  mixers.mamba.add(builder, "layers.*.mamba", layers - attending);
  mixers.attention.add(builder, "layers.*.self_attn", attending);
  if (attending != 0) builder.width(2 * hidden + mixers.attention.width());
  if (attending != layers) builder.width(2 * hidden + mixers.mamba.width());
  for (const bool attends : mixers.attends) {
    builder.layer({attends ? "attention" : "mamba2", attends ? mixers.attention.memory() : mixers.mamba.memory()});
  }
}

// layer_types: "mamba" or "attention" a layer; all "mamba" when absent.
Result<std::vector<bool>> read_layer_types(const Fields& fields, std::uint64_t layers) {
  const std::vector<std::string> types = AXON_TRY(fields.texts("layer_types"));
  if (types.empty()) return std::vector<bool>(layers, false);
  if (types.size() != layers) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: layer_types must have num_hidden_layers ({}) entries, but has {}", fields.what(), layers,
                      types.size());
  }
  std::vector<bool> out;
  for (const std::string& type : types) {
    if (type != "mamba" && type != "attention") {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: layer_types must be \"mamba\" or \"attention\", but has \"{}\"", fields.what(),
                        type.substr(0, 60));
    }
    out.push_back(type == "attention");
  }
  return out;
}

struct GraniteExperts {
  std::uint64_t shared_inner = 0, inner = 0, count = 0, active = 0;
};

Result<GraniteExperts> read_granite_experts(const Fields& fields) {
  GraniteExperts out;
  out.shared_inner = AXON_TRY(fields.count_or("shared_intermediate_size", 1024));
  out.count = AXON_TRY(fields.zero_or_more("num_local_experts", 8, kMaxHeads));
  if (out.count == 0) return out;
  out.inner = AXON_TRY(fields.count_or("intermediate_size", 11008));
  out.active = AXON_TRY(fields.count_or("num_experts_per_tok", 2, kMaxHeads));
  AXON_TRY(check_at_most(fields, "num_experts_per_tok", out.active, "num_local_experts", out.count));
  return out;
}

// Gate and up are one matrix; the file stacks all experts of a layer into one tensor [experts, rows, cols].
void add_granite_feed_forward(Builder& builder, const Body& body, const GraniteExperts& experts) {
  const Part shared = experts.count == 0 ? Part::kFeedForward : Part::kSharedExpert;
  builder.matrix("layers.*.shared_mlp.input_linear", shared, 2 * experts.shared_inner, body.hidden, body.layers);
  builder.matrix("layers.*.shared_mlp.output_linear", shared, body.hidden, experts.shared_inner, body.layers);
  builder.width(2 * body.hidden + 2 * experts.shared_inner + experts.active * 2 * experts.inner + experts.count);
  if (experts.count == 0) return;
  const std::uint64_t all = body.layers * experts.count;
  builder.matrix("layers.*.block_sparse_moe.router.layer", Part::kRouter, experts.count, body.hidden, body.layers);
  builder.share(experts.active, experts.count);
  builder.matrix("layers.*.block_sparse_moe.input_linear.*", Part::kExperts, 2 * experts.inner, body.hidden, all);
  builder.matrix("layers.*.block_sparse_moe.output_linear.*", Part::kExperts, body.hidden, experts.inner, all);
  builder.share(1, 1);
}

// attn_layer_indices; none when absent.
Result<std::vector<bool>> read_layer_indices(const Fields& fields, std::uint64_t layers) {
  std::vector<bool> out(layers, false);
  const std::vector<std::uint64_t> indices = AXON_TRY(fields.counts("attn_layer_indices"));
  for (const std::uint64_t index : indices) {
    if (index >= layers) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: attn_layer_indices must be below num_hidden_layers ({}), but "
                        "has {}",
                        fields.what(), layers, index);
    }
    out[index] = true;
  }
  return out;
}

}  // namespace

Result<Architecture> read_granite_hybrid(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  Mixers mixers;
  mixers.attends = AXON_TRY(read_layer_types(fields, body.layers));
  const std::uint64_t heads = AXON_TRY(fields.count_or("num_attention_heads", 32, kMaxHeads));
  mixers.attention = AXON_TRY(read_attention(fields, body.hidden, {.heads = heads, .kv_heads = heads}));
  const std::uint64_t inner = AXON_TRY(read_inner_size(fields, "mamba_expand", body.hidden));
  mixers.mamba = AXON_TRY(read_mamba2_of_hybrid(fields, body.hidden, inner));
  const GraniteExperts experts = AXON_TRY(read_granite_experts(fields));

  Builder builder("granitemoehybrid", fields);
  builder.model().context_max = AXON_TRY(fields.zero_or_more("max_position_embeddings", 2048, kMaxContext));
  add_ends(builder, body, {.embedding = "embed_tokens", .norm = "norm", .head = "lm_head"});
  add_mixers(builder, mixers, "post_attention_layernorm");
  add_granite_feed_forward(builder, body, experts);
  return builder.finish();
}

Result<Architecture> read_bamba(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  Mixers mixers;
  mixers.attends = AXON_TRY(read_layer_indices(fields, body.layers));
  mixers.attention = AXON_TRY(read_attention(fields, body.hidden, {.heads = 32, .kv_heads = 8}));
  const std::uint64_t inner = AXON_TRY(read_inner_size(fields, "mamba_expand", body.hidden));
  mixers.mamba = AXON_TRY(read_mamba2_of_hybrid(fields, body.hidden, inner));
  const std::uint64_t mlp = AXON_TRY(fields.count_or("intermediate_size", 14336));
  const bool mlp_bias = AXON_TRY(fields.flag_or("mlp_bias", false));

  Builder builder("bamba", fields);
  builder.model().context_max = AXON_TRY(fields.zero_or_more("max_position_embeddings", 262144, kMaxContext));
  add_ends(builder, body, {.embedding = "embed_tokens", .norm = "final_layernorm", .head = "lm_head"});
  add_mixers(builder, mixers, "pre_ff_layernorm");
  add_gated_mlp(builder, "layers.*.feed_forward", Part::kFeedForward, body.hidden, mlp, body.layers, mlp_bias);
  builder.width(2 * body.hidden + 2 * mlp);
  return builder.finish();
}

Result<Architecture> read_falcon_h1(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  const GroupedAttention attention = AXON_TRY(read_attention(fields, body.hidden, {.heads = 32, .kv_heads = 8}));
  // Absent it would be 1024, null expand times hidden: both are read as absent here, so that it has to be said.
  const std::uint64_t inner = AXON_TRY(fields.count("mamba_d_ssm"));
  Mamba2 mamba = AXON_TRY(read_mamba2_of_hybrid(fields, body.hidden, inner));
  mamba.gated_norm = AXON_TRY(fields.flag_or("mamba_rms_norm", false));
  mamba.out_bias = AXON_TRY(fields.flag_or("projectors_bias", false));
  const std::uint64_t mlp = AXON_TRY(fields.count_or("intermediate_size", 14336));
  const bool mlp_bias = AXON_TRY(fields.flag_or("mlp_bias", false));

  Builder builder("falcon_h1", fields);
  builder.model().context_max = AXON_TRY(fields.zero_or_more("max_position_embeddings", 8192, kMaxContext));
  add_ends(builder, body, {.embedding = "embed_tokens", .norm = "final_layernorm", .head = "lm_head"});
  builder.vector("layers.*.input_layernorm.weight", Part::kNorm, body.hidden, body.layers);
  builder.vector("layers.*.pre_ff_layernorm.weight", Part::kNorm, body.hidden, body.layers);
  mamba.add(builder, "layers.*.mamba", body.layers);
  attention.add(builder, "layers.*.self_attn", body.layers);
  add_gated_mlp(builder, "layers.*.feed_forward", Part::kFeedForward, body.hidden, mlp, body.layers, mlp_bias);
  builder.width(2 * body.hidden + std::max({mamba.width(), attention.width(), 2 * mlp}));
  LayerMemory both = attention.memory();
  both.state_values = mamba.memory().state_values;
  both.conv_values = mamba.memory().conv_values;
  for (std::uint64_t i = 0; i < body.layers; ++i) builder.layer({"attention and mamba2", both});
  return builder.finish();
}

}  // namespace axon
