#include "architectures/transformer_parts.h"

namespace axon {
namespace {

// Gemma 2 and 3 norm both what enters a part and what leaves it.
std::vector<std::string_view> sandwich_norms() {
  return {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"};
}

Result<DenseStyle> gemma_style(const Fields& fields) {
  DenseStyle style;
  style.attention.qkv_bias = style.attention.out_bias = AXON_TRY(fields.flag_or("attention_bias", false));
  return style;
}

Result<Architecture> read_gemma(const Fields& fields) {
  const Decoder sizes =
      AXON_TRY(read_decoder(fields, {.kv_heads = 16, .head_dim = 256, .context_max = 8192, .tied = true}));
  const DenseStyle style = AXON_TRY(gemma_style(fields));
  return dense_model("gemma", fields, sizes, style, std::vector<std::uint64_t>(sizes.layers, 0));
}

Result<Architecture> read_gemma2(const Fields& fields) {
  const Decoder sizes =
      AXON_TRY(read_decoder(fields, {.kv_heads = 4, .head_dim = 256, .context_max = 8192, .tied = true}));
  DenseStyle style = AXON_TRY(gemma_style(fields));
  style.norms = sandwich_norms();
  const std::uint64_t window = AXON_TRY(read_window(fields, 4096));
  const std::vector<std::uint64_t> windows =
      AXON_TRY(read_windows(fields, sizes.layers, window, [](std::uint64_t i) { return i % 2 == 0; }));
  return dense_model("gemma2", fields, sizes, style, windows);
}

// Published configs leave out what Gemma3TextConfig has as its default: the 4B lacks heads and vocab_size.
constexpr DecoderDefaults kGemma3Text = {.vocab_size = 262208,
                                         .hidden_size = 2304,
                                         .layers = 26,
                                         .heads = 8,
                                         .kv_heads = 4,
                                         .head_dim = 256,
                                         .context_max = 131072,
                                         .tied = true};

Status add_gemma3_text(Builder& builder, const Fields& fields) {
  const Decoder sizes = AXON_TRY(read_decoder(fields, kGemma3Text));
  const std::uint64_t inner = AXON_TRY(read_inner(fields, 9216));
  DenseStyle style = AXON_TRY(gemma_style(fields));
  style.norms = sandwich_norms();
  style.attention.qk_norm = QkNorm::kOneHead;
  const std::uint64_t window = AXON_TRY(read_window(fields, 4096));
  const std::string_view key =  // the second is how newer versions of the class save it
      fields.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const std::uint64_t pattern = AXON_TRY(fields.count_or(key, 6));
  const std::vector<std::uint64_t> windows =
      AXON_TRY(read_windows(fields, sizes.layers, window, [&](std::uint64_t i) { return (i + 1) % pattern != 0; }));
  for (const std::uint64_t reach : windows) {
    add_norms(builder, sizes, style);
    add_attention(builder, sizes, style.attention, reach);
    add_mlp(builder, sizes, inner, style);
  }
  add_ends(builder, sizes, style);
  return Ok{};
}

struct Siglip {
  std::uint64_t hidden = 0, inner = 0, layers = 0, channels = 0, patch = 0, positions = 0;
  bool pooling_head = true;
};

Result<Siglip> read_siglip(const Fields& fields) {
  Siglip sizes;
  sizes.hidden = AXON_TRY(fields.count_or("hidden_size", 768));
  sizes.inner = AXON_TRY(fields.count_or("intermediate_size", 3072));
  sizes.layers = AXON_TRY(fields.count_or("num_hidden_layers", 12, Fields::kMaxLayers));
  sizes.channels = AXON_TRY(fields.count_or("num_channels", 3, 1024));
  sizes.patch = AXON_TRY(fields.count_or("patch_size", 16, 4096));
  sizes.pooling_head = AXON_TRY(fields.flag_or("vision_use_head", true));
  const std::uint64_t image = AXON_TRY(fields.count_or("image_size", 224, 65536));
  if (image < sizes.patch) return fields.wrong("image_size", fmt::format("at least patch_size ({})", sizes.patch));
  const std::uint64_t side = image / sizes.patch;
  sizes.positions = side * side;
  return sizes;
}

void add_layer_norm(Builder& builder, std::string_view name, std::uint64_t size, std::uint64_t count) {
  builder.vector(fmt::format("vision_tower.{}.weight", name), Part::kNorm, size, count);
  builder.vector(fmt::format("vision_tower.{}.bias", name), Part::kNorm, size, count);
}

void add_siglip_block(Builder& builder, const Siglip& sizes) {
  const auto project = [&](std::string_view name, Part part, std::uint64_t rows, std::uint64_t cols) {
    builder.matrix(fmt::format("vision_tower.layers.*.{}", name), part, rows, cols, sizes.layers, true);
  };
  for (const std::string_view name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
    project(fmt::format("self_attn.{}", name), Part::kAttention, sizes.hidden, sizes.hidden);
  }
  project("mlp.fc1", Part::kFeedForward, sizes.inner, sizes.hidden);
  project("mlp.fc2", Part::kFeedForward, sizes.hidden, sizes.inner);
  add_layer_norm(builder, "layers.*.layer_norm1", sizes.hidden, sizes.layers);
  add_layer_norm(builder, "layers.*.layer_norm2", sizes.hidden, sizes.layers);
}

// A learned query that attends to all patches. Gemma 3's towers do without, but it is the class's default.
void add_siglip_pooling(Builder& builder, const Siglip& sizes) {
  builder.vector("vision_tower.head.probe", Part::kAttention, sizes.hidden);
  builder.matrix("vision_tower.head.attention.in_proj", Part::kAttention, 3 * sizes.hidden, sizes.hidden, 1, true);
  builder.matrix("vision_tower.head.attention.out_proj", Part::kAttention, sizes.hidden, sizes.hidden, 1, true);
  builder.matrix("vision_tower.head.mlp.fc1", Part::kFeedForward, sizes.inner, sizes.hidden, 1, true);
  builder.matrix("vision_tower.head.mlp.fc2", Part::kFeedForward, sizes.hidden, sizes.inner, 1, true);
  add_layer_norm(builder, "head.layernorm", sizes.hidden, 1);
}

// The tower and the projector. They keep nothing of a sequence, and no text token touches them.
void add_vision(Builder& builder, const Siglip& sizes) {
  builder.share(0, 1);
  builder.tensor("vision_tower.embeddings.patch_embedding.weight", Part::kEmbedding, sizes.hidden,
                 sizes.channels * sizes.patch * sizes.patch);
  builder.vector("vision_tower.embeddings.patch_embedding.bias", Part::kEmbedding, sizes.hidden);
  builder.matrix("vision_tower.embeddings.position_embedding", Part::kEmbedding, sizes.positions, sizes.hidden);
  add_siglip_block(builder, sizes);
  add_layer_norm(builder, "post_layernorm", sizes.hidden, 1);
  if (sizes.pooling_head) add_siglip_pooling(builder, sizes);
  builder.matrix("multi_modal_projector.mm_input_projection", Part::kFeedForward, builder.model().hidden_size,
                 sizes.hidden);
  builder.vector("multi_modal_projector.mm_soft_emb_norm.weight", Part::kNorm, sizes.hidden);
  builder.share(1, 1);
}

Result<Architecture> read_gemma3_text(const Fields& fields) {
  Builder builder("gemma3_text", fields);
  AXON_TRY(add_gemma3_text(builder, fields));
  return builder.finish();
}

Result<Architecture> read_gemma3(const Fields& fields) {
  static const JsonValue kAllDefaults{JsonValue::Object{}};
  const auto nested = [&](std::string_view key) -> Result<const JsonValue*> {
    const JsonValue* value = fields.has(key) ? fields.find(key) : &kAllDefaults;
    if (value->get<JsonValue::Object>() == nullptr) return fields.wrong(key, "an object");
    return value;
  };
  const JsonValue* text = AXON_TRY(nested("text_config"));
  const JsonValue* vision = AXON_TRY(nested("vision_config"));
  if (text == &kAllDefaults) return fields.wrong("text_config", "an object");  // no published model goes by it
  Builder builder("gemma3", fields);
  AXON_TRY(add_gemma3_text(builder, Fields(*text, fmt::format("{}: text_config", fields.what()))));
  const Siglip tower = AXON_TRY(read_siglip(Fields(*vision, fmt::format("{}: vision_config", fields.what()))));
  add_vision(builder, tower);
  return builder.finish();
}

}  // namespace

std::vector<Family> gemma_families() {
  return {{"gemma", read_gemma}, {"gemma2", read_gemma2}, {"gemma3", read_gemma3}, {"gemma3_text", read_gemma3_text}};
}

}  // namespace axon
