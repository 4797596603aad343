#include "architectures/recurrent_parts.h"

#include <cmath>

namespace axon {

void Mamba::add(Builder& builder, std::string_view name, std::uint64_t count) const {
  const auto at = [&](std::string_view part) { return fmt::format("{}.{}", name, part); };
  builder.matrix(at("in_proj"), Part::kRecurrent, 2 * inner, hidden, count, bias);
  builder.tensor(at("conv1d.weight"), Part::kRecurrent, inner, taps, count);
  if (conv_bias) builder.vector(at("conv1d.bias"), Part::kRecurrent, inner, count);
  builder.matrix(at("x_proj"), Part::kRecurrent, time_rank + 2 * state, inner, count);
  builder.matrix(at("dt_proj"), Part::kRecurrent, inner, time_rank, count, true);
  builder.tensor(at("A_log"), Part::kRecurrent, inner, state, count);
  builder.vector(at("D"), Part::kRecurrent, inner, count);
  builder.matrix(at("out_proj"), Part::kRecurrent, hidden, inner, count, bias);
  if (inner_norms) {
    builder.vector(at("dt_layernorm.weight"), Part::kNorm, time_rank, count);
    builder.vector(at("b_layernorm.weight"), Part::kNorm, state, count);
    builder.vector(at("c_layernorm.weight"), Part::kNorm, state, count);
  }
}

// A convolution of K taps needs the K - 1 inputs before the present one. llama.cpp keeps just these; transformers keeps
// K, the present one among them.
LayerMemory Mamba::memory() const { return {.state_values = inner * state, .conv_values = inner * (taps - 1)}; }

std::uint64_t Mamba::width() const {
  const std::uint64_t projected = 2 * inner + (time_rank + 2 * state) + inner;  // in_proj, x_proj, dt_proj
  return projected + inner + inner;
}

void Mamba2::add(Builder& builder, std::string_view name, std::uint64_t count) const {
  const auto at = [&](std::string_view part) { return fmt::format("{}.{}", name, part); };
  builder.matrix(at("in_proj"), Part::kRecurrent, inner() + convolved() + heads, hidden, count, bias);
  builder.tensor(at("conv1d.weight"), Part::kRecurrent, convolved(), taps, count);
  if (conv_bias) builder.vector(at("conv1d.bias"), Part::kRecurrent, convolved(), count);
  builder.vector(at("dt_bias"), Part::kRecurrent, heads, count);
  builder.vector(at("A_log"), Part::kRecurrent, heads, count);
  builder.vector(at("D"), Part::kRecurrent, heads, count);
  if (gated_norm) builder.vector(at("norm.weight"), Part::kNorm, inner(), count);
  builder.matrix(at("out_proj"), Part::kRecurrent, hidden, inner(), count, out_bias);
}

LayerMemory Mamba2::memory() const {
  return {.state_values = inner() * state, .conv_values = convolved() * (taps - 1)};
}

std::uint64_t Mamba2::width() const { return (inner() + convolved() + heads) + convolved() + inner(); }

void GroupedAttention::add(Builder& builder, std::string_view name, std::uint64_t count) const {
  const auto at = [&](std::string_view part) { return fmt::format("{}.{}", name, part); };
  const std::uint64_t queries = heads * head_dim * (query_gate ? 2 : 1);
  builder.matrix(at("q_proj"), Part::kAttention, queries, hidden, count, bias);
  builder.matrix(at("k_proj"), Part::kAttention, kv_heads * head_dim, hidden, count, bias);
  builder.matrix(at("v_proj"), Part::kAttention, kv_heads * head_dim, hidden, count, bias);
  builder.matrix(at("o_proj"), Part::kAttention, hidden, heads * head_dim, count, bias);
}

LayerMemory GroupedAttention::memory() const {
  return {.kv_heads = kv_heads, .key_dim = head_dim, .value_dim = head_dim, .window = window};
}

std::uint64_t GroupedAttention::width() const {
  return heads * head_dim * (query_gate ? 3 : 2) + 2 * kv_heads * head_dim;
}

void add_gated_mlp(Builder& builder, std::string_view name, Part part, std::uint64_t hidden, std::uint64_t inner,
                   std::uint64_t count, bool bias) {
  builder.matrix(fmt::format("{}.gate_proj", name), part, inner, hidden, count, bias);
  builder.matrix(fmt::format("{}.up_proj", name), part, inner, hidden, count, bias);
  builder.matrix(fmt::format("{}.down_proj", name), part, hidden, inner, count, bias);
}

Result<Body> read_body(const Fields& fields, bool tied_by_default) {
  Body body;
  body.vocab = AXON_TRY(fields.count("vocab_size"));
  body.hidden = AXON_TRY(fields.count("hidden_size"));
  body.layers = AXON_TRY(fields.count("num_hidden_layers", Fields::kMaxLayers));
  body.tied = AXON_TRY(fields.flag_or("tie_word_embeddings", tied_by_default));
  return body;
}

void add_ends(Builder& builder, const Body& body, EndNames names, bool norm_bias) {
  Architecture& model = builder.model();
  model.vocab_size = body.vocab;
  model.hidden_size = body.hidden;
  model.tied_head = body.tied;
  builder.matrix(names.embedding, Part::kEmbedding, body.vocab, body.hidden);
  builder.vector(fmt::format("{}.weight", names.norm), Part::kNorm, body.hidden);
  if (norm_bias) builder.vector(fmt::format("{}.bias", names.norm), Part::kNorm, body.hidden);
  if (!body.tied) builder.matrix(names.head, Part::kHead, body.vocab, body.hidden);
}

Result<GroupedAttention> read_attention(const Fields& fields, std::uint64_t hidden, AttentionDefaults defaults) {
  GroupedAttention out;
  out.hidden = hidden;
  out.heads = AXON_TRY(fields.count_or("num_attention_heads", defaults.heads, kMaxHeads));
  out.kv_heads = AXON_TRY(fields.count_or("num_key_value_heads", defaults.kv_heads, kMaxHeads));
  AXON_TRY(check_divides(fields, "num_key_value_heads", out.kv_heads, "num_attention_heads", out.heads));
  if (!fields.has("head_dim") && defaults.head_dim == 0) {
    AXON_TRY(check_divides(fields, "num_attention_heads", out.heads, "hidden_size", hidden));
    defaults.head_dim = hidden / out.heads;
  }
  out.head_dim = AXON_TRY(fields.count_or("head_dim", defaults.head_dim, kMaxHeadSize));
  out.bias = AXON_TRY(fields.flag_or("attention_bias", false));
  return out;
}

Result<std::uint64_t> read_inner_size(const Fields& fields, std::string_view factor, std::uint64_t hidden) {
  const double times = AXON_TRY(fields.real_or(factor, 2.0));
  const double inner = std::floor(times * static_cast<double>(hidden));
  if (times > 64 || inner < 1) return fields.wrong(factor, "a number above 0, at most 64");
  return static_cast<std::uint64_t>(inner);
}

Result<std::uint64_t> count_or_auto(const Fields& fields, std::string_view key, std::uint64_t otherwise,
                                    std::uint64_t max) {
  const JsonValue* value = fields.find(key);
  if (value == nullptr) return otherwise;
  const std::string* text = value->get<std::string>();
  if (text != nullptr && *text == "auto") return otherwise;
  if (text != nullptr) return fields.wrong(key, "a number or \"auto\"");
  return fields.count(key, max);
}

Result<Mamba2> read_mamba2_of_hybrid(const Fields& fields, std::uint64_t hidden, std::uint64_t inner) {
  Mamba2 out;
  out.hidden = hidden;
  out.heads = AXON_TRY(fields.count_or("mamba_n_heads", 128, kMaxHeads));
  AXON_TRY(check_at_most(fields, "mamba_n_heads", out.heads, "the width of the Mamba mixer", inner));
  AXON_TRY(check_divides(fields, "mamba_n_heads", out.heads, "the width of the Mamba mixer", inner));
  out.head_dim = AXON_TRY(count_or_auto(fields, "mamba_d_head", inner / out.heads, Fields::kMax));
  if (out.inner() != inner) {
    return fields.wrong("mamba_d_head", fmt::format("{} / mamba_n_heads = {}", inner, inner / out.heads));
  }
  out.groups = AXON_TRY(fields.count_or("mamba_n_groups", 1, kMaxHeads));
  AXON_TRY(check_divides(fields, "mamba_n_groups", out.groups, "mamba_n_heads", out.heads));
  out.state = AXON_TRY(fields.count_or("mamba_d_state", 256, kMaxState));
  out.taps = AXON_TRY(fields.count_or("mamba_d_conv", 4, kMaxTaps));
  out.conv_bias = AXON_TRY(fields.flag_or("mamba_conv_bias", true));
  out.bias = AXON_TRY(fields.flag_or("mamba_proj_bias", false));
  out.out_bias = out.bias;
  return out;
}

Status check_at_most(const Fields& fields, std::string_view part_key, std::uint64_t part, std::string_view whole_key,
                     std::uint64_t whole) {
  if (part <= whole) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "{}: {} must be at most {} ({}), but is {}", fields.what(), part_key,
                    whole_key, whole, part);
}

Status check_divides(const Fields& fields, std::string_view divisor_key, std::uint64_t divisor,
                     std::string_view whole_key, std::uint64_t whole) {
  if (whole % divisor == 0) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "{}: {} must divide {} ({}), but is {}", fields.what(), divisor_key,
                    whole_key, whole, divisor);
}

}  // namespace axon
