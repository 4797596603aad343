// Qwen3-Next: gated delta rule (Yang et al. 2024) in most layers, attention with a gate in every fourth, many small
// experts. Shapes as in transformers' Qwen3NextModel; the layer that predicts further tokens is not loaded by it.

#include <algorithm>

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

struct DeltaRule {
  std::uint64_t hidden = 0, key_heads = 16, value_heads = 32, key_dim = 128, value_dim = 128, taps = 4;
  std::uint64_t keys() const { return key_heads * key_dim; }
  std::uint64_t values() const { return value_heads * value_dim; }
  std::uint64_t convolved() const { return 2 * keys() + values(); }

  void add(Builder& builder, std::string_view name, std::uint64_t count) const {
    const auto at = [&](std::string_view part) { return fmt::format("{}.{}", name, part); };
    builder.matrix(at("in_proj_qkvz"), Part::kRecurrent, 2 * keys() + 2 * values(), hidden, count);
    builder.matrix(at("in_proj_ba"), Part::kRecurrent, 2 * value_heads, hidden, count);
    builder.tensor(at("conv1d.weight"), Part::kRecurrent, convolved(), taps, count);
    builder.vector(at("dt_bias"), Part::kRecurrent, value_heads, count);
    builder.vector(at("A_log"), Part::kRecurrent, value_heads, count);
    builder.vector(at("norm.weight"), Part::kNorm, value_dim, count);
    builder.matrix(at("out_proj"), Part::kRecurrent, hidden, values(), count);
  }
  LayerMemory memory() const {
    return {.state_values = value_heads * key_dim * value_dim, .conv_values = convolved() * (taps - 1)};
  }
  std::uint64_t width() const { return (2 * keys() + 2 * values() + 2 * value_heads) + convolved() + values(); }
};

Result<DeltaRule> read_delta_rule(const Fields& fields, std::uint64_t hidden) {
  DeltaRule out;
  out.hidden = hidden;
  out.key_heads = AXON_TRY(fields.count_or("linear_num_key_heads", 16, kMaxHeads));
  out.value_heads = AXON_TRY(fields.count_or("linear_num_value_heads", 32, kMaxHeads));
  AXON_TRY(check_divides(fields, "linear_num_key_heads", out.key_heads, "linear_num_value_heads", out.value_heads));
  out.key_dim = AXON_TRY(fields.count_or("linear_key_head_dim", 128, kMaxHeadSize));
  out.value_dim = AXON_TRY(fields.count_or("linear_value_head_dim", 128, kMaxHeadSize));
  out.taps = AXON_TRY(fields.count_or("linear_conv_kernel_dim", 4, kMaxTaps));
  return out;
}

// layer_types, or full attention in each full_attention_interval-th layer.
Result<std::vector<bool>> read_attending(const Fields& fields, std::uint64_t layers) {
  const std::vector<std::string> types = AXON_TRY(fields.texts("layer_types"));
  const std::uint64_t interval = AXON_TRY(fields.count_or("full_attention_interval", 4));
  std::vector<bool> out(layers, false);
  for (std::uint64_t i = 0; i < layers; ++i) out[i] = (i + 1) % interval == 0;
  if (types.empty()) return out;
  if (types.size() != layers) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: layer_types must have num_hidden_layers ({}) entries, but has {}", fields.what(), layers,
                      types.size());
  }
  for (std::uint64_t i = 0; i < layers; ++i) {
    if (types[i] != "linear_attention" && types[i] != "full_attention") {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: layer_types must be \"linear_attention\" or \"full_attention\", but has \"{}\"",
                        fields.what(), types[i].substr(0, 60));
    }
    out[i] = types[i] == "full_attention";
  }
  return out;
}

struct Experts {
  std::uint64_t inner = 512, shared_inner = 512, count = 512, active = 10, dense_inner = 5632;
  std::uint64_t layers = 0;  // with experts; the others are dense
};

