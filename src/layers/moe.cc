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

// Calls of all experts that have tokens, [X], then maybe the shared one's; `Which` tells one matrix from another.
struct Experts {
  const MoeShape& shape;
  const MoeScratch& s;
  std::size_t tokens;  // of the call
  std::size_t routed() const { return tokens * shape.top_k; }
  std::size_t begin(std::size_t e) const { return s.borders[e]; }
  std::size_t rows(std::size_t e) const { return s.borders[e + 1] - s.borders[e]; }
  std::span<const std::uint32_t> taken(std::size_t e) const { return s.tokens.subspan(begin(e), rows(e)); }

  // From x [T, D] into the expert: gate or up.
  LinearCall in(const Linear& stack, std::size_t e, Mat<const float> x, const Mat<float>& y,
                const Mat<float>& h) const {
    return {stack.expert(e * shape.ffn, shape.ffn), x, taken(e), y.rows_from(begin(e), rows(e)),
            h.rows_from(begin(e), rows(e))};
  }
  LinearCall shared_in(const Linear& w, Mat<const float> x, const Mat<float>& y, const Mat<float>& h) const {
    return {w, x, {}, y.rows_from(routed(), tokens), h.rows_from(routed(), tokens)};
  }
  LinearCall down(const Linear& stack, std::size_t e) const {
    return {stack.expert(e * shape.hidden, shape.hidden),
            s.act.rows_from(begin(e), rows(e)),
            {},
            s.out.rows_from(begin(e), rows(e)),
            s.h_down.rows_from(begin(e), rows(e))};
  }
  LinearCall shared_down(const Linear& w) const {
    return {w,
            s.act.rows_from(routed(), tokens),
            {},
            s.out.rows_from(routed(), tokens),
            s.h_down.rows_from(routed(), tokens)};
  }
};

LinearCall router_call(const MoeWeights& w, Mat<const float> x, const MoeScratch& s) {
  return {w.router, x, {}, s.router.rows_from(0, x.rows), {}};
}
LinearCall shared_gate_call(const MoeWeights& w, Mat<const float> x, const MoeScratch& s) {
  return {w.shared_gate, x, {}, s.shared_gate.rows_from(0, x.rows), {}};
}

}  // namespace

MoeScratch::MoeScratch(Carver& carver, std::size_t tokens_max, const MoeShape& shape, const AdapterNeeds& needs)
    : router(carver.mat<float>(tokens_max, shape.experts)),
      shared_gate(carver.mat<float>(tokens_max, 1)),
      chosen(carver.mat<std::uint32_t>(tokens_max, shape.top_k)),
      scores(carver.mat<float>(tokens_max, shape.top_k)),
      slots(carver.mat<std::uint32_t>(tokens_max, shape.top_k)),
      tokens(carver.span<std::uint32_t>(tokens_max * shape.top_k)),
      borders(carver.span<std::uint32_t>(shape.experts + 1)),
      gate(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      up(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      act(needs.backward ? carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn) : gate),
      out(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.hidden)),
      h_gate(carver.mat<float>(tokens_max * (shape.top_k + 1), needs.rank)),
      h_up(carver.mat<float>(tokens_max * (shape.top_k + 1), needs.rank)),
      h_down(carver.mat<float>(tokens_max * (shape.top_k + 1), needs.rank)),
      calls(carver.span<LinearCall>(2 * shape.experts + 4)) {}

