#include "layers/moe.h"

#include <algorithm>
#include <array>

namespace axon {
namespace {

// Counting sort of the choices by expert; inside an expert, rows keep the order of the tokens.
void group_by_expert(Mat<const std::uint32_t> chosen, const MoeScratch& s) {
  std::fill(s.borders.begin(), s.borders.end(), 0u);
  for (std::size_t t = 0; t < chosen.rows; ++t) {
    for (const std::uint32_t expert : chosen.row(t)) ++s.borders[expert + 1];
  }
  for (std::size_t e = 1; e < s.borders.size(); ++e) s.borders[e] += s.borders[e - 1];
  for (std::size_t t = 0; t < chosen.rows; ++t) {
    for (std::size_t j = 0; j < chosen.cols; ++j) {
      const std::uint32_t row = s.borders[chosen.row_ptr(t)[j]]++;
      s.tokens[row] = static_cast<std::uint32_t>(t);
      s.slots.row_ptr(t)[j] = row;
    }
  }
  // Each border has moved to its expert's end, which is the next one's beginning.
  std::copy_backward(s.borders.begin(), s.borders.end() - 1, s.borders.end());
  s.borders[0] = 0;
}

}  // namespace

MoeScratch::MoeScratch(Carver& carver, std::size_t tokens_max, const MoeShape& shape)
    : router(carver.mat<float>(tokens_max, shape.experts)),
      shared_gate(carver.mat<float>(tokens_max, 1)),
      chosen(carver.mat<std::uint32_t>(tokens_max, shape.top_k)),
      scores(carver.mat<float>(tokens_max, shape.top_k)),
      slots(carver.mat<std::uint32_t>(tokens_max, shape.top_k)),
      tokens(carver.span<std::uint32_t>(tokens_max * shape.top_k)),
      borders(carver.span<std::uint32_t>(shape.experts + 1)),
      gate(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      up(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      out(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.hidden)),
      products(carver.span<Product>(2 * shape.experts + 4)) {}

void moe_forward(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x,
                 const MoeScratch& scratch, Mat<float> residual) {
  const std::size_t T = x.rows, routed = T * shape.top_k;
  const Mat<float> router = scratch.router.rows_from(0, T), shared_gate = scratch.shared_gate.rows_from(0, T);
  const Mat<std::uint32_t> chosen = scratch.chosen.rows_from(0, T), slots = scratch.slots.rows_from(0, T);
  const Mat<float> scores = scratch.scores.rows_from(0, T);
  const Mat<float> gate = scratch.gate.rows_from(0, routed + T), up = scratch.up.rows_from(0, routed + T);
  const Mat<float> out = scratch.out.rows_from(0, routed + T);

  const std::array<Product, 4> first = {Product{w.router, x, {}, router}, Product{w.shared_gate, x, {}, shared_gate},
                                        Product{w.shared_gate_proj, x, {}, gate.rows_from(routed, T)},
                                        Product{w.shared_up_proj, x, {}, up.rows_from(routed, T)}};
  device.matmul(first);
  device.route(router, chosen, scores);
  group_by_expert(chosen, scratch);

  std::size_t count = 0;
  for (std::size_t e = 0; e < shape.experts; ++e) {
    const std::size_t begin = scratch.borders[e], rows = scratch.borders[e + 1] - begin;
    if (rows == 0) continue;
    const auto tokens = std::span<const std::uint32_t>(scratch.tokens.subspan(begin, rows));
    scratch.products[count++] = {w.gate_proj.slice(e * shape.ffn, shape.ffn), x, tokens, gate.rows_from(begin, rows)};
    scratch.products[count++] = {w.up_proj.slice(e * shape.ffn, shape.ffn), x, tokens, up.rows_from(begin, rows)};
  }
  device.matmul(scratch.products.first(count));
  device.swiglu(gate, up, gate);

  count = 0;
  for (std::size_t e = 0; e < shape.experts; ++e) {
    const std::size_t begin = scratch.borders[e], rows = scratch.borders[e + 1] - begin;
    if (rows == 0) continue;
    scratch.products[count++] = {
        w.down_proj.slice(e * shape.hidden, shape.hidden), gate.rows_from(begin, rows), {}, out.rows_from(begin, rows)};
  }
  scratch.products[count++] = {w.shared_down_proj, gate.rows_from(routed, T), {}, out.rows_from(routed, T)};
  device.matmul(scratch.products.first(count));
  device.combine(out.rows_from(0, routed), slots, scores, out.rows_from(routed, T), shared_gate, residual);
}

}  // namespace axon
