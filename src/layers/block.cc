#include "layers/block.h"

#include <algorithm>
#include <array>

namespace axon {

std::size_t BlockShape::in_max() const { return std::max({hidden(), ssm.inner, moe.ffn}); }
std::size_t BlockShape::calls_max() const { return std::max<std::size_t>(2 * moe.experts + 1, 4); }

BlockScratch::BlockScratch(Carver& carver, std::size_t tokens_max, const BlockShape& shape, const AdapterNeeds& needs)
    : normed(carver.mat<float>(tokens_max, shape.hidden())),
      linear(carver, tokens_max * (shape.moe.top_k + 1), shape.calls_max(), shape.in_max(), needs) {
  const std::size_t shared = carver.mark();
  ssm = SsmScratch(carver, tokens_max, shape.ssm, needs);
  carver.rewind(shared);
  swa = SwaScratch(carver, tokens_max, shape.hidden(), needs);
  carver.rewind(shared);
  moe = MoeScratch(carver, tokens_max, shape.moe, needs);
}

void block_forward(Device& device, const BlockWeights& w, const BlockShape& shape, SequenceState& state,
                   std::size_t layer, const BlockScratch& scratch, Mat<float> x) {
  const Mat<float> normed = scratch.normed.rows_from(0, x.rows);
  device.rms_norm(x, w.input_norm, shape.eps, normed);
  if (const auto* ssm = std::get_if<SsmWeights>(&w.mixer)) {
    const std::array<Run, 1> run = {Run{0, x.rows, false}};
    ssm_forward(device, *ssm, normed, run, state.ssm(layer), scratch.ssm, scratch.linear, x);
  } else {
    swa_forward(device, std::get<SwaWeights>(w.mixer), normed, state.kv(layer), state.position(), shape.window,
                scratch.swa, scratch.linear, x);
  }
  if (w.ffn) {
    device.rms_norm(x, w.ffn->norm, shape.eps, normed);
    moe_forward(device, w.ffn->moe, shape.moe, normed, scratch.moe, scratch.linear, x);
  }
}

}  // namespace axon
