#include "layers/block.h"

namespace axon {

BlockScratch::BlockScratch(Carver& carver, std::size_t tokens_max, const BlockShape& shape)
    : normed(carver.mat<float>(tokens_max, shape.hidden)) {
  const std::size_t shared = carver.mark();
  ssm = SsmScratch(carver, tokens_max, shape.inner, shape.state);
  carver.rewind(shared);
  swa = SwaScratch(carver, tokens_max, shape.hidden);
  carver.rewind(shared);
  moe = MoeScratch(carver, tokens_max, shape.moe);
}

void block_forward(Device& device, const BlockWeights& w, const BlockShape& shape, SequenceState& state,
                   std::size_t layer, const BlockScratch& scratch, Mat<float> x) {
  const Mat<float> normed = scratch.normed.rows_from(0, x.rows);
  device.rms_norm(x, w.input_norm, shape.eps, normed);
  if (const auto* ssm = std::get_if<SsmWeights>(&w.mixer)) {
    ssm_forward(device, *ssm, normed, state.ssm(layer), scratch.ssm, x);
  } else {
    swa_forward(device, std::get<SwaWeights>(w.mixer), normed, state.kv(layer), state.position(), shape.window,
                scratch.swa, x);
  }
  if (w.ffn) {
    device.rms_norm(x, w.ffn->norm, shape.eps, normed);
    moe_forward(device, w.ffn->moe, shape.moe, normed, scratch.moe, x);
  }
}

}  // namespace axon
