#include "layers/loss.h"

#include <algorithm>

namespace axon {
namespace {

// f(count, linear) for as many tokens with labels at a time as the scratch holds; they are in scratch.tokens.
template <class F>
void each_part(std::span<const std::uint32_t> labels, const LossScratch& s, const LinearScratch& linear, F&& f) {
  std::size_t count = 0;
  LinearScratch at = linear;
  for (std::size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] != kNoLabel) {
      s.tokens[count] = static_cast<std::uint32_t>(t);
      s.labels[count++] = labels[t];
    }
    if (count == 0 || (count < s.tokens.size() && t + 1 < labels.size())) continue;
    f(count, at);
    at.first_token += count;
    count = 0;
  }
}

LinearCall output_call(const HeadWeights& w, Mat<const float> x, std::size_t count, const LossScratch& s) {
  return {w.output_proj, x, s.tokens.first(count), s.source.rows_from(0, count), s.h.rows_from(0, count)};
}

// Logits and losses of `count` tokens.
void forward(Device& device, const HeadWeights& w, Mat<const float> x, std::size_t count, const LossScratch& s,
             const LinearScratch& linear, std::span<float> loss) {
  const LinearCall call = output_call(w, x, count, s);
  const Mat<float> logits = s.logits.rows_from(0, count);
  linear_forward(device, {&call, 1}, linear);
  device.matmul(w.lm_head, s.source.rows_from(0, count), logits);
  device.cross_entropy(logits, s.labels.first(count), s.loss.first(count));
  for (std::size_t i = 0; i < count; ++i) loss[s.tokens[i]] = s.loss[i];
}

}  // namespace

LossScratch::LossScratch(Carver& carver, std::size_t rows, std::size_t source_dim, std::size_t vocab,
                         std::size_t hidden, const AdapterNeeds& needs)
    : source(carver.mat<float>(rows, source_dim)),
      logits(carver.mat<float>(rows, vocab)),
      dsource(carver.mat<float>(rows, source_dim)),
      dx(carver.mat<float>(rows, hidden)),
      h(carver.mat<float>(rows, needs.rank)),
      dh(carver.mat<float>(rows, needs.rank)),
      scaled(carver.mat<float>(needs.dora ? rows : 0, source_dim)),
      tokens(carver.span<std::uint32_t>(rows)),
      labels(carver.span<std::uint32_t>(rows)),
      factors(carver.span<float>(rows)),
      loss(carver.span<float>(rows)) {}

void loss_forward(Device& device, const HeadWeights& w, Mat<const float> x, std::span<const std::uint32_t> labels,
                  const LossScratch& s, const LinearScratch& linear, std::span<float> loss) {
  std::ranges::fill(loss, 0.0f);
  each_part(labels, s, linear,
            [&](std::size_t count, const LinearScratch& at) { forward(device, w, x, count, s, at, loss); });
}

void loss_backward(Device& device, const HeadWeights& w, Mat<const float> x, std::span<const std::uint32_t> labels,
                   std::span<const float> factors, const LossScratch& s, const LinearScratch& linear,
                   std::span<float> loss, Mat<float> dx) {
  std::ranges::fill(loss, 0.0f);
  for (std::size_t t = 0; t < dx.rows; ++t) std::ranges::fill(dx.row(t), 0.0f);
  each_part(labels, s, linear, [&](std::size_t count, const LinearScratch& at) {
    forward(device, w, x, count, s, at, loss);
    // loss = cross_entropy(logits)
    const Mat<float> dlogits = s.logits.rows_from(0, count), dsource = s.dsource.rows_from(0, count);
    for (std::size_t i = 0; i < count; ++i) s.factors[i] = factors[s.tokens[i]];
    device.cross_entropy_backward(dlogits, s.labels.first(count), s.factors.first(count));
    // logits = lm_head(source)
    device.matmul_transposed(w.lm_head, dlogits, dsource);
    // source = output_proj(x)
    const Mat<float> rows = s.dx.rows_from(0, count);
    const LinearBack back{output_call(w, x, count, s),
                          dsource,
                          rows,
                          false,
                          s.dh.rows_from(0, count),
                          s.scaled.rows == 0 ? s.scaled : s.scaled.rows_from(0, count)};
    linear_backward(device, {&back, 1}, at);
    for (std::size_t i = 0; i < count; ++i) std::ranges::copy(rows.row(i), dx.row_ptr(s.tokens[i]));
  });
}

}  // namespace axon
