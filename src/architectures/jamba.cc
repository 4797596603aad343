// Jamba: Mamba layers, attention in one layer of a period, experts in every other layer (transformers' JambaModel).

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

struct Period {
  std::uint64_t period = 1, offset = 0;
  bool has(std::uint64_t layer) const { return layer % period == offset; }
};

Result<Period> read_period(const Fields& fields, std::string_view kind, Period otherwise) {
  const std::string period_key = fmt::format("{}_layer_period", kind);
  const std::string offset_key = fmt::format("{}_layer_offset", kind);
  Period out;
  out.period = AXON_TRY(fields.count_or(period_key, otherwise.period));
  out.offset = AXON_TRY(fields.zero_or_more(offset_key, otherwise.offset));
  if (out.offset >= out.period) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {} must be below {} ({}), but is {}", fields.what(), offset_key,
                      period_key, out.period, out.offset);
  }
  return out;
}

Result<Mamba> read_mixer(const Fields& fields, std::uint64_t hidden) {
  Mamba out;
  out.hidden = hidden;
  out.inner_norms = true;
  out.inner = hidden * AXON_TRY(fields.count_or("mamba_expand", 2, 64));
  out.state = AXON_TRY(fields.count_or("mamba_d_state", 16, kMaxState));
  out.taps = AXON_TRY(fields.count_or("mamba_d_conv", 4, kMaxTaps));
  out.time_rank = AXON_TRY(count_or_auto(fields, "mamba_dt_rank", (hidden + 15) / 16, Fields::kMax));
  out.conv_bias = AXON_TRY(fields.flag_or("mamba_conv_bias", true));
  out.bias = AXON_TRY(fields.flag_or("mamba_proj_bias", false));
  return out;
}

struct Experts {
  std::uint64_t inner = 0, count = 0, active = 0;
};

Result<Experts> read_experts(const Fields& fields) {
  Experts out;
  out.inner = AXON_TRY(fields.count_or("intermediate_size", 14336));
  out.count = AXON_TRY(fields.count_or("num_experts", 16, kMaxHeads));
  out.active = AXON_TRY(fields.count_or("num_experts_per_tok", 2, kMaxHeads));
  if (out.count > 1) AXON_TRY(check_at_most(fields, "num_experts_per_tok", out.active, "num_experts", out.count));
  return out;
}

void add_feed_forward(Builder& builder, const Body& body, const Experts& experts, std::uint64_t expert_layers) {
  const std::uint64_t dense = body.layers - expert_layers;
  builder.width(2 * body.hidden + 2 * experts.inner);
  add_gated_mlp(builder, "layers.*.feed_forward", Part::kFeedForward, body.hidden, experts.inner, dense);
  if (expert_layers == 0) return;
  builder.width(2 * body.hidden + experts.active * 2 * experts.inner + experts.count);
  builder.matrix("layers.*.feed_forward.router", Part::kRouter, experts.count, body.hidden, expert_layers);
  builder.share(experts.active, experts.count);
  add_gated_mlp(builder, "layers.*.feed_forward.experts.*", Part::kExperts, body.hidden, experts.inner,
                expert_layers * experts.count);
  builder.share(1, 1);
}

}  // namespace

Result<Architecture> read_jamba(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  const Period attention_at = AXON_TRY(read_period(fields, "attn", {8, 4}));
  const Period experts_at = AXON_TRY(read_period(fields, "expert", {2, 1}));
  GroupedAttention attention = AXON_TRY(read_attention(fields, body.hidden, {.heads = 32, .kv_heads = 8}));
  attention.window = AXON_TRY(fields.zero_or_more("sliding_window", 0, std::uint64_t{1} << 40));
  const Mamba mixer = AXON_TRY(read_mixer(fields, body.hidden));
  const Experts experts = AXON_TRY(read_experts(fields));

  Builder builder("jamba", fields);
  builder.model().context_max =
      AXON_TRY(fields.zero_or_more("max_position_embeddings", 262144, std::uint64_t{1} << 40));
  add_ends(builder, body, {.embedding = "embed_tokens", .norm = "final_layernorm", .head = "lm_head"});
  std::uint64_t attention_layers = 0, expert_layers = 0;
  for (std::uint64_t i = 0; i < body.layers; ++i) {
    const bool attends = attention_at.has(i);
    builder.layer({attends ? "attention" : "mamba", attends ? attention.memory() : mixer.memory()});
    attention_layers += attends;
    expert_layers += experts_at.has(i) && experts.count > 1;
  }
  builder.vector("layers.*.input_layernorm.weight", Part::kNorm, body.hidden, body.layers);
  builder.vector("layers.*.pre_ff_layernorm.weight", Part::kNorm, body.hidden, body.layers);
  mixer.add(builder, "layers.*.mamba", body.layers - attention_layers);
  attention.add(builder, "layers.*.self_attn", attention_layers);
  if (attention_layers != 0) builder.width(2 * body.hidden + attention.width());
  if (attention_layers != body.layers) builder.width(2 * body.hidden + mixer.width());
  add_feed_forward(builder, body, experts, expert_layers);
  return builder.finish();
}

}  // namespace axon
