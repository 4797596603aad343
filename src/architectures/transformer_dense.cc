#include "architectures/transformer_parts.h"

namespace axon {
namespace {

// Every family here that reads attention_bias puts it on all four projections.
Result<DenseStyle> llama_style(const Fields& fields) {
  DenseStyle style;
  style.attention.qkv_bias = style.attention.out_bias = AXON_TRY(fields.flag_or("attention_bias", false));
  return style;
}

Result<Architecture> with_one_window(std::string_view family, const Fields& fields, const Decoder& sizes,
                                     const DenseStyle& style, std::uint64_t window) {
  return dense_model(family, fields, sizes, style, std::vector<std::uint64_t>(sizes.layers, window));
}

// llama and granite: no windows, biases as the config says.
Result<Architecture> read_plain(std::string_view family, const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.context_max = 2048}));
  DenseStyle style = AXON_TRY(llama_style(fields));
  style.mlp_bias = AXON_TRY(fields.flag_or("mlp_bias", false));
  return with_one_window(family, fields, sizes, style, 0);
}

Result<Architecture> read_mistral(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 8, .context_max = 131072}));
  const std::uint64_t window = AXON_TRY(read_window(fields, 4096));
  return with_one_window("mistral", fields, sizes, {}, window);
}

// Qwen's windows start where the first max_window_layers end.
Result<std::vector<std::uint64_t>> qwen_windows(const Fields& fields, std::uint64_t layers) {
  const std::uint64_t window = AXON_TRY(read_optional_window(fields, 4096));
  const std::uint64_t full = AXON_TRY(fields.zero_or_more("max_window_layers", 28));
  return read_windows(fields, layers, window, [&](std::uint64_t i) { return i >= full; });
}

Result<Architecture> read_qwen2(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 32, .context_max = 32768}));
  const std::vector<std::uint64_t> windows = AXON_TRY(qwen_windows(fields, sizes.layers));
  DenseStyle style;
  style.attention.qkv_bias = true;
  return dense_model("qwen2", fields, sizes, style, windows);
}

Result<Architecture> read_qwen3(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 32, .head_dim = 128, .context_max = 32768}));
  const std::vector<std::uint64_t> windows = AXON_TRY(qwen_windows(fields, sizes.layers));
  DenseStyle style = AXON_TRY(llama_style(fields));
  style.attention.qk_norm = QkNorm::kOneHead;
  return dense_model("qwen3", fields, sizes, style, windows);
}

Result<Architecture> read_phi3(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.context_max = 4096}));
  const std::uint64_t window = AXON_TRY(read_window(fields, 0));
  DenseStyle style;
  style.attention.fused = true;
  style.feed_forward = FeedForward::kGatedFused;
  return with_one_window("phi3", fields, sizes, style, window);
}

// Phi-1, 1.5 and 2: attention and feed forward read one norm side by side; everything has a bias, the head too.
Result<Architecture> read_phi(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.context_max = 2048}));
  const bool qk_norm = AXON_TRY(fields.flag_or("qk_layernorm", false));
  DenseStyle style;
  style.attention = {.qkv_bias = true,
                     .out_bias = true,
                     .qk_norm = qk_norm ? QkNorm::kOneHead : QkNorm::kNone,
                     .qk_norm_bias = true,
                     .out_name = "dense",
                     .norm_name = "layernorm"};
  style.feed_forward = FeedForward::kPlain;
  style.up_name = "fc1";
  style.down_name = "fc2";
  style.mlp_bias = style.norm_bias = style.head_bias = true;
  style.norms = {"input_layernorm"};
  style.final_norm = "final_layernorm";
  return with_one_window("phi", fields, sizes, style, 0);
}

Result<Architecture> read_starcoder2(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 2, .context_max = 4096, .tied = true}));
  const std::uint64_t window = AXON_TRY(read_window(fields, 0));
  DenseStyle style;
  style.attention.qkv_bias = style.attention.out_bias = style.mlp_bias = AXON_TRY(fields.flag_or("use_bias", true));
  style.feed_forward = FeedForward::kPlain;
  style.up_name = "c_fc";
  style.down_name = "c_proj";
  style.norm_bias = true;
  return with_one_window("starcoder2", fields, sizes, style, window);
}

// OLMo 2 norms what leaves a part instead of what enters it. OLMo 3 adds windows in three layers of four.
Result<Architecture> read_olmo(std::string_view family, const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.context_max = 2048}));
  DenseStyle style = AXON_TRY(llama_style(fields));
  style.attention.qk_norm = QkNorm::kAllHeads;
  style.norms = {"post_attention_layernorm", "post_feedforward_layernorm"};
  if (family == "olmo2") return with_one_window(family, fields, sizes, style, 0);
  const std::uint64_t window = AXON_TRY(read_window(fields, 4096));
  const std::vector<std::uint64_t> windows =
      AXON_TRY(read_windows(fields, sizes.layers, window, [](std::uint64_t i) { return (i + 1) % 4 != 0; }));
  return dense_model(family, fields, sizes, style, windows);
}

