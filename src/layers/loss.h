#pragma once
// The head and the loss: logits of a few tokens at a time, so that [T, V] never exists, and of none that has no label.

#include <span>

#include "layers/linear.h"
#include "memory/arena.h"

namespace axon {

struct HeadWeights {
  Linear output_proj;  // [S, D]
  Weight lm_head;      // [V, S]
};

struct LossScratch {
  Mat<float> source;                // [rows, S]
  Mat<float> logits;                // [rows, V]; then their gradient
  Mat<float> dsource;               // [rows, S]
  Mat<float> dx;                    // [rows, D]
  Mat<float> h, dh;                 // [rows, R]
  Mat<float> scaled;                // [rows, S], DoRA
  std::span<std::uint32_t> tokens;  // [rows] that have labels
  std::span<std::uint32_t> labels;  // [rows]
  std::span<float> factors, loss;   // [rows]
  LossScratch() = default;
  // source_dim S, vocab V, hidden D
  LossScratch(Carver& carver, std::size_t rows, std::size_t source_dim, std::size_t vocab, std::size_t hidden,
              const AdapterNeeds& needs);
};

// loss[t] = -log softmax(head(x[t]))[labels[t]], 0 for kNoLabel.   x [T, D]   labels, loss [T]
void loss_forward(Device& device, const HeadWeights& w, Mat<const float> x, std::span<const std::uint32_t> labels,
                  const LossScratch& scratch, const LinearScratch& linear, std::span<float> loss);
// The same, and back: dx (=) of sum_t factors[t] * loss[t].   factors [T]   dx [T, D]
void loss_backward(Device& device, const HeadWeights& w, Mat<const float> x, std::span<const std::uint32_t> labels,
                   std::span<const float> factors, const LossScratch& scratch, const LinearScratch& linear,
                   std::span<float> loss, Mat<float> dx);

}  // namespace axon
