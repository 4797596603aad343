#include <algorithm>

#include "architectures/transformer_parts.h"

namespace axon {
namespace {

constexpr std::string_view kMlp = "layers.*.mlp";

Result<Architecture> read_mixtral(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 8, .context_max = 131072}));
  const std::uint64_t window = AXON_TRY(read_window(fields, 0));
  const Experts experts = AXON_TRY(read_experts(
      fields, {.count = "num_local_experts", .inner = "intermediate_size", .default_count = 8, .default_top_k = 2}));
  const DenseStyle style;
  Builder builder("mixtral", fields);
  for (std::uint64_t i = 0; i < sizes.layers; ++i) {
    add_norms(builder, sizes, style);
    add_attention(builder, sizes, style.attention, window);
    builder.matrix("layers.*.block_sparse_moe.gate", Part::kRouter, experts.count, sizes.hidden_size);
    builder.share(experts.top_k, experts.count);
    for (const std::string_view name : {"w1", "w3"}) {
      builder.matrix(fmt::format("layers.*.block_sparse_moe.experts.*.{}", name), Part::kExperts, experts.inner,
                     sizes.hidden_size, experts.count);
    }
    builder.matrix("layers.*.block_sparse_moe.experts.*.w2", Part::kExperts, sizes.hidden_size, experts.inner,
                   experts.count);
    builder.share(1, 1);
  }
  add_experts_width(builder, sizes.hidden_size, experts);
  add_ends(builder, sizes, style);
  return builder.finish();
}

// Qwen's rule: every decoder_sparse_step-th layer has experts, but for those that mlp_only_layers lists.
Result<std::vector<bool>> sparse_layers(const Fields& fields, std::uint64_t layers) {
  const std::uint64_t step = AXON_TRY(fields.count_or("decoder_sparse_step", 1));
  const std::vector<std::uint64_t> dense = AXON_TRY(fields.counts("mlp_only_layers"));
  std::vector<bool> sparse(layers);
  for (std::uint64_t i = 0; i < layers; ++i) sparse[i] = (i + 1) % step == 0;
  for (const std::uint64_t i : dense) {
    if (i >= layers) {
      return make_error(ErrorCode::kInvalidArgument, "{}: mlp_only_layers has {}, but num_hidden_layers is {}",
                        fields.what(), i, layers);
    }
    sparse[i] = false;
  }
  return sparse;
}

struct QwenMoe {
  std::string_view family;
  Decoder sizes;
  DenseStyle style;
  std::vector<std::uint64_t> windows;
  Experts experts;
};

void add_qwen_experts(Builder& builder, const QwenMoe& model) {
  const std::uint64_t hidden = model.sizes.hidden_size;
  const Experts& experts = model.experts;
  builder.matrix(fmt::format("{}.gate", kMlp), Part::kRouter, experts.count, hidden);
  if (experts.shared_inner != 0) {
    add_feed_forward(builder, fmt::format("{}.shared_expert", kMlp), Part::kSharedExpert, hidden, experts.shared_inner,
                     model.style);
    builder.matrix(fmt::format("{}.shared_expert_gate", kMlp), Part::kRouter, 1, hidden);
  }
  builder.share(experts.top_k, experts.count);
  add_feed_forward(builder, fmt::format("{}.experts.*", kMlp), Part::kExperts, hidden, experts.inner, model.style,
                   experts.count);
  builder.share(1, 1);
  add_experts_width(builder, hidden, experts);
}

Result<Architecture> qwen_moe(const Fields& fields, const QwenMoe& model) {
  const std::vector<bool> sparse = AXON_TRY(sparse_layers(fields, model.sizes.layers));
  const bool some_dense = std::find(sparse.begin(), sparse.end(), false) != sparse.end();
  const std::uint64_t inner = some_dense ? AXON_TRY(read_inner(fields)) : 0u;
  Builder builder(model.family, fields);
  for (std::uint64_t i = 0; i < model.sizes.layers; ++i) {
    add_norms(builder, model.sizes, model.style);
    add_attention(builder, model.sizes, model.style.attention, model.windows[i]);
    if (sparse[i]) {
      add_qwen_experts(builder, model);
    } else {
      add_mlp(builder, model.sizes, inner, model.style);
    }
  }
  add_ends(builder, model.sizes, model.style);
  return builder.finish();
}

