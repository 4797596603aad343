#include "layers/ssm.h"

namespace axon {

void ssm_forward(Device& device, const SsmWeights& w, Mat<const float> x, SsmState& state, const SsmScratch& scratch,
                 Mat<float> residual) {
  const std::size_t tokens = x.rows, inner = scratch.u.cols;
  const Mat<float> xz = scratch.xz.rows_from(0, tokens);
  const Mat<float> u = scratch.u.rows_from(0, tokens);
  const Mat<float> bcdt = scratch.bcdt.rows_from(0, tokens);
  device.matmul(w.in_proj, x, xz);
  device.conv_silu(xz.cols_from(0, inner), w.conv_taps, w.conv_bias, state.tail, u);
  device.matmul(w.x_proj, u, bcdt);
  device.scan({.u = u,
               .z = xz.cols_from(inner, inner),
               .bcdt = bcdt,
               .dt_weight = w.dt_weight,
               .dt_bias = w.dt_bias,
               .a = w.a,
               .d = w.d},
              state.h, u);
  device.matmul(w.out_proj, u, residual, /*add=*/true);
}

}  // namespace axon