// Windows, where they are used, are on the layers without rotary positions: every fourth, or where no_rope_layers has
// 0.
Result<Architecture> read_smollm3(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 4, .context_max = 32768, .tied = true}));
  DenseStyle style = AXON_TRY(llama_style(fields));
  style.mlp_bias = AXON_TRY(fields.flag_or("mlp_bias", false));
  const std::uint64_t window = AXON_TRY(read_optional_window(fields, 0));
  const std::uint64_t interval = AXON_TRY(fields.count_or("no_rope_layer_interval", 4));
  const std::vector<std::uint64_t> rope = AXON_TRY(fields.counts("no_rope_layers"));
  if (fields.has("no_rope_layers") && rope.size() < sizes.layers) {
    return fields.wrong("no_rope_layers", fmt::format("a list of num_hidden_layers ({}) numbers", sizes.layers));
  }
  const std::vector<std::uint64_t> windows = AXON_TRY(read_windows(fields, sizes.layers, window, [&](std::uint64_t i) {
    return rope.empty() ? (i + 1) % interval == 0 : rope[i] == 0;
  }));
  return dense_model("smollm3", fields, sizes, style, windows);
}

Result<Architecture> read_stablelm(const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, {.kv_heads = 32, .context_max = 4096}));
  const bool qk_norm = AXON_TRY(fields.flag_or("qk_layernorm", false));
  const bool parallel = AXON_TRY(fields.flag_or("use_parallel_residual", false));
  DenseStyle style;
  style.attention.qkv_bias = AXON_TRY(fields.flag_or("use_qkv_bias", false));
  style.attention.qk_norm = qk_norm ? QkNorm::kAllHeads : QkNorm::kNone;
  style.attention.norm_name = "layernorm.norms";
  style.norm_bias = true;
  if (parallel) style.norms = {"input_layernorm"};
  return with_one_window("stablelm", fields, sizes, style, 0);
}

// Positions are learned, one row each. Published files also hold the causal masks, which are no parameters.
Result<Architecture> read_gpt2(const Fields& fields) {
  const std::uint64_t vocab = AXON_TRY(fields.count("vocab_size"));
  const std::uint64_t hidden = AXON_TRY(fields.count("n_embd"));
  const std::uint64_t layers = AXON_TRY(fields.count("n_layer", Fields::kMaxLayers));
  const std::uint64_t heads = AXON_TRY(fields.count("n_head"));
  const std::uint64_t positions = AXON_TRY(fields.count_or("n_positions", 1024));
  const std::uint64_t inner = AXON_TRY(fields.count_or("n_inner", 4 * hidden));
  const bool tied = AXON_TRY(fields.flag_or("tie_word_embeddings", true));
  if (hidden % heads != 0) return fields.wrong("n_embd", fmt::format("a multiple of n_head ({})", heads));
  const std::uint64_t head_dim = hidden / heads;
  const Decoder sizes{vocab, hidden, layers, heads, heads, head_dim, positions, tied};
  DenseStyle style;
  style.attention = {.qkv_bias = true, .out_bias = true, .fused = true, .out_name = "c_proj"};
  style.feed_forward = FeedForward::kPlain;
  style.up_name = "c_fc";
  style.down_name = "c_proj";
  style.mlp_bias = style.norm_bias = true;
  style.norms = {"ln_1", "ln_2"};
  style.final_norm = "ln_f";
  Builder builder("gpt2", fields);
  builder.matrix("wpe", Part::kEmbedding, positions, hidden);
  for (std::uint64_t i = 0; i < layers; ++i) {
    add_norms(builder, sizes, style);
    add_attention(builder, sizes, style.attention, 0);
    add_mlp(builder, sizes, inner, style);
  }
  add_ends(builder, sizes, style);
  return builder.finish();
}

}  // namespace

std::vector<Family> dense_families() {
  return {{"llama", [](const Fields& fields) { return read_plain("llama", fields); }},
          {"mistral", read_mistral},
          {"qwen2", read_qwen2},
          {"qwen3", read_qwen3},
          {"phi3", read_phi3},
          {"phi", read_phi},
          {"starcoder2", read_starcoder2},
          {"olmo2", [](const Fields& fields) { return read_olmo("olmo2", fields); }},
          {"olmo3", [](const Fields& fields) { return read_olmo("olmo3", fields); }},
          {"smollm3", read_smollm3},
          {"granite", [](const Fields& fields) { return read_plain("granite", fields); }},
          {"stablelm", read_stablelm},
          {"gpt2", read_gpt2}};
}

}  // namespace axon
