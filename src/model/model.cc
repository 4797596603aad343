#include "model/model.h"

#include <algorithm>

namespace axon {

BlockShape block_shape(const Config& c) {
  return {.ssm = {.hidden = c.hidden_dim, .inner = c.ssm_intermediate_dim(), .state = c.ssm_d_state},
          .heads = c.num_heads,
          .window = c.swa_window_size,
          .taps = c.ssm_d_conv,
          .moe = {.hidden = c.hidden_dim,
                  .experts = c.moe_num_experts,
                  .top_k = c.moe_top_k,
                  .ffn = c.moe_intermediate_dim},
          .eps = static_cast<float>(c.rms_norm_eps)};
}

std::vector<LayerStateShape> state_shapes(const Config& c, std::size_t context) {
  std::vector<LayerStateShape> shapes;
  for (const LayerKind kind : layer_kinds(c)) {
    LayerStateShape shape;
    if (kind.mixer == Mixer::kSwa) {
      shape = {.attention = true,
               .heads = c.num_heads,
               .head_dim = c.head_dim(),
               .capacity = std::min<std::size_t>(context, c.swa_window_size)};
    } else {
      shape = {.inner = c.ssm_intermediate_dim(), .state = c.ssm_d_state, .taps = c.ssm_d_conv};
    }
    shapes.push_back(shape);
  }
  return shapes;
}

ModelWorkspace::ModelWorkspace(Carver& carver, std::size_t tokens_max, const Config& config, const AdapterNeeds& needs)
    : source(carver.mat<float>(tokens_max, config.d_source_model)),
      x(carver.mat<float>(tokens_max, config.hidden_dim)),
      h(carver.mat<float>(tokens_max, needs.rank)),
      block(carver, tokens_max, block_shape(config), needs) {}

void Model::each_linear(const std::function<void(const std::string&, Linear&)>& f) {
  f("input_proj", weights_.input_proj);
  f("output_proj", weights_.output_proj);
  for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
    BlockWeights& block = weights_.blocks[i];
    const auto at = [&](std::string_view name, Linear& linear) { f(fmt::format("layer_{}.{}", i, name), linear); };
    if (auto* ssm = std::get_if<SsmWeights>(&block.mixer)) {
      at("ssm.in_proj", ssm->in_proj);
      at("ssm.x_proj", ssm->x_proj);
      at("ssm.out_proj", ssm->out_proj);
    } else {
      auto& swa = std::get<SwaWeights>(block.mixer);
      at("attention.q_proj", swa.q_proj);
      at("attention.k_proj", swa.k_proj);
      at("attention.v_proj", swa.v_proj);
      at("attention.o_proj", swa.o_proj);
    }
    if (!block.ffn) continue;
    MoeWeights& moe = block.ffn->moe;
    at("moe.switch_mlp.gate_proj", moe.gate_proj);
    at("moe.switch_mlp.up_proj", moe.up_proj);
    at("moe.switch_mlp.down_proj", moe.down_proj);
    at("moe.shared_expert.gate_proj", moe.shared_gate_proj);
    at("moe.shared_expert.up_proj", moe.shared_up_proj);
    at("moe.shared_expert.down_proj", moe.shared_down_proj);
  }
}

void Model::forward(Device& device, std::span<const std::uint32_t> ids, SequenceState& state,
                    ModelWorkspace& workspace) const {
  const Mat<float> source = workspace.source.rows_from(0, ids.size());
  const Mat<float> x = workspace.x.rows_from(0, ids.size());
  const BlockShape shape = block_shape(config_);
  device.embed(weights_.embed_tokens, ids, source);
  const LinearCall input{weights_.input_proj, source, {}, x, workspace.h.rows_from(0, ids.size())};
  linear_forward(device, {&input, 1}, workspace.block.linear);
  for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
    block_forward(device, weights_.blocks[i], shape, state, i, workspace.block, x);
  }
  state.advance(ids.size());
}

void Model::head(Device& device, ModelWorkspace& workspace, std::size_t first, Mat<float> logits) const {
  const Mat<float> source = workspace.source.rows_from(0, logits.rows);
  const LinearCall output{weights_.output_proj,
                          workspace.x.rows_from(first, logits.rows),
                          {},
                          source,
                          workspace.h.rows_from(0, logits.rows)};
  linear_forward(device, {&output, 1}, workspace.block.linear);
  device.matmul(weights_.lm_head, source, logits);
}

}  // namespace axon
