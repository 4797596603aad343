#pragma once
// Causal sliding-window attention: query q sees exactly the keys with 0 <= q - k < window. No biases, no positions.

#include <span>

#include "kernels/device.h"
#include "layers/linear.h"
#include "memory/arena.h"

namespace axon {

struct SwaWeights {
  Linear q_proj, k_proj, v_proj, o_proj;  // [D, D] each
  bool rotated = false;                   // q, k, v come in the basis of the compressed cache, o takes it back
};

struct SwaScratch {
  Mat<float> q, k, v;             // [T, D]
  Mat<float> h_q, h_k, h_v, h_o;  // [T, R]
  Mat<float> own;                 // [T, D], DoRA
  SwaScratch() = default;
  SwaScratch(Carver& carver, std::size_t tokens, std::size_t hidden, const AdapterNeeds& needs);
};

// residual += attention(x); tokens are numbered from `position`, and the ring takes them in.   x, residual [T, D]
void swa_forward(Device& device, const SwaWeights& w, Mat<const float> x, const KvCache& cache, std::uint64_t position,
                 std::size_t window, const SwaScratch& scratch, const LinearScratch& linear, Mat<float> residual);

// The three steps of training, where all tokens of a row are there at once and the past is among them.
struct SwaRow {
  SwaScratch in;        // q, k, v and what adapters leave; own: of o_proj
  Mat<float> y;         // [T, D] attention's output
  Mat<float> log_sums;  // [H, T]
  SwaRow() = default;
  SwaRow(Carver& carver, std::size_t tokens, std::size_t hidden, std::size_t heads, const AdapterNeeds& needs);
};

// Rows [first, first + x.rows) of q, k and v.   x [T, D]
void swa_project(Device& device, const SwaWeights& w, Mat<const float> x, std::size_t first, const SwaRow& row,
                 const LinearScratch& linear);
// y of the sequences that begin at `starts` (ascending, the first 0) and together have `tokens` tokens.
void swa_attend(Device& device, std::span<const std::uint32_t> starts, std::size_t tokens, std::size_t window,
                const SwaRow& row);
// residual += o_proj(y[first ...]).   residual [T, D]
void swa_output(Device& device, const SwaWeights& w, std::size_t first, const SwaRow& row, const LinearScratch& linear,
                Mat<float> residual);

struct SwaBackScratch {
  Mat<float> dq, dk, dv;  // [T, D] of a whole row; without DoRA in the place of q, k and v
  Mat<float> dy;          // [T, D]
  Mat<float> dh;          // [T of a call, R]
  Mat<float> scaled;      // [T of a call, D], DoRA
  SwaBackScratch() = default;
  // `call`: tokens of one call of the steps that are not attention.
  SwaBackScratch(Carver& carver, const SwaRow& row, std::size_t call, const AdapterNeeds& needs);
};

// The same steps backwards. dresidual [T, D] of rows `first` on gives scratch.dy of those.
void swa_output_backward(Device& device, const SwaWeights& w, std::size_t first, const SwaRow& row,
                         Mat<const float> dresidual, const SwaBackScratch& scratch, const LinearScratch& linear);
void swa_attend_backward(Device& device, std::span<const std::uint32_t> starts, std::size_t tokens, std::size_t window,
                         const SwaRow& row, const SwaBackScratch& scratch);
// dx (=) [T, D] of x [T, D], the rows from `first` on.
void swa_project_backward(Device& device, const SwaWeights& w, Mat<const float> x, std::size_t first, const SwaRow& row,
                          const SwaBackScratch& scratch, const LinearScratch& linear, Mat<float> dx);

}  // namespace axon