MoeBackScratch::MoeBackScratch(Carver& carver, std::size_t tokens_max, const MoeShape& shape, const AdapterNeeds& needs)
    : dout(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.hidden)),
      dact(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      dgate(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      dup(carver.mat<float>(tokens_max * (shape.top_k + 1), shape.ffn)),
      dscores(carver.mat<float>(tokens_max, shape.top_k)),
      drouter(carver.mat<float>(tokens_max, shape.experts)),
      dshared_gate(carver.mat<float>(tokens_max, 1)),
      dh(carver.mat<float>(tokens_max * (shape.top_k + 1), needs.rank)),
      scaled(carver.mat<float>(needs.dora ? tokens_max * (shape.top_k + 1) : 0, std::max(shape.hidden, shape.ffn))),
      calls(carver.span<LinearBack>(shape.experts + 1)) {}

void moe_inside(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x, const MoeScratch& s,
                const LinearScratch& linear) {
  const std::size_t T = x.rows;
  const Experts experts{shape, s, T};
  const std::array<LinearCall, 4> first = {router_call(w, x, s), shared_gate_call(w, x, s),
                                           experts.shared_in(w.shared_gate_proj, x, s.gate, s.h_gate),
                                           experts.shared_in(w.shared_up_proj, x, s.up, s.h_up)};
  linear_forward(device, first, linear);
  device.route(s.router.rows_from(0, T), s.chosen.rows_from(0, T), s.scores.rows_from(0, T));
  group_by_expert(s.chosen.rows_from(0, T), s);

  std::size_t count = 0;
  for (std::size_t e = 0; e < shape.experts; ++e) {
    if (experts.rows(e) == 0) continue;
    s.calls[count++] = experts.in(w.gate_proj, e, x, s.gate, s.h_gate);
    s.calls[count++] = experts.in(w.up_proj, e, x, s.up, s.h_up);
  }
  linear_forward(device, s.calls.first(count), linear);
  const std::size_t rows = experts.routed() + T;
  device.swiglu(s.gate.rows_from(0, rows), s.up.rows_from(0, rows), s.act.rows_from(0, rows));

  count = 0;
  for (std::size_t e = 0; e < shape.experts; ++e) {
    if (experts.rows(e) != 0) s.calls[count++] = experts.down(w.down_proj, e);
  }
  s.calls[count++] = experts.shared_down(w.shared_down_proj);
  linear_forward(device, s.calls.first(count), linear);
}

void moe_forward(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x, const MoeScratch& s,
                 const LinearScratch& linear, Mat<float> residual) {
  moe_inside(device, w, shape, x, s, linear);
  const std::size_t T = x.rows, routed = T * shape.top_k;
  device.combine(s.out.rows_from(0, routed), s.slots.rows_from(0, T), s.scores.rows_from(0, T),
                 s.out.rows_from(routed, T), s.shared_gate.rows_from(0, T), residual);
}

void moe_backward(Device& device, const MoeWeights& w, const MoeShape& shape, Mat<const float> x,
                  const MoeScratch& saved, Mat<const float> dy, const MoeBackScratch& s, const LinearScratch& linear,
                  Mat<float> dx) {
  const std::size_t T = x.rows, routed = T * shape.top_k, rows = routed + T;
  const Experts experts{shape, saved, T};
  const Mat<float> dout = s.dout.rows_from(0, rows);
  const Mat<float> drouter = s.drouter.rows_from(0, T), dshared_gate = s.dshared_gate.rows_from(0, T);
  const Mat<float> dscores = s.dscores.rows_from(0, T);
  const auto slots = saved.slots.rows_from(0, T);

  // residual += sum of scores * out + sigmoid(shared_gate) * shared out
  device.combine_backward(saved.out.rows_from(0, routed), slots, saved.scores.rows_from(0, T),
                          saved.out.rows_from(routed, T), saved.shared_gate.rows_from(0, T), dy,
                          dout.rows_from(0, routed), dscores, dout.rows_from(routed, T), dshared_gate);

  // `call` of rows [begin, begin + count) of the grouped and shared ones.
  const auto back = [&](const LinearCall& call, std::size_t begin, const Mat<float>& from, Mat<float> to, bool add) {
    const std::size_t count = call.y.rows;
    const Mat<float> scaled{s.scaled.rows == 0 ? nullptr : s.scaled.row_ptr(begin), count, call.linear.rows,
                            s.scaled.stride};
    return LinearBack{call, from.rows_from(begin, count), to, add, s.dh.rows_from(begin, count), scaled};
  };
  // out = down(act)
  std::size_t count = 0;
  for (std::size_t e = 0; e < shape.experts; ++e) {
    if (experts.rows(e) == 0) continue;
    const std::size_t begin = experts.begin(e);
    s.calls[count++] = back(experts.down(w.down_proj, e), begin, dout, s.dact.rows_from(begin, experts.rows(e)), false);
  }
  s.calls[count++] = back(experts.shared_down(w.shared_down_proj), routed, dout, s.dact.rows_from(routed, T), false);
  linear_backward(device, s.calls.first(count), linear);

  // act = silu(gate) * up
  device.swiglu_backward(saved.gate.rows_from(0, rows), saved.up.rows_from(0, rows), s.dact.rows_from(0, rows),
                         s.dgate.rows_from(0, rows), s.dup.rows_from(0, rows));

  // gate = gate_proj(x), up = up_proj(x): of the grouped rows into dout's place, of the shared expert into dx
  for (const bool is_up : {false, true}) {
    const Linear& stack = is_up ? w.up_proj : w.gate_proj;
    const Linear& shared = is_up ? w.shared_up_proj : w.shared_gate_proj;
    const Mat<float>& y = is_up ? saved.up : saved.gate;
    const Mat<float>& h = is_up ? saved.h_up : saved.h_gate;
    const Mat<float>& from = is_up ? s.dup : s.dgate;
    count = 0;
    for (std::size_t e = 0; e < shape.experts; ++e) {
      if (experts.rows(e) == 0) continue;
      const std::size_t begin = experts.begin(e);
      s.calls[count++] =
          back(experts.in(stack, e, x, y, h), begin, from, dout.rows_from(begin, experts.rows(e)), is_up);
    }
    s.calls[count++] = back(experts.shared_in(shared, x, y, h), routed, from, dx, is_up);
    linear_backward(device, s.calls.first(count), linear);
  }
  device.add_rows(dout.rows_from(0, routed), slots, dx);

  // scores = softmax(router) of the chosen
  device.route_backward(saved.router.rows_from(0, T), saved.chosen.rows_from(0, T), dscores, drouter);
  for (const bool is_router : {true, false}) {
    const LinearBack gates{is_router ? router_call(w, x, saved) : shared_gate_call(w, x, saved),
                           is_router ? drouter : dshared_gate,
                           dx,
                           true,
                           {},
                           {}};
    linear_backward(device, {&gates, 1}, linear);
  }
}

}  // namespace axon
