#include "model/tensors.h"

#include <cmath>

namespace axon {
namespace {

class Walk {
 public:
  Walk(const Config& c, ModelWeights& w, const std::function<void(const TensorSpec&, TensorSlot)>& visit)
      : c_(c), w_(w), visit_(visit), kinds_(layer_kinds(c)) {}

  void run() {
    const std::uint64_t V = c_.vocab_size, S = c_.d_source_model, D = c_.hidden_dim;
    w_.blocks.assign(kinds_.size(), {});
    zone_ = "weights: embedding";
    // The table is read by row, so none of it is a product; as the tied head, all of it is.
    matrix("embed_tokens", {V, S}, w_.embed_tokens, TensorUse::kEmbedding, {Init::kNormal, 1 / std::sqrt(double(S))});
    matrix("input_proj", {D, S}, w_.input_proj);
    matrix("output_proj", {S, D}, w_.output_proj);
    for (std::size_t i = 0; i < kinds_.size(); ++i) layer(i);
    zone_ = "weights: embedding";
    prefix_.clear();
    optional_ = c_.weight_tying;
    matrix("lm_head", {V, S}, w_.lm_head, TensorUse::kEmbedding);
  }

 private:
  void layer(std::size_t i) {
    const std::uint64_t D = c_.hidden_dim;
    prefix_ = fmt::format("layer_{}.", i);
    zone_ = zone_of(i);
    BlockWeights& block = w_.blocks[i];
    vector("input_norm", ".weight", {D}, block.input_norm, {Init::kOnes});
    const bool is_ssm = kinds_[i].mixer == Mixer::kSsm;
    if (is_ssm) {
      ssm(block.mixer.emplace<SsmWeights>());
    } else {
      swa(block.mixer.emplace<SwaWeights>());
    }
    if (!kinds_[i].moe) return;
    block.ffn.emplace();
    vector(is_ssm ? "post_ssm_norm" : "post_attention_norm", ".weight", {D}, block.ffn->norm, {Init::kOnes});
    moe(block.ffn->moe);
  }

  void ssm(SsmWeights& w) {
    const std::uint64_t D = c_.hidden_dim, E = c_.ssm_intermediate_dim(), N = c_.ssm_d_state, K = c_.ssm_d_conv;
    matrix("ssm.in_proj", {2 * E, D}, w.in_proj);
    emit("ssm.conv1d", ".weight", {E, K, 1}, TensorUse::kConvTaps, &w.conv_taps,
         {Init::kUniform, 1 / std::sqrt(double(E * K))});
    vector("ssm.conv1d", ".bias", {E}, w.conv_bias, {Init::kZeros});
    matrix("ssm.x_proj", {2 * N + 1, E}, w.x_proj);
    emit("ssm.dt_proj", ".weight", {E, 1}, TensorUse::kVector, &w.dt_weight, {Init::kUniform, 1});
    vector("ssm.dt_proj", ".bias", {E}, w.dt_bias, {Init::kUniform, 1});
    emit("ssm.A_log", "", {E, N}, TensorUse::kALog, &w.a, {Init::kLogCount});
    vector("ssm.D", "", {E}, w.d, {Init::kOnes});
    matrix("ssm.out_proj", {D, E}, w.out_proj);
  }

  void swa(SwaWeights& w) {
    const std::uint64_t D = c_.hidden_dim;
    w.rotated = c_.kv_rotated;
    heads_ = Heads::kInRows;
    matrix("attention.q_proj", {D, D}, w.q_proj);
    matrix("attention.k_proj", {D, D}, w.k_proj);
    matrix("attention.v_proj", {D, D}, w.v_proj);
    heads_ = Heads::kInCols;
    matrix("attention.o_proj", {D, D}, w.o_proj);
    heads_ = Heads::kNone;
  }

  void moe(MoeWeights& w) {
    const std::uint64_t D = c_.hidden_dim, F = c_.moe_intermediate_dim, X = c_.moe_num_experts;
    matrix("moe.gate", {X, D}, w.router, TensorUse::kRouter);
    active_ = c_.moe_top_k, of_ = X;
    matrix("moe.switch_mlp.gate_proj", {X, F, D}, w.gate_proj);
    matrix("moe.switch_mlp.up_proj", {X, F, D}, w.up_proj);
    matrix("moe.switch_mlp.down_proj", {X, D, F}, w.down_proj);
    active_ = of_ = 1;
    matrix("moe.shared_expert_gate", {1, D}, w.shared_gate, TensorUse::kRouter);
    matrix("moe.shared_expert.gate_proj", {F, D}, w.shared_gate_proj);
    matrix("moe.shared_expert.up_proj", {F, D}, w.shared_up_proj);
    matrix("moe.shared_expert.down_proj", {D, F}, w.shared_down_proj);
  }

  void matrix(std::string_view name, Shape shape, Linear& slot, TensorUse use = TensorUse::kMatrix) {
    matrix(name, shape, slot, use, {Init::kUniform, 1 / std::sqrt(double(shape[shape.rank() - 1]))});
  }
  void matrix(std::string_view name, Shape shape, Linear& slot, TensorUse use, Init init) {
    emit(name, ".weight", shape, use, &slot, init);
  }
  void vector(std::string_view name, std::string_view suffix, Shape shape, std::span<const float>& slot, Init init) {
    emit(name, suffix, shape, TensorUse::kVector, &slot, init);
  }
  void emit(std::string_view name, std::string_view suffix, Shape shape, TensorUse use, TensorSlot slot, Init init) {
    visit_({.name = prefix_ + std::string(name),
            .suffix = std::string(suffix),
            .shape = shape,
            .use = use,
            .zone = zone_,
            .init = init,
            .optional = optional_,
            .active = active_,
            .of = of_,
            .heads = heads_},
           slot);
  }

  // Consecutive layers of one kind form a zone.
  std::string zone_of(std::size_t i) const {
    std::size_t first = i, last = i;
    while (first > 0 && kinds_[first - 1] == kinds_[i]) --first;
    while (last + 1 < kinds_.size() && kinds_[last + 1] == kinds_[i]) ++last;
    return first == last ? fmt::format("weights: {} layer {}", name_of(kinds_[i]), first)
                         : fmt::format("weights: {} layers {}-{}", name_of(kinds_[i]), first, last);
  }

  const Config& c_;
  ModelWeights& w_;
  const std::function<void(const TensorSpec&, TensorSlot)>& visit_;
  std::vector<LayerKind> kinds_;
  std::string prefix_, zone_;
  std::uint64_t active_ = 1, of_ = 1;
  Heads heads_ = Heads::kNone;
  bool optional_ = false;
};

}  // namespace

void for_each_tensor(const Config& config, ModelWeights& weights,
                     const std::function<void(const TensorSpec&, TensorSlot)>& visit) {
  Walk(config, weights, visit).run();
}

std::vector<TensorSpec> tensor_list(const Config& config) {
  ModelWeights unbound;
  std::vector<TensorSpec> list;
  for_each_tensor(config, unbound, [&](const TensorSpec& spec, TensorSlot) { list.push_back(spec); });
  return list;
}

ParameterCount count_parameters(const Config& config) {
  ParameterCount count;
  for (const TensorSpec& spec : tensor_list(config)) {
    if (spec.optional) continue;
    count.total += spec.shape.elements();
    count.active += spec.shape.elements() / spec.of * spec.active;
  }
  return count;
}

}  // namespace axon
