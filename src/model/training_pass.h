#pragma once
// One row of tokens through the whole model and back: activations, losses, gradients of the adapters. What is kept of
// the way there are the inputs of the blocks and the SSM states at the borders of chunks.

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "layers/loss.h"
#include "layers/row.h"
#include "memory/arena.h"
#include "model/model.h"

namespace axon {

struct TrainingShape {
  RowShape row;
  std::size_t loss_rows = 256;  // tokens whose logits there are at once
};

// Labels of a row's tokens (kNoLabel: none), how much each counts, and where their losses go.   [T] each
struct LossTerm {
  std::span<const std::uint32_t> labels;
  std::span<const float> factors;
  std::span<float> loss;
};

class TrainingPass {
 public:
  // Calls visit(account, carver) for each account; the carver has measured what create() will reserve.
  static void plan(const Config& config, const TrainingShape& shape,
                   const std::function<void(std::string_view, const Carver&)>& visit);
  // `model` and `device` must outlive it.
  static Result<TrainingPass> create(const Model& model, Device& device, Ledger& ledger, const TrainingShape& shape);
  // What the device will see: its limits are the largest of these.
  static cpu::DeviceLimits limits(const Config& config, const TrainingShape& shape);

  // What drops out, and how often; 0: nothing. Only where the shape says that dropout will come.
  void set_dropout(float p, std::uint64_t seed);

  // Ids [T] < vocabulary, T <= tokens_max; see Row.
  void forward(std::span<const std::uint32_t> ids, const Row& row);
  // After forward: loss[t] of labels[t] (kNoLabel: 0).   [T]
  void losses(std::span<const std::uint32_t> labels, std::span<float> loss);
  // After forward: the same, and adds the gradients of sum_t factors[t] * loss[t], over all terms, to those of the
  // adapters.
  void backward(std::span<const LossTerm> terms);
  void backward(const LossTerm& term) { backward({&term, 1}); }
  // After backward: the gradient of the first block's input.   [T, D]
  Mat<const float> dx() const { return dx_.rows_from(0, row_.tokens); }
  // After forward: the last block's output.   [T, D]
  Mat<const float> output() const { return inputs_.back().rows_from(0, row_.tokens); }

 private:
  TrainingPass() = default;
  struct Carvers {
    Carver inputs, borders, activations, loss;
  };
  void carve(const Config& config, const TrainingShape& shape, Carvers& carvers);
  HeadWeights head() const { return {model_->weights().output_proj, model_->weights().lm_head}; }
  LinearScratch linear() const;
  LinearCall input_call(Mat<const float> source, std::size_t first) const;

  const Model* model_ = nullptr;
  Device* device_ = nullptr;
  BlockShape shape_{};
  std::vector<Arena> arenas_;
  std::vector<Mat<float>> inputs_;              // of each block, and the last one's output: [T, D]
  std::vector<std::vector<SsmState>> borders_;  // of each block
  RowScratch scratch_;
  Mat<float> source_, input_h_, input_dh_, input_scaled_;  // [chunk, S], [chunk, R] twice, [chunk, D]
  Mat<float> dx_;                                          // [T, D]
  LossScratch loss_;
  std::span<std::uint32_t> ids_;  // of the row
  std::span<std::uint32_t> starts_;
  Row row_;
};

}  // namespace axon
