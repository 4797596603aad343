#include "layers/linear.h"

#include <algorithm>

#include "tensor/dtype.h"

namespace axon {
namespace {

Weight weight_of(Mat<const float> m) {
  AXON_DCHECK(m.stride == m.cols);
  return {.data = m.data, .rows = m.rows, .cols = m.cols, .dtype = DType::kF32, .affine = {}};
}

std::size_t tokens_of(const LinearCall& c) { return c.y.rows; }
Mat<float> ranks_of(const Mat<float>& h, const Adapter& a) { return h.cols_from(0, a.rank()); }

// What of x goes into the adapter: x itself, or what dropout leaves of the rows that are taken.
struct AdapterInput {
  Mat<const float> x;
  std::span<const std::uint32_t> rows;
};
Dropout dropout_of(const LinearCall& c, const LinearScratch& s) {
  const std::uint64_t first = s.first_token * c.linear.cols;
  return {.seed = s.seed, .stream = c.linear.adapter->stream, .first = first, .p = s.dropout};
}
AdapterInput adapter_input(Device& device, const LinearCall& c, const LinearScratch& s) {
  if (s.dropout == 0.0f) return {c.x, c.x_rows};
  const Mat<float> out{s.dropped.data, tokens_of(c), c.linear.cols};
  Mat<const float> x = c.x;
  if (!c.x_rows.empty()) {
    for (std::size_t t = 0; t < out.rows; ++t) std::ranges::copy(c.x.row(c.x_rows[t]), out.row_ptr(t));
    x = out;
  }
  device.dropout(dropout_of(c, s), x, out, /*add=*/false);
  return {out, {}};
}

void low_rank(Device& device, const LinearCall& c, const LinearScratch& s) {
  const Adapter& a = *c.linear.adapter;
  const AdapterInput in = adapter_input(device, c, s);
  const Product product{weight_of(a.a), in.x, in.rows, ranks_of(c.h, a)};
  device.matmul({&product, 1});
}

void round_half(Mat<float> m) {
  for (std::size_t t = 0; t < m.rows; ++t) {
    for (float& v : m.row(t)) v = f16_to_float(float_to_f16(v));
  }
}
void add_rounded(Device& device, const LinearCall& c, Mat<const float> h) {
  device.matmul_transposed(weight_of(c.linear.adapter->b), h, c.own);
  round_half(c.own);
  for (std::size_t t = 0; t < c.y.rows; ++t) {
    for (std::size_t i = 0; i < c.y.cols; ++i) c.y.row_ptr(t)[i] += c.own.row_ptr(t)[i];
  }
}

// y before it is added to anything.
Mat<float> sum_of(const LinearCall& c) { return c.linear.adapter->dora() && c.add ? c.own : c.y; }

}  // namespace

LinearScratch::LinearScratch(Carver& carver, std::size_t tokens, std::size_t calls, std::size_t in_max,
                             const AdapterNeeds& needs)
    : products(carver.span<Product>(needs.rank == 0 ? calls : 2 * calls)),
      outers(carver.span<OuterProduct>(needs.backward ? 2 : 0)),
      dropped(carver.mat<float>(needs.dropout ? tokens : 0, in_max)) {}

void linear_forward(Device& device, std::span<const LinearCall> calls, const LinearScratch& s) {
  std::size_t count = 0;
  for (const LinearCall& c : calls) {  // the first halves of adapters read what the weights read: one call
    const Adapter* a = c.linear.adapter;
    s.products[count++] = a == nullptr ? Product{c.linear, c.x, c.x_rows, c.y, c.add}
                                       : Product{c.linear, c.x, c.x_rows, sum_of(c), c.add && !a->dora()};
    if (a == nullptr) continue;
    if (s.dropout == 0.0f) {
      s.products[count++] = {weight_of(a->a), c.x, c.x_rows, ranks_of(c.h, *a)};
    } else {
      low_rank(device, c, s);
    }
  }
  device.matmul(s.products.first(count));
  count = 0;
  for (const LinearCall& c : calls) {
    const Adapter* a = c.linear.adapter;
    if (a == nullptr) continue;
    const Mat<float> h = ranks_of(c.h, *a);
    device.scale_columns(h, a->scale, h, /*add=*/false);
    if (a->half) {
      add_rounded(device, c, h);
    } else {
      s.products[count++] = {weight_of(a->b), h, {}, sum_of(c), /*add=*/true};
    }
  }
  if (count == 0) return;
  device.matmul_transposed(s.products.first(count));
  for (const LinearCall& c : calls) {
    const Adapter* a = c.linear.adapter;
    if (a == nullptr || !a->dora()) continue;
    device.scale_columns(sum_of(c), a->columns, c.y, c.add);
  }
}

void linear_low_rank(Device& device, const LinearCall& call, const LinearScratch& scratch) {
  const Adapter* a = call.linear.adapter;
  if (a == nullptr) return;
  low_rank(device, call, scratch);
  const Mat<float> h = ranks_of(call.h, *a);
  device.scale_columns(h, a->scale, h, /*add=*/false);
}

namespace {

// y = columns * sum: dcolumns, as the sum of dy * y, and what becomes of dy. A sum that was added is still itself, any
// other has been multiplied.
Mat<const float> through_columns(Device& device, const LinearBack& back) {
  const LinearCall& c = back.forward;
  const Adapter* a = c.linear.adapter;
  if (a == nullptr || !a->dora()) return back.dy;
  device.scale_columns(back.dy, a->columns, back.scaled, /*add=*/false);
  if (!a->dcolumns.empty())
    device.add_column_dots(c.add ? Mat<const float>(back.scaled) : back.dy, sum_of(c), a->dcolumns);
  return back.scaled;
}

// sum = W x + B^T h, h = s A x: dB += h dy^T, dh = s B dy, dA += dh x^T, dx += A^T dh.
void adapter_backward(Device& device, const LinearBack& back, Mat<const float> dy, const LinearScratch& s) {
  const LinearCall& c = back.forward;
  const Adapter& a = *c.linear.adapter;
  const Mat<float> h = ranks_of(c.h, a), dh = ranks_of(back.dh, a);
  device.matmul(weight_of(a.b), dy, dh);
  device.scale_columns(dh, a.scale, dh, /*add=*/false);
  const AdapterInput in = adapter_input(device, c, s);
  const std::size_t learning = a.da.rows;
  if (learning != 0) {
    s.outers[0] = {dh.cols_from(0, learning), in.x, in.rows, 1.0f, a.da};
    s.outers[1] = {h.cols_from(0, learning), dy, {}, 1.0f, a.db};
    device.add_outer(s.outers);
  }
  if (back.dx.data == nullptr) return;
  if (s.dropout == 0.0f) return device.matmul_transposed(weight_of(a.a), dh, back.dx, /*add=*/true);
  const Mat<float> dropped{s.dropped.data, back.dx.rows, back.dx.cols};
  device.matmul_transposed(weight_of(a.a), dh, dropped);
  device.dropout(dropout_of(c, s), dropped, back.dx, /*add=*/true);
}

}  // namespace

void linear_backward(Device& device, std::span<const LinearBack> calls, const LinearScratch& s) {
  std::size_t count = 0;
  for (const LinearBack& back : calls) {
    const Mat<const float> dy = through_columns(device, back);
    if (back.dx.data != nullptr) s.products[count++] = {back.forward.linear, dy, {}, back.dx, back.add};
  }
  if (count != 0) device.matmul_transposed(s.products.first(count));
  for (const LinearBack& back : calls) {
    const Adapter* a = back.forward.linear.adapter;
    if (a == nullptr) continue;
    if (a->half) {
      for (std::size_t t = 0; t < back.dy.rows; ++t) std::ranges::copy(back.dy.row(t), back.scaled.row_ptr(t));
      round_half(back.scaled);
    }
    adapter_backward(device, back, a->dora() || a->half ? Mat<const float>(back.scaled) : back.dy, s);
  }
}

}  // namespace axon