Result<Experts> read_experts(const Fields& fields, std::uint64_t layers) {
  Experts out;
  out.inner = AXON_TRY(fields.count_or("moe_intermediate_size", 512));
  out.shared_inner = AXON_TRY(fields.count_or("shared_expert_intermediate_size", 512));
  out.dense_inner = AXON_TRY(fields.count_or("intermediate_size", 5632));
  out.count = AXON_TRY(fields.zero_or_more("num_experts", 512, kMaxHeads));
  out.active = AXON_TRY(fields.count_or("num_experts_per_tok", 10, kMaxHeads));
  const std::uint64_t step = AXON_TRY(fields.count_or("decoder_sparse_step", 1));
  const std::vector<std::uint64_t> dense = AXON_TRY(fields.counts("mlp_only_layers"));
  if (out.count == 0) return out;
  AXON_TRY(check_at_most(fields, "num_experts_per_tok", out.active, "num_experts", out.count));
  for (std::uint64_t i = 0; i < layers; ++i) {
    out.layers += (i + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end();
  }
  return out;
}

void add_feed_forward(Builder& builder, const Body& body, const Experts& experts) {
  if (experts.layers != body.layers) builder.width(2 * body.hidden + 2 * experts.dense_inner);
  add_gated_mlp(builder, "layers.*.mlp", Part::kFeedForward, body.hidden, experts.dense_inner,
                body.layers - experts.layers);
  if (experts.layers == 0) return;
  builder.width(2 * body.hidden + experts.active * 2 * experts.inner + 2 * experts.shared_inner + experts.count);
  builder.matrix("layers.*.mlp.gate", Part::kRouter, experts.count, body.hidden, experts.layers);
  builder.matrix("layers.*.mlp.shared_expert_gate", Part::kSharedExpert, 1, body.hidden, experts.layers);
  add_gated_mlp(builder, "layers.*.mlp.shared_expert", Part::kSharedExpert, body.hidden, experts.shared_inner,
                experts.layers);
  builder.share(experts.active, experts.count);
  add_gated_mlp(builder, "layers.*.mlp.experts.*", Part::kExperts, body.hidden, experts.inner,
                experts.layers * experts.count);
  builder.share(1, 1);
}

}  // namespace

Result<Architecture> read_qwen3_next(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  GroupedAttention attention =
      AXON_TRY(read_attention(fields, body.hidden, {.heads = 16, .kv_heads = 2, .head_dim = 256}));
  attention.query_gate = true;
  const DeltaRule delta = AXON_TRY(read_delta_rule(fields, body.hidden));
  const std::vector<bool> attends = AXON_TRY(read_attending(fields, body.layers));
  const Experts experts = AXON_TRY(read_experts(fields, body.layers));

  Builder builder("qwen3_next", fields);
  builder.model().context_max = AXON_TRY(fields.zero_or_more("max_position_embeddings", 32768, std::uint64_t{1} << 40));
  add_ends(builder, body, {.embedding = "embed_tokens", .norm = "norm", .head = "lm_head"});
  builder.vector("layers.*.input_layernorm.weight", Part::kNorm, body.hidden, body.layers);
  builder.vector("layers.*.post_attention_layernorm.weight", Part::kNorm, body.hidden, body.layers);
  const auto attending = static_cast<std::uint64_t>(std::count(attends.begin(), attends.end(), true));
  attention.add(builder, "layers.*.self_attn", attending);
  builder.vector("layers.*.self_attn.q_norm.weight", Part::kNorm, attention.head_dim, attending);
  builder.vector("layers.*.self_attn.k_norm.weight", Part::kNorm, attention.head_dim, attending);
  delta.add(builder, "layers.*.linear_attn", body.layers - attending);
  if (attending != 0) builder.width(2 * body.hidden + attention.width());
  if (attending != body.layers) builder.width(2 * body.hidden + delta.width());
  add_feed_forward(builder, body, experts);
  for (const bool full : attends) {
    builder.layer({full ? "attention" : "delta rule", full ? attention.memory() : delta.memory()});
  }
  return builder.finish();
}

}  // namespace axon
