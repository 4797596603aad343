#include "architectures/transformer_parts.h"

#include <algorithm>

namespace axon {
namespace {

// Positions are never multiplied with each other: far more than for sizes is harmless.
constexpr std::uint64_t kMaxContext = std::uint64_t{1} << 32;

Result<std::uint64_t> required_or(const Fields& fields, std::string_view key, std::uint64_t otherwise,
                                  std::uint64_t max = Fields::kMax) {
  return otherwise == 0 ? fields.count(key, max) : fields.count_or(key, otherwise, max);
}

Result<std::uint64_t> read_kv_heads(const Fields& fields, std::uint64_t heads, std::uint64_t otherwise) {
  constexpr std::string_view kKey = "num_key_value_heads";
  const bool as_heads = otherwise == 0 || fields.is_null(kKey);
  const std::uint64_t kv_heads = AXON_TRY(fields.count_or(kKey, as_heads ? heads : otherwise));
  if (heads % kv_heads != 0) {
    return fields.wrong(kKey, fmt::format("a divisor of num_attention_heads ({})", heads));
  }
  return kv_heads;
}

Result<std::uint64_t> read_head_dim(const Fields& fields, const Decoder& sizes, std::uint64_t otherwise) {
  if (fields.has("head_dim")) return fields.count("head_dim");
  if (otherwise != 0) return otherwise;
  if (sizes.hidden_size % sizes.heads != 0) {
    return fields.wrong("hidden_size",
                        fmt::format("a multiple of num_attention_heads ({}), as there is no head_dim", sizes.heads));
  }
  return sizes.hidden_size / sizes.heads;
}

void add_norm(Builder& builder, std::string_view name, std::uint64_t size, bool bias) {
  builder.vector(fmt::format("{}.weight", name), Part::kNorm, size);
  if (bias) builder.vector(fmt::format("{}.bias", name), Part::kNorm, size);
}

void add_qk_norms(Builder& builder, const Decoder& sizes, const AttentionStyle& style) {
  if (style.qk_norm == QkNorm::kNone) return;
  const bool all = style.qk_norm == QkNorm::kAllHeads;
  const auto name = [&](char of) { return fmt::format("layers.*.self_attn.{}_{}", of, style.norm_name); };
  add_norm(builder, name('q'), sizes.head_dim * (all ? sizes.heads : 1), style.qk_norm_bias);
  add_norm(builder, name('k'), sizes.head_dim * (all ? sizes.kv_heads : 1), style.qk_norm_bias);
}

}  // namespace

Result<Decoder> read_decoder(const Fields& fields, const DecoderDefaults& defaults) {
  Decoder sizes;
  sizes.vocab_size = AXON_TRY(required_or(fields, "vocab_size", defaults.vocab_size));
  sizes.hidden_size = AXON_TRY(required_or(fields, "hidden_size", defaults.hidden_size));
  sizes.layers = AXON_TRY(required_or(fields, "num_hidden_layers", defaults.layers, Fields::kMaxLayers));
  sizes.heads = AXON_TRY(required_or(fields, "num_attention_heads", defaults.heads));
  sizes.kv_heads = AXON_TRY(read_kv_heads(fields, sizes.heads, defaults.kv_heads));
  sizes.head_dim = AXON_TRY(read_head_dim(fields, sizes, defaults.head_dim));
  sizes.context_max = AXON_TRY(fields.count_or("max_position_embeddings", defaults.context_max, kMaxContext));
  sizes.tied = AXON_TRY(fields.flag_or("tie_word_embeddings", defaults.tied));
  return sizes;
}

Result<std::uint64_t> read_inner(const Fields& fields, std::uint64_t otherwise) {
  return required_or(fields, "intermediate_size", otherwise);
}

Result<std::vector<std::uint64_t>> read_windows(const Fields& fields, std::uint64_t layers, std::uint64_t window,
                                                const std::function<bool(std::uint64_t)>& slides) {
  std::vector<std::uint64_t> windows(layers, 0);
  const std::vector<std::string> types = AXON_TRY(fields.texts("layer_types"));
  if (!fields.has("layer_types")) {
    for (std::uint64_t i = 0; i < layers; ++i) windows[i] = slides(i) ? window : 0;
    return windows;
  }
  if (types.size() != layers) {
    return fields.wrong("layer_types", fmt::format("a list of num_hidden_layers ({}) texts", layers));
  }
  for (std::uint64_t i = 0; i < layers; ++i) {
    if (types[i] == "full_attention") continue;
    if (types[i] != "sliding_attention") {
      return make_error(ErrorCode::kUnsupported,
                        "{}: layer_types[{}] must be full_attention or sliding_attention, "
                        "but is {}",
                        fields.what(), i, types[i].substr(0, 60));
    }
    if (window == 0) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: layer_types[{}] is sliding_attention, but there is no "
                        "sliding_window",
                        fields.what(), i);
    }
    windows[i] = window;
  }
  return windows;
}

Result<std::uint64_t> read_window(const Fields& fields, std::uint64_t otherwise) {
  if (fields.is_null("sliding_window")) return std::uint64_t{0};
  return fields.count_or("sliding_window", otherwise, kMaxContext);
}

