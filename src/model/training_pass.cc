#include "model/training_pass.h"

#include <algorithm>

namespace axon {

void TrainingPass::carve(const Config& c, const TrainingShape& shape, Carvers& to) {
  shape_ = block_shape(c);
  const std::size_t T = shape.row.tokens_max, chunk = shape.row.chunk, rank = shape.row.needs.rank;
  const auto kinds = layer_kinds(c);
  inputs_.clear();
  for (std::size_t i = 0; i <= kinds.size(); ++i) inputs_.push_back(to.inputs.mat<float>(T, c.hidden_dim));
  borders_.assign(kinds.size(), {});
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i].mixer != Mixer::kSsm) continue;
    for (std::size_t b = 0; b < shape.row.borders(); ++b) borders_[i].push_back(carve_state(to.borders, shape_));
  }
  dx_ = to.activations.mat<float>(T, c.hidden_dim);
  ids_ = to.activations.span<std::uint32_t>(T);
  starts_ = to.activations.span<std::uint32_t>(T);
  scratch_ = RowScratch(to.activations, shape.row, shape_);
  source_ = to.activations.mat<float>(chunk, c.d_source_model);
  input_h_ = to.activations.mat<float>(chunk, rank);
  input_dh_ = to.activations.mat<float>(chunk, rank);
  input_scaled_ =
      to.activations.mat<float>(shape.row.needs.dora || shape.row.needs.half_input ? chunk : 0, c.hidden_dim);
  loss_ = LossScratch(to.loss, shape.loss_rows, c.d_source_model, c.vocab_size, c.hidden_dim, shape.row.needs);
}

void TrainingPass::plan(const Config& config, const TrainingShape& shape,
                        const std::function<void(std::string_view, const Carver&)>& visit) {
  TrainingPass pass;
  Carvers carvers;
  pass.carve(config, shape, carvers);
  visit(account::kBlockInputs, carvers.inputs);
  visit(account::kBorderStates, carvers.borders);
  visit(account::kActivations, carvers.activations);
  visit(account::kLoss, carvers.loss);
}

Result<TrainingPass> TrainingPass::create(const Model& model, Device& device, Ledger& ledger,
                                          const TrainingShape& shape) {
  TrainingPass pass;
  pass.model_ = &model;
  pass.device_ = &device;
  std::vector<std::pair<std::string, Bytes>> sizes;
  plan(model.config(), shape, [&](std::string_view account, const Carver& carver) {
    sizes.emplace_back(std::string(account), carver.peak());
  });
  for (const auto& [account, size] : sizes) pass.arenas_.push_back(AXON_TRY(Arena::create(ledger, account, size)));
  Carvers carvers{pass.arenas_[0].carver(), pass.arenas_[1].carver(), pass.arenas_[2].carver(),
                  pass.arenas_[3].carver()};
  pass.carve(model.config(), shape, carvers);
  clear(pass.scratch_.zero);
  return pass;
}

cpu::DeviceLimits TrainingPass::limits(const Config& c, const TrainingShape& shape) {
  const std::size_t chunk = shape.row.chunk, routed = chunk * (c.moe_top_k + 1);
  const std::size_t inner = c.ssm_intermediate_dim(), ffn = c.moe_intermediate_dim;
  cpu::DeviceLimits limits;
  limits.x_elements_max = std::max<std::size_t>({chunk * 2 * inner, routed * std::max<std::size_t>(ffn, c.hidden_dim),
                                                 shape.loss_rows * std::max(c.vocab_size, c.hidden_dim)});
  limits.rows_of_x_max = std::max(shape.row.tokens_max, std::max(routed, shape.loss_rows));
  limits.cols_max = std::max<std::size_t>({inner, ffn, c.hidden_dim, c.d_source_model});
  limits.head_dim_max = c.head_dim();
  limits.states_max = c.ssm_d_state;
  limits.mixed_elements_max = limits.x_elements_max;
  limits.transposed_rows_max = std::max<std::size_t>(
      {2 * inner, ffn, c.hidden_dim, c.d_source_model, c.vocab_size, 2 * c.ssm_d_state + 1, shape.row.needs.rank});
  limits.attend_backward_tokens_max = shape.row.tokens_max;
  limits.back_tokens_max = chunk;
  limits.back_channels_max = inner;
  limits.back_taps_max = c.ssm_d_conv;
  return limits;
}