Result<Architecture> read_qwen2_moe(const Fields& fields) {
  QwenMoe model;
  model.family = "qwen2_moe";
  model.sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 16, .context_max = 32768}));
  model.style.attention.qkv_bias = AXON_TRY(fields.flag_or("qkv_bias", true));
  const std::uint64_t window = AXON_TRY(read_optional_window(fields, 4096));
  const std::uint64_t sliding = AXON_TRY(fields.zero_or_more("max_window_layers", 28));
  model.windows = AXON_TRY(
      read_windows(fields, model.sizes.layers, window, [&](std::uint64_t i) { return i % 2 == 0 && i < sliding; }));
  model.experts = AXON_TRY(read_experts(fields, {.count = "num_experts",
                                                 .inner = "moe_intermediate_size",
                                                 .default_count = 60,
                                                 .default_top_k = 4,
                                                 .default_inner = 1408}));
  model.experts.shared_inner = AXON_TRY(fields.count_or("shared_expert_intermediate_size", 5632));
  return qwen_moe(fields, model);
}

Result<Architecture> read_qwen3_moe(const Fields& fields) {
  QwenMoe model;
  model.family = "qwen3_moe";
  model.sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 4, .context_max = 32768}));
  model.style.attention.qk_norm = QkNorm::kOneHead;
  model.style.attention.qkv_bias = model.style.attention.out_bias = AXON_TRY(fields.flag_or("attention_bias", false));
  const std::uint64_t window = AXON_TRY(read_optional_window(fields, 4096));
  model.windows.assign(model.sizes.layers, window);
  const std::string_view count = fields.has("num_experts") ? "num_experts" : "num_local_experts";  // the newer name
  model.experts = AXON_TRY(read_experts(fields, {.count = count,
                                                 .inner = "moe_intermediate_size",
                                                 .default_count = 128,
                                                 .default_top_k = 8,
                                                 .default_inner = 768}));
  return qwen_moe(fields, model);
}

Result<Architecture> read_granitemoe(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.context_max = 2048}));
  const Experts experts = AXON_TRY(read_experts(
      fields, {.count = "num_local_experts", .inner = "intermediate_size", .default_count = 8, .default_top_k = 2}));
  DenseStyle style;
  style.attention.qkv_bias = style.attention.out_bias = AXON_TRY(fields.flag_or("attention_bias", false));
  Builder builder("granitemoe", fields);
  for (std::uint64_t i = 0; i < sizes.layers; ++i) {
    add_norms(builder, sizes, style);
    add_attention(builder, sizes, style.attention, 0);
    builder.matrix("layers.*.block_sparse_moe.router.layer", Part::kRouter, experts.count, sizes.hidden_size);
    builder.share(experts.top_k, experts.count);
    builder.matrix("layers.*.block_sparse_moe.input_linear", Part::kExperts, 2 * experts.inner, sizes.hidden_size,
                   experts.count);
    builder.matrix("layers.*.block_sparse_moe.output_linear", Part::kExperts, sizes.hidden_size, experts.inner,
                   experts.count);
    builder.share(1, 1);
  }
  add_experts_width(builder, sizes.hidden_size, experts);
  add_ends(builder, sizes, style);
  return builder.finish();
}

// The published files hold the experts' matrices in MXFP4 and everything else, biases and router too, in bf16.
Result<Architecture> read_gpt_oss(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 8, .head_dim = 64, .context_max = 131072}));
  const std::uint64_t window = AXON_TRY(read_window(fields, 128));
  const std::vector<std::uint64_t> windows =
      AXON_TRY(read_windows(fields, sizes.layers, window, [](std::uint64_t i) { return i % 2 == 0; }));
  const Experts experts = AXON_TRY(read_experts(
      fields, {.count = "num_local_experts", .inner = "intermediate_size", .default_count = 128, .default_top_k = 4}));
  DenseStyle style;
  style.attention.qkv_bias = style.attention.out_bias = AXON_TRY(fields.flag_or("attention_bias", true));
  style.attention.sinks = true;
  Builder builder("gpt_oss", fields);
  for (const std::uint64_t reach : windows) {
    add_norms(builder, sizes, style);
    add_attention(builder, sizes, style.attention, reach);
    builder.matrix("layers.*.mlp.router", Part::kRouter, experts.count, sizes.hidden_size, 1, true);
    builder.share(experts.top_k, experts.count);
    builder.matrix("layers.*.mlp.experts.*.gate_up_proj", Part::kExperts, 2 * experts.inner, sizes.hidden_size,
                   experts.count, true);
    builder.matrix("layers.*.mlp.experts.*.down_proj", Part::kExperts, sizes.hidden_size, experts.inner, experts.count,
                   true);
    builder.share(1, 1);
  }
  add_experts_width(builder, sizes.hidden_size, experts);
  add_ends(builder, sizes, style);
  return builder.finish();
}

}  // namespace

std::vector<Family> moe_families() {
  return {{"mixtral", read_mixtral},
          {"qwen2_moe", read_qwen2_moe},
          {"qwen3_moe", read_qwen3_moe},
          {"granitemoe", read_granitemoe},
          {"gpt_oss", read_gpt_oss}};
}

}  // namespace axon