Result<std::uint64_t> read_optional_window(const Fields& fields, std::uint64_t otherwise) {
  const bool use = AXON_TRY(fields.flag_or("use_sliding_window", false));
  if (!use) return std::uint64_t{0};
  return read_window(fields, otherwise);
}

void add_ends(Builder& builder, const Decoder& sizes, const DenseStyle& style) {
  Architecture& model = builder.model();
  model.vocab_size = sizes.vocab_size;
  model.hidden_size = sizes.hidden_size;
  model.context_max = sizes.context_max;
  model.tied_head = sizes.tied;
  builder.matrix("embed_tokens", Part::kEmbedding, sizes.vocab_size, sizes.hidden_size);
  add_norm(builder, style.final_norm, sizes.hidden_size, style.norm_bias);
  if (!sizes.tied) builder.matrix("lm_head", Part::kHead, sizes.vocab_size, sizes.hidden_size, 1, style.head_bias);
}

void add_attention(Builder& builder, const Decoder& sizes, const AttentionStyle& style, std::uint64_t window) {
  const std::uint64_t queries = sizes.heads * sizes.head_dim;
  const std::uint64_t keys = sizes.kv_heads * sizes.head_dim;
  const auto project = [&](std::string_view name, std::uint64_t rows, std::uint64_t cols, bool bias) {
    builder.matrix(fmt::format("layers.*.self_attn.{}", name), Part::kAttention, rows, cols, 1, bias);
  };
  if (style.fused) {
    project("qkv_proj", queries + 2 * keys, sizes.hidden_size, style.qkv_bias);
  } else {
    project("q_proj", queries, sizes.hidden_size, style.qkv_bias);
    project("k_proj", keys, sizes.hidden_size, style.qkv_bias);
    project("v_proj", keys, sizes.hidden_size, style.qkv_bias);
  }
  project(style.out_name, sizes.hidden_size, queries, style.out_bias);
  if (style.sinks) builder.vector("layers.*.self_attn.sinks", Part::kAttention, sizes.heads);
  add_qk_norms(builder, sizes, style);
  builder.layer(
      {.kind = window == 0 ? "attention" : "sliding attention",
       .memory = {
           .kv_heads = sizes.kv_heads, .key_dim = sizes.head_dim, .value_dim = sizes.head_dim, .window = window}});
  builder.width(2 * sizes.hidden_size + queries + 2 * keys + queries);
}

void add_norms(Builder& builder, const Decoder& sizes, const DenseStyle& style) {
  for (const std::string_view norm : style.norms) {
    add_norm(builder, fmt::format("layers.*.{}", norm), sizes.hidden_size, style.norm_bias);
  }
}

void add_feed_forward(Builder& builder, std::string_view name, Part part, std::uint64_t hidden, std::uint64_t inner,
                      const DenseStyle& style, std::uint64_t count) {
  const auto add = [&](std::string_view matrix, std::uint64_t rows, std::uint64_t cols) {
    builder.matrix(fmt::format("{}.{}", name, matrix), part, rows, cols, count, style.mlp_bias);
  };
  switch (style.feed_forward) {
    case FeedForward::kGated:
      add("gate_proj", inner, hidden);
      add("up_proj", inner, hidden);
      return add("down_proj", hidden, inner);
    case FeedForward::kGatedFused: add("gate_up_proj", 2 * inner, hidden); return add("down_proj", hidden, inner);
    case FeedForward::kPlain: add(style.up_name, inner, hidden); return add(style.down_name, hidden, inner);
  }
}

void add_mlp(Builder& builder, const Decoder& sizes, std::uint64_t inner, const DenseStyle& style) {
  add_feed_forward(builder, "layers.*.mlp", Part::kFeedForward, sizes.hidden_size, inner, style);
  builder.width(2 * sizes.hidden_size + inner * (style.feed_forward == FeedForward::kPlain ? 1 : 2));
}

Result<Architecture> dense_model(std::string_view family, const Fields& fields, const Decoder& sizes,
                                 const DenseStyle& style, const std::vector<std::uint64_t>& windows) {
  const std::uint64_t inner = AXON_TRY(read_inner(fields));
  Builder builder(family, fields);
  for (const std::uint64_t window : windows) {
    add_norms(builder, sizes, style);
    add_attention(builder, sizes, style.attention, window);
    add_mlp(builder, sizes, inner, style);
  }
  add_ends(builder, sizes, style);
  return builder.finish();
}

Result<Experts> read_experts(const Fields& fields, const ExpertFields& names) {
  constexpr std::string_view kTopK = "num_experts_per_tok";
  Experts experts;
  experts.count = AXON_TRY(required_or(fields, names.count, names.default_count));
  experts.top_k = AXON_TRY(required_or(fields, kTopK, names.default_top_k));
  experts.inner = AXON_TRY(required_or(fields, names.inner, names.default_inner));
  if (experts.top_k > experts.count) {
    return fields.wrong(kTopK, fmt::format("a number from 1 to {} ({})", names.count, experts.count));
  }
  return experts;
}

void add_experts_width(Builder& builder, std::uint64_t hidden, const Experts& experts) {
  builder.width(2 * hidden + 2 * experts.top_k * experts.inner + 2 * experts.shared_inner + experts.count);
}

}  // namespace axon