void TrainingPass::set_dropout(float p, std::uint64_t seed) {
  scratch_.linear.dropout = p;
  scratch_.linear.seed = seed;
}

LinearScratch TrainingPass::linear() const {
  LinearScratch linear = scratch_.linear;
  linear.first_token = row_.first_token * (shape_.moe.top_k + 1);
  return linear;
}

LinearCall TrainingPass::input_call(Mat<const float> source, std::size_t first) const {
  const std::size_t count = source.rows;
  return {model_->weights().input_proj,
          source,
          {},
          inputs_[0].rows_from(first, count),
          input_h_.rows_from(0, count),
          /*add=*/false,
          input_scaled_.rows == 0 ? input_scaled_ : input_scaled_.rows_from(0, count)};
}

void TrainingPass::forward(std::span<const std::uint32_t> ids, const Row& row) {
  AXON_CHECK(ids.size() == row.tokens && ids.size() <= ids_.size() && row.starts.size() <= starts_.size());
  std::ranges::copy(ids, ids_.begin());
  std::ranges::copy(row.starts, starts_.begin());
  row_ = row;
  row_.starts = starts_.first(row.starts.size());
  const ModelWeights& w = model_->weights();
  LinearScratch at = linear();
  for (std::size_t first = 0; first < ids.size(); first += scratch_.chunk) {
    const std::size_t count = std::min(scratch_.chunk, ids.size() - first);
    const Mat<float> source = source_.rows_from(0, count);
    device_->embed(w.embed_tokens, ids.subspan(first, count), source);
    const LinearCall input = input_call(source, first);
    linear_forward(*device_, {&input, 1}, at);
    at.first_token += count;
  }
  for (std::size_t i = 0; i < w.blocks.size(); ++i) {
    row_forward(*device_, w.blocks[i], shape_, row_, borders_[i], scratch_, inputs_[i].rows_from(0, ids.size()),
                inputs_[i + 1].rows_from(0, ids.size()));
  }
}

void TrainingPass::losses(std::span<const std::uint32_t> labels, std::span<float> loss) {
  loss_forward(*device_, head(), inputs_.back().rows_from(0, row_.tokens), labels, loss_, linear(), loss);
}

void TrainingPass::backward(std::span<const LossTerm> terms) {
  const std::size_t T = row_.tokens;
  const ModelWeights& w = model_->weights();
  const Mat<float> dx = dx_.rows_from(0, T);
  for (const LossTerm& term : terms) {
    loss_backward(*device_, head(), inputs_.back().rows_from(0, T), term.labels, term.factors, loss_, linear(),
                  term.loss, dx, /*add=*/&term != terms.data());
  }
  for (std::size_t i = w.blocks.size(); i-- > 0;) {
    row_backward(*device_, w.blocks[i], shape_, row_, borders_[i], scratch_, inputs_[i].rows_from(0, T), dx);
  }
  if (w.input_proj.adapter == nullptr) return;
  LinearScratch at = linear();
  for (std::size_t first = 0; first < T; first += scratch_.chunk) {
    const std::size_t count = std::min(scratch_.chunk, T - first);
    const Mat<float> source = source_.rows_from(0, count);
    device_->embed(w.embed_tokens, ids_.subspan(first, count), source);
    const LinearCall input{w.input_proj, source, {}, inputs_[0].rows_from(first, count), input_h_.rows_from(0, count)};
    linear_low_rank(*device_, input, at);
    const LinearBack back{input,
                          dx.rows_from(first, count),
                          {},
                          false,
                          input_dh_.rows_from(0, count),
                          input_scaled_.rows == 0 ? input_scaled_ : input_scaled_.rows_from(0, count)};
    linear_backward(*device_, {&back, 1}, at);
    at.first_token += count;
  }
}

}  // namespace axon
