// RWKV-7 "Goose" (arXiv 2503.14456) as flash-linear-attention publishes it: fla-hub/rwkv7-*, RWKV/RWKV7-Goose-*.

#include <algorithm>

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

struct Ranks {
  std::uint64_t decay = 0, gate = 0, rate = 0, value = 0;
};

// Absent they would have defaults, null ones by the width: both are read as absent here, so that they have to be said.
Result<Ranks> read_ranks(const Fields& fields) {
  Ranks out;
  out.decay = AXON_TRY(fields.count("decay_low_rank_dim"));
  out.gate = AXON_TRY(fields.count("gate_low_rank_dim"));
  out.rate = AXON_TRY(fields.count("a_low_rank_dim"));
  out.value = AXON_TRY(fields.count("v_low_rank_dim"));
  return out;
}

struct Goose {
  Body body;
  Ranks ranks;
  std::uint64_t head_dim = 64, inner = 0;
  bool norm_bias = true, norm_first = true;
};

// Attention layers, and values of another width than the keys', are experiments that no published model has.
Status check_plain(const Fields& fields, std::uint64_t hidden) {
  if (fields.has("attn")) {
    return make_error(ErrorCode::kUnsupported, "{}: attn: RWKV-7 with attention layers is not known here",
                      fields.what());
  }
  std::vector<std::uint64_t> sizes;
  const JsonValue* value = fields.find("value_dim");
  if (value != nullptr && value->get<std::uint64_t>() != nullptr) {
    sizes = {*value->get<std::uint64_t>()};
  } else {
    sizes = AXON_TRY(fields.counts("value_dim"));
  }
  if (std::all_of(sizes.begin(), sizes.end(), [&](std::uint64_t size) { return size == hidden; })) return Ok{};
  return make_error(ErrorCode::kUnsupported, "{}: value_dim: only hidden_size ({}) is known here", fields.what(),
                    hidden);
}

Result<Goose> read_goose(const Fields& fields) {
  Goose out;
  out.body = AXON_TRY(read_body(fields, false));
  AXON_TRY(check_plain(fields, out.body.hidden));
  out.ranks = AXON_TRY(read_ranks(fields));
  out.head_dim = AXON_TRY(fields.count_or("head_dim", 64, kMaxHeadSize));
  AXON_TRY(check_divides(fields, "head_dim", out.head_dim, "hidden_size", out.body.hidden));
  const double ratio = AXON_TRY(fields.real_or("hidden_ratio", 4.0));
  const double wanted = ratio * static_cast<double>(out.body.hidden);
  if (ratio > 64 || wanted < 1) return fields.wrong("hidden_ratio", "a number above 0, at most 64");
  const auto inner = static_cast<std::uint64_t>(wanted);
  out.inner = AXON_TRY(fields.count_or("intermediate_size", (inner + 31) / 32 * 32));
  out.norm_bias = AXON_TRY(fields.flag_or("norm_bias", true));
  out.norm_first = AXON_TRY(fields.flag_or("norm_first", true));
  return out;
}

void add_norm(Builder& builder, const Goose& model, std::string_view name, std::uint64_t count) {
  builder.vector(fmt::format("{}.weight", name), Part::kNorm, model.body.hidden, count);
  if (model.norm_bias) builder.vector(fmt::format("{}.bias", name), Part::kNorm, model.body.hidden, count);
}

// hidden -> rank -> hidden, as two linear layers.
void add_narrow(Builder& builder, const Goose& model, std::string_view name, std::uint64_t rank, std::uint64_t count,
                bool bias) {
  const std::uint64_t hidden = model.body.hidden;
  builder.matrix(fmt::format("layers.*.attn.{}.lora.0", name), Part::kRecurrent, rank, hidden, count);
  builder.matrix(fmt::format("layers.*.attn.{}.lora.2", name), Part::kRecurrent, hidden, rank, count, bias);
}

void add_time_mixing(Builder& builder, const Goose& model) {
  const std::uint64_t hidden = model.body.hidden, layers = model.body.layers;
  for (const std::string_view name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a"}) {
    builder.vector(fmt::format("layers.*.attn.{}", name), Part::kRecurrent, hidden, layers);
  }
  builder.tensor("layers.*.attn.r_k", Part::kRecurrent, hidden / model.head_dim, model.head_dim, layers);
  for (const std::string_view name : {"r_proj", "k_proj", "v_proj", "o_proj"}) {
    builder.matrix(fmt::format("layers.*.attn.{}", name), Part::kRecurrent, hidden, hidden, layers);
  }
  add_narrow(builder, model, "w_lora", model.ranks.decay, layers, true);
  add_narrow(builder, model, "v_lora", model.ranks.value, layers - 1,
             true);  // the first layer's values are the ones mixed in
  add_narrow(builder, model, "a_lora", model.ranks.rate, layers, true);
  add_narrow(builder, model, "g_lora", model.ranks.gate, layers, false);
  builder.vector("layers.*.attn.g_norm.weight", Part::kNorm, hidden, layers);
  builder.vector("layers.*.attn.g_norm.bias", Part::kNorm, hidden, layers);
  // r, w, k, v, a and g, the values of the first layer, the shifted input, the output.
  builder.width(2 * hidden + 6 * hidden + hidden + hidden + hidden);
}

}  // namespace

Result<Architecture> read_rwkv7(const Fields& fields) {
  const Goose model = AXON_TRY(read_goose(fields));
  const Body& body = model.body;
  Builder builder("rwkv7", fields);
  add_ends(builder, body, {.embedding = "embeddings", .norm = "norm", .head = "lm_head"}, model.norm_bias);
  if (model.norm_first) add_norm(builder, model, "layers.0.pre_norm", 1);
  add_norm(builder, model, "layers.*.attn_norm", body.layers);
  add_norm(builder, model, "layers.*.ffn_norm", body.layers);
  add_time_mixing(builder, model);
  builder.vector("layers.*.ffn.x_k", Part::kFeedForward, body.hidden, body.layers);
  builder.matrix("layers.*.ffn.key", Part::kFeedForward, model.inner, body.hidden, body.layers);
  builder.matrix("layers.*.ffn.value", Part::kFeedForward, body.hidden, model.inner, body.layers);
  builder.width(2 * body.hidden + model.inner);
  // A matrix of head_dim x head_dim for each head; the last inputs of both mixings.
  const LayerMemory memory{.state_values = body.hidden * model.head_dim, .conv_values = 2 * body.hidden};
  for (std::uint64_t i = 0; i < body.layers; ++i) builder.layer({"rwkv", memory});
  return builder.finish();
}

}  // namespace axon
