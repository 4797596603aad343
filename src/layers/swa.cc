#include "layers/swa.h"

#include <algorithm>
#include <array>

namespace axon {
namespace {

// Rows, or none where none were carved.
Mat<float> some_rows(const Mat<float>& m, std::size_t first, std::size_t count) {
  return m.rows == 0 ? m : m.rows_from(first, count);
}

std::array<LinearCall, 3> qkv_calls(const SwaWeights& w, Mat<const float> x, std::size_t first, const SwaScratch& s) {
  const std::size_t T = x.rows;
  return {LinearCall{w.q_proj, x, {}, s.q.rows_from(first, T), s.h_q.rows_from(first, T)},
          LinearCall{w.k_proj, x, {}, s.k.rows_from(first, T), s.h_k.rows_from(first, T)},
          LinearCall{w.v_proj, x, {}, s.v.rows_from(first, T), s.h_v.rows_from(first, T)}};
}

LinearCall out_call(const SwaWeights& w, Mat<const float> y, std::size_t first, const SwaScratch& s,
                    Mat<float> residual) {
  const std::size_t T = residual.rows;
  return {w.o_proj, y, {}, residual, s.h_o.rows_from(first, T), /*add=*/true, some_rows(s.own, first, T)};
}

// f(first, count) for each sequence of a row.
template <class F>
void each_sequence(std::span<const std::uint32_t> starts, std::size_t tokens, F&& f) {
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t end = i + 1 < starts.size() ? starts[i + 1] : tokens;
    if (end > starts[i]) f(std::size_t{starts[i]}, end - starts[i]);
  }
}

// Columns [first, first + count) of [H, T].
Mat<float> columns(const Mat<float>& m, std::size_t first, std::size_t count) { return m.cols_from(first, count); }

}  // namespace

SwaScratch::SwaScratch(Carver& carver, std::size_t tokens, std::size_t hidden, const AdapterNeeds& needs)
    : q(carver.mat<float>(tokens, hidden)),
      k(carver.mat<float>(tokens, hidden)),
      v(carver.mat<float>(tokens, hidden)),
      h_q(carver.mat<float>(tokens, needs.rank)),
      h_k(carver.mat<float>(tokens, needs.rank)),
      h_v(carver.mat<float>(tokens, needs.rank)),
      h_o(carver.mat<float>(tokens, needs.rank)),
      own(carver.mat<float>(needs.dora ? tokens : 0, hidden)) {}

SwaRow::SwaRow(Carver& carver, std::size_t tokens, std::size_t hidden, std::size_t heads, const AdapterNeeds& needs)
    : in(carver, tokens, hidden, needs),
      y(carver.mat<float>(tokens, hidden)),
      log_sums(carver.mat<float>(heads, tokens)) {}

SwaBackScratch::SwaBackScratch(Carver& carver, const SwaRow& row, std::size_t call, const AdapterNeeds& needs)
    : dq(needs.dora ? carver.mat<float>(row.y.rows, row.y.cols) : row.in.q),
      dk(needs.dora ? carver.mat<float>(row.y.rows, row.y.cols) : row.in.k),
      dv(needs.dora ? carver.mat<float>(row.y.rows, row.y.cols) : row.in.v),
      dy(carver.mat<float>(row.y.rows, row.y.cols)),
      dh(carver.mat<float>(call, needs.rank)),
      scaled(carver.mat<float>(needs.dora ? call : 0, row.y.cols)) {}

void swa_forward(Device& device, const SwaWeights& w, Mat<const float> x, const KvCache& cache, std::uint64_t position,
                 std::size_t window, const SwaScratch& scratch, const LinearScratch& linear, Mat<float> residual) {
  const Mat<float> q = scratch.q.rows_from(0, x.rows);
  const Mat<float> k = scratch.k.rows_from(0, x.rows);
  const Mat<float> v = scratch.v.rows_from(0, x.rows);
  linear_forward(device, qkv_calls(w, x, 0, scratch), linear);
  const bool rotates = cache.rotation != nullptr && !w.rotated;
  if (rotates) {
    for (const Mat<float> m : {q, k, v}) device.rotate(*cache.rotation, /*back=*/false, m);
  }
  // The ring takes the new tokens in only after every query has seen what they would push out.
  device.attend(q, k, v, cache, position, window, q);
  device.append(k, v, position, cache);
  if (rotates) device.rotate(*cache.rotation, /*back=*/true, q);
  const LinearCall out = out_call(w, q, 0, scratch, residual);
  linear_forward(device, {&out, 1}, linear);
}

void swa_project(Device& device, const SwaWeights& w, Mat<const float> x, std::size_t first, const SwaRow& row,
                 const LinearScratch& linear) {
  linear_forward(device, qkv_calls(w, x, first, row.in), linear);
}

void swa_attend(Device& device, std::span<const std::uint32_t> starts, std::size_t tokens, std::size_t window,
                const SwaRow& row) {
  each_sequence(starts, tokens, [&](std::size_t first, std::size_t count) {
    device.attend_alone(row.in.q.rows_from(first, count), row.in.k.rows_from(first, count),
                        row.in.v.rows_from(first, count), row.log_sums.rows, window, row.y.rows_from(first, count),
                        columns(row.log_sums, first, count));
  });
}

void swa_output(Device& device, const SwaWeights& w, std::size_t first, const SwaRow& row, const LinearScratch& linear,
                Mat<float> residual) {
  const LinearCall out = out_call(w, row.y.rows_from(first, residual.rows), first, row.in, residual);
  linear_forward(device, {&out, 1}, linear);
}

void swa_output_backward(Device& device, const SwaWeights& w, std::size_t first, const SwaRow& row,
                         Mat<const float> dresidual, const SwaBackScratch& s, const LinearScratch& linear) {
  const std::size_t T = dresidual.rows;
  const Mat<float> residual{nullptr, T, dresidual.cols};
  const LinearBack out{out_call(w, row.y.rows_from(first, T), first, row.in, residual),
                       dresidual,
                       s.dy.rows_from(first, T),
                       false,
                       s.dh.rows_from(0, T),
                       some_rows(s.scaled, 0, T)};
  linear_backward(device, {&out, 1}, linear);
}

void swa_attend_backward(Device& device, std::span<const std::uint32_t> starts, std::size_t tokens, std::size_t window,
                         const SwaRow& row, const SwaBackScratch& s) {
  each_sequence(starts, tokens, [&](std::size_t first, std::size_t count) {
    device.attend_backward(row.in.q.rows_from(first, count), row.in.k.rows_from(first, count),
                           row.in.v.rows_from(first, count), row.log_sums.rows, window, row.y.rows_from(first, count),
                           columns(row.log_sums, first, count), s.dy.rows_from(first, count),
                           s.dq.rows_from(first, count), s.dk.rows_from(first, count), s.dv.rows_from(first, count));
  });
}

void swa_project_backward(Device& device, const SwaWeights& w, Mat<const float> x, std::size_t first, const SwaRow& row,
                          const SwaBackScratch& s, const LinearScratch& linear, Mat<float> dx) {
  const std::size_t T = x.rows;
  const std::array<LinearCall, 3> calls = qkv_calls(w, x, first, row.in);
  const Mat<float> from[3] = {s.dq, s.dk, s.dv};
  for (std::size_t i = 0; i < 3; ++i) {
    const LinearBack back{calls[i],       from[i].rows_from(first, T), dx,
                          /*add=*/i != 0, s.dh.rows_from(0, T),        some_rows(s.scaled, 0, T)};
    linear_backward(device, {&back, 1}, linear);
  }
}

}  // namespace axon
