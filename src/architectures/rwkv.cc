// RWKV versions 4 to 7 as published for Hugging Face: version 4 in transformers (RwkvModel), 5 and 6 with the code that
// RWKV/rwkv-5-world-* and RWKV/rwkv-6-world-* bring, 7 in flash-linear-attention (RWKV7Model). The papers' own formulas
// for the number of parameters (arXiv 2305.13048, 2404.05892, 2503.14456) are in the test.

#include <algorithm>

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

struct Rwkv {
  Body body;
  std::uint64_t attention = 0;  // width of the time mixing: the model's own but for experiments
  std::uint64_t head_size = 64;
  std::uint64_t inner = 0;                                       // of the channel mixing
  std::uint64_t state() const { return attention * head_size; }  // heads x head_size x head_size
};

void add_layer_norm(Builder& builder, std::string_view name, std::uint64_t size, std::uint64_t count) {
  builder.vector(fmt::format("{}.weight", name), Part::kNorm, size, count);
  builder.vector(fmt::format("{}.bias", name), Part::kNorm, size, count);
}

void add_vectors(Builder& builder, std::string_view block, Part part, std::initializer_list<std::string_view> names,
                 std::uint64_t size, std::uint64_t count) {
  for (const std::string_view name : names) builder.vector(fmt::format("{}.{}", block, name), part, size, count);
}

void add_projections(Builder& builder, const Rwkv& model, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    builder.matrix(fmt::format("blocks.*.attention.{}", name), Part::kRecurrent, model.attention, model.body.hidden,
                   model.body.layers);
  }
  builder.matrix("blocks.*.attention.output", Part::kRecurrent, model.body.hidden, model.attention, model.body.layers);
}

// The channel mixing of versions 4 to 6, whose output a receptance gates.
void add_channel_mixing(Builder& builder, const Rwkv& model, std::initializer_list<std::string_view> mixes) {
  const Body& body = model.body;
  add_vectors(builder, "blocks.*.feed_forward", Part::kFeedForward, mixes, body.hidden, body.layers);
  builder.matrix("blocks.*.feed_forward.key", Part::kFeedForward, model.inner, body.hidden, body.layers);
  builder.matrix("blocks.*.feed_forward.receptance", Part::kFeedForward, body.hidden, body.hidden, body.layers);
  builder.matrix("blocks.*.feed_forward.value", Part::kFeedForward, body.hidden, model.inner, body.layers);
  builder.width(2 * body.hidden + model.inner + body.hidden);
}

// `projected` vectors of the time mixing's width are alive at once, beside the shifted input and the output.
Result<Architecture> finish(Builder& builder, const Rwkv& model, std::uint64_t projected, LayerMemory memory) {
  const Body& body = model.body;
  add_ends(builder, body, {.embedding = "embeddings", .norm = "ln_out", .head = "head"}, true);
  add_layer_norm(builder, "blocks.0.pre_ln", body.hidden, 1);
  add_layer_norm(builder, "blocks.*.ln1", body.hidden, body.layers);
  add_layer_norm(builder, "blocks.*.ln2", body.hidden, body.layers);
  builder.width(2 * body.hidden + projected * model.attention + body.hidden + model.attention);
  for (std::uint64_t i = 0; i < body.layers; ++i) builder.layer({"rwkv", memory});
  return builder.finish();
}

// The last input of the time mixing and of the channel mixing.
LayerMemory matrix_memory(const Rwkv& model) {
  return {.state_values = model.state(), .conv_values = 2 * model.body.hidden};
}

Result<Rwkv> read_sizes(const Fields& fields, std::uint64_t default_inner) {
  Rwkv out;
  out.body = AXON_TRY(read_body(fields, false));
  const std::uint64_t hidden = out.body.hidden;
  out.attention = AXON_TRY(fields.count_or("attention_hidden_size", hidden));
  out.inner = AXON_TRY(fields.count_or("intermediate_size", default_inner));
  return out;
}

// Versions 5 and 6 round 3.5 times the width down to a multiple of 32.
Result<Rwkv> read_headed_sizes(const Fields& fields) {
  const std::uint64_t hidden = AXON_TRY(fields.count("hidden_size"));
  Rwkv out = AXON_TRY(read_sizes(fields, std::max<std::uint64_t>(hidden * 7 / 2 / 32 * 32, 32)));
  out.head_size = AXON_TRY(fields.count_or("head_size", 64, kMaxHeadSize));
  AXON_TRY(check_divides(fields, "head_size", out.head_size, "attention_hidden_size", out.attention));
  if (out.attention != hidden) {
    return make_error(ErrorCode::kInvalidArgument, "{}: attention_hidden_size must be hidden_size ({}), but is {}",
                      fields.what(), hidden, out.attention);
  }
  return out;
}

}  // namespace

