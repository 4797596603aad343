#include "model/model.h"

#include <algorithm>

namespace axon {

BlockShape block_shape(const Config& c) {
  return {.hidden = c.hidden_dim,
          .inner = c.ssm_intermediate_dim(),
          .state = c.ssm_d_state,
          .window = c.swa_window_size,
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

ModelWorkspace::ModelWorkspace(Carver& carver, std::size_t tokens_max, const Config& config)
    : source(carver.mat<float>(tokens_max, config.d_source_model)),
      x(carver.mat<float>(tokens_max, config.hidden_dim)),
      block(carver, tokens_max, block_shape(config)) {}

void Model::forward(Device& device, std::span<const std::uint32_t> ids, SequenceState& state,
                    ModelWorkspace& workspace) const {
  const Mat<float> source = workspace.source.rows_from(0, ids.size());
  const Mat<float> x = workspace.x.rows_from(0, ids.size());
  const BlockShape shape = block_shape(config_);
  device.embed(weights_.embed_tokens, ids, source);
  device.matmul(weights_.input_proj, source, x);
  for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
    block_forward(device, weights_.blocks[i], shape, state, i, workspace.block, x);
  }
  state.advance(ids.size());
}

void Model::head(Device& device, ModelWorkspace& workspace, std::size_t first, Mat<float> logits) const {
  const Mat<float> source = workspace.source.rows_from(0, logits.rows);
  device.matmul(weights_.output_proj, workspace.x.rows_from(first, logits.rows), source);
  device.matmul(weights_.lm_head, source, logits);
}

}  // namespace axon
