#include "layers/ssm.h"

#include <algorithm>

namespace axon {
namespace {

// Rows, or none where none were carved.
Mat<float> first_rows(const Mat<float>& m, std::size_t count) { return m.rows_from(0, std::min(count, m.rows)); }

LinearCall in_call(const SsmWeights& w, Mat<const float> x, const SsmScratch& s) {
  return {w.in_proj, x, {}, s.xz.rows_from(0, x.rows), s.h_in.rows_from(0, x.rows)};
}
LinearCall x_call(const SsmWeights& w, std::size_t tokens, const SsmScratch& s) {
  return {w.x_proj, s.u.rows_from(0, tokens), {}, s.bcdt.rows_from(0, tokens), s.h_x.rows_from(0, tokens)};
}
LinearCall out_call(const SsmWeights& w, Mat<float> residual, const SsmScratch& s) {
  const std::size_t T = residual.rows;
  return {w.out_proj, s.y.rows_from(0, T), {}, residual, s.h_out.rows_from(0, T), /*add=*/true, first_rows(s.own, T)};
}

ScanInput scan_input(const SsmWeights& w, const SsmScratch& s, const Run& run) {
  const std::size_t inner = s.u.cols;
  return {.u = s.u.rows_from(run.first, run.count),
          .z = s.xz.rows_from(run.first, run.count).cols_from(inner, inner),
          .bcdt = s.bcdt.rows_from(run.first, run.count),
          .dt_weight = w.dt_weight,
          .dt_bias = w.dt_bias,
          .a = w.a,
          .d = w.d};
}

// Up to s.y.
void inside(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs, SsmState& state,
            const SsmScratch& s, const LinearScratch& linear) {
  const std::size_t inner = s.u.cols;
  const LinearCall in = in_call(w, x, s), bcdt = x_call(w, x.rows, s);
  linear_forward(device, {&in, 1}, linear);
  // A run's convolution leaves the tail to the next run, so the state is started anew before each of the two.
  for (const Run& run : runs) {
    if (run.fresh) std::fill_n(state.tail.data, state.tail.rows * state.tail.cols, 0.0f);
    device.conv_silu(s.xz.rows_from(run.first, run.count).cols_from(0, inner), w.conv_taps, w.conv_bias, state.tail,
                     s.u.rows_from(run.first, run.count));
  }
  linear_forward(device, {&bcdt, 1}, linear);
  for (const Run& run : runs) {
    if (run.fresh) std::fill_n(state.h.data, state.h.rows * state.h.cols, 0.0f);
    device.scan(scan_input(w, s, run), state.h, s.y.rows_from(run.first, run.count));
  }
}

}  // namespace

SsmScratch::SsmScratch(Carver& carver, std::size_t tokens, const SsmShape& shape, const AdapterNeeds& needs)
    : xz(carver.mat<float>(tokens, 2 * shape.inner)),
      u(carver.mat<float>(tokens, shape.inner)),
      bcdt(carver.mat<float>(tokens, 2 * shape.state + 1)),
      y(needs.backward ? carver.mat<float>(tokens, shape.inner) : u),
      h_in(carver.mat<float>(tokens, needs.rank)),
      h_x(carver.mat<float>(tokens, needs.rank)),
      h_out(carver.mat<float>(tokens, needs.rank)),
      own(carver.mat<float>(needs.dora ? tokens : 0, shape.hidden)) {}

SsmBackScratch::SsmBackScratch(Carver& carver, std::size_t tokens, const SsmShape& shape, const AdapterNeeds& needs)
    : dy(carver.mat<float>(tokens, shape.inner)),
      dxz(carver.mat<float>(tokens, 2 * shape.inner)),
      dbcdt(carver.mat<float>(tokens, 2 * shape.state + 1)),
      dh(carver.mat<float>(tokens, needs.rank)),
      scaled(
          carver.mat<float>(needs.dora ? tokens : 0, std::max({2 * shape.inner, shape.hidden, 2 * shape.state + 1}))) {}

void clear(SsmState& state) {
  for (const Mat<float> m : {state.h, state.tail}) std::fill_n(m.data, m.rows * m.cols, 0.0f);
}
void copy(const SsmState& from, SsmState& to) {
  std::copy_n(from.h.data, from.h.rows * from.h.cols, to.h.data);
  std::copy_n(from.tail.data, from.tail.rows * from.tail.cols, to.tail.data);
}

void ssm_forward(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs, SsmState& state,
                 const SsmScratch& s, const LinearScratch& linear, Mat<float> residual) {
  inside(device, w, x, runs, state, s, linear);
  const LinearCall out = out_call(w, residual, s);
  linear_forward(device, {&out, 1}, linear);
}

void ssm_again(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs, SsmState& state,
               const SsmScratch& s, const LinearScratch& linear) {
  inside(device, w, x, runs, state, s, linear);
  linear_low_rank(device, out_call(w, {nullptr, x.rows, w.out_proj.rows}, s), linear);
}

void ssm_backward(Device& device, const SsmWeights& w, Mat<const float> x, std::span<const Run> runs,
                  const SsmState& start, const SsmState& zero, const SsmScratch& saved, Mat<const float> dy,
                  SsmState& carry, const SsmBackScratch& s, const LinearScratch& linear, Mat<float> dx) {
  const std::size_t T = x.rows, inner = saved.u.cols;
  const Mat<float> dys = s.dy.rows_from(0, T), dxz = s.dxz.rows_from(0, T), dbcdt = s.dbcdt.rows_from(0, T);
  const Mat<float> du = dys, dh = first_rows(s.dh, T), scaled = first_rows(s.scaled, T);
  const auto scaled_to = [&](std::size_t cols) { return Mat<float>{scaled.data, scaled.rows, cols}; };

  // residual += out_proj(y)
  const Mat<float> residual{nullptr, T, w.out_proj.rows};
  const LinearBack out{out_call(w, residual, saved), dy, dys, false, dh, scaled_to(w.out_proj.rows)};
  linear_backward(device, {&out, 1}, linear);
  // y = scan(u, z, bcdt)
  for (std::size_t i = runs.size(); i-- > 0;) {
    const Run& run = runs[i];
    const Mat<float> rows = dys.rows_from(run.first, run.count);
    device.scan_backward(scan_input(w, saved, run), run.fresh ? zero.h : start.h, rows, carry.h, rows,
                         dxz.rows_from(run.first, run.count).cols_from(inner, inner),
                         dbcdt.rows_from(run.first, run.count));
    if (run.fresh) std::fill_n(carry.h.data, carry.h.rows * carry.h.cols, 0.0f);
  }
  // bcdt = x_proj(u)
  const LinearBack bcdt{x_call(w, T, saved), dbcdt, du, true, dh, scaled_to(w.x_proj.rows)};
  linear_backward(device, {&bcdt, 1}, linear);
  // u = conv_silu(xz[:, :E])
  for (std::size_t i = runs.size(); i-- > 0;) {
    const Run& run = runs[i];
    device.conv_silu_backward(saved.xz.rows_from(run.first, run.count).cols_from(0, inner), w.conv_taps, w.conv_bias,
                              run.fresh ? zero.tail : start.tail, du.rows_from(run.first, run.count), carry.tail,
                              dxz.rows_from(run.first, run.count).cols_from(0, inner));
    if (run.fresh) std::fill_n(carry.tail.data, carry.tail.rows * carry.tail.cols, 0.0f);
  }
  // xz = in_proj(x)
  const LinearBack in{in_call(w, x, saved), dxz, dx, false, dh, scaled_to(w.in_proj.rows)};
  linear_backward(device, {&in, 1}, linear);
}

}  // namespace axon