Result<Architecture> read_rwkv4(const Fields& fields) {
  const std::uint64_t hidden = AXON_TRY(fields.count("hidden_size"));
  const Rwkv model = AXON_TRY(read_sizes(fields, 4 * hidden));
  Builder builder("rwkv", fields);
  builder.model().context_max = AXON_TRY(fields.zero_or_more("context_length", 1024, std::uint64_t{1} << 40));
  const std::uint64_t layers = model.body.layers;
  add_vectors(builder, "blocks.*.attention", Part::kRecurrent, {"time_decay", "time_first"}, model.attention, layers);
  add_vectors(builder, "blocks.*.attention", Part::kRecurrent,
              {"time_mix_key", "time_mix_value", "time_mix_receptance"}, hidden, layers);
  add_projections(builder, model, {"key", "value", "receptance"});
  add_channel_mixing(builder, model, {"time_mix_key", "time_mix_receptance"});
  // Numerator, denominator and the running maximum of the exponents.
  return finish(builder, model, 3, {.state_values = 3 * model.attention, .conv_values = 2 * hidden});
}

Result<Architecture> read_rwkv5(const Fields& fields) {
  const Rwkv model = AXON_TRY(read_headed_sizes(fields));
  Builder builder("rwkv5", fields);
  const std::uint64_t layers = model.body.layers, hidden = model.body.hidden;
  builder.tensor("blocks.*.attention.time_decay", Part::kRecurrent, model.attention / model.head_size, model.head_size,
                 layers);
  builder.tensor("blocks.*.attention.time_faaaa", Part::kRecurrent, model.attention / model.head_size, model.head_size,
                 layers);
  add_vectors(builder, "blocks.*.attention", Part::kRecurrent,
              {"time_mix_gate", "time_mix_key", "time_mix_value", "time_mix_receptance"}, hidden, layers);
  add_projections(builder, model, {"key", "value", "receptance", "gate"});
  add_layer_norm(builder, "blocks.*.attention.ln_x", hidden, layers);
  add_channel_mixing(builder, model, {"time_mix_key", "time_mix_receptance"});
  return finish(builder, model, 4, matrix_memory(model));
}

Result<Architecture> read_rwkv6(const Fields& fields) {
  if (fields.has("proj_low_rank_dim") || fields.has("expand_k")) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: proj_low_rank_dim or expand_k: flash-linear-attention's own RWKV-6 "
                      "has other shapes than the published models, and is not known here",
                      fields.what());
  }
  const Rwkv model = AXON_TRY(read_headed_sizes(fields));
  Builder builder("rwkv6", fields);
  const std::uint64_t layers = model.body.layers, hidden = model.body.hidden;
  // No field says how narrow these are: the code that comes with the models asks for a width of 4096.
  const std::uint64_t mix_rank = hidden == 4096 ? 64 : 32, decay_rank = hidden == 4096 ? 128 : 64;
  add_vectors(builder, "blocks.*.attention", Part::kRecurrent,
              {"time_maa_x", "time_maa_w", "time_maa_k", "time_maa_v", "time_maa_r", "time_maa_g"}, hidden, layers);
  // Parameters beside the linear layers: weight formats leave them alone.
  builder.tensor("blocks.*.attention.time_maa_w1", Part::kRecurrent, hidden, 5 * mix_rank, layers);
  builder.tensor("blocks.*.attention.time_maa_w2", Part::kRecurrent, 5 * mix_rank, hidden, layers);
  builder.vector("blocks.*.attention.time_decay", Part::kRecurrent, model.attention, layers);
  builder.tensor("blocks.*.attention.time_decay_w1", Part::kRecurrent, hidden, decay_rank, layers);
  builder.tensor("blocks.*.attention.time_decay_w2", Part::kRecurrent, decay_rank, model.attention, layers);
  builder.tensor("blocks.*.attention.time_faaaa", Part::kRecurrent, model.attention / model.head_size, model.head_size,
                 layers);
  add_projections(builder, model, {"receptance", "key", "value", "gate"});
  add_layer_norm(builder, "blocks.*.attention.ln_x", hidden, layers);
  add_channel_mixing(builder, model, {"time_maa_k", "time_maa_r"});
  return finish(builder, model, 5, matrix_memory(model));
}

}  // namespace axon
