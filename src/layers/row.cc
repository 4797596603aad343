#include "layers/row.h"

#include <algorithm>

namespace axon {
namespace {

template <class F>
void each_chunk(const Row& row, std::size_t chunk, F&& f) {
  for (std::size_t first = 0; first < row.tokens; first += chunk) f(first, std::min(chunk, row.tokens - first));
}
template <class F>
void each_chunk_back(const Row& row, std::size_t chunk, F&& f) {
  for (std::size_t i = (row.tokens + chunk - 1) / chunk; i-- > 0;) {
    f(i * chunk, std::min(chunk, row.tokens - i * chunk));
  }
}

// The sequences' parts among rows [first, first + count).
std::span<const Run> runs_of(const Row& row, std::size_t first, std::size_t count, std::span<Run> runs) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < row.starts.size(); ++i) {
    const std::size_t begin = std::max<std::size_t>(row.starts[i], first);
    const std::size_t end = std::min(i + 1 < row.starts.size() ? row.starts[i + 1] : row.tokens, first + count);
    if (begin < end) runs[found++] = {begin - first, end - begin, begin == row.starts[i]};
  }
  return runs.first(found);
}

void copy_rows(Mat<const float> from, Mat<float> to) {
  for (std::size_t t = 0; t < from.rows; ++t) std::ranges::copy(from.row(t), to.row_ptr(t));
}

// Each token has numbers of its own in the streams of dropout, also where experts take it top_k times.
LinearScratch linear_at(const RowScratch& s, const BlockShape& shape, const Row& row, std::size_t first) {
  LinearScratch linear = s.linear;
  linear.first_token = (row.first_token + first) * (shape.moe.top_k + 1);
  return linear;
}

class Block {
 public:
  Block(Device& device, const BlockWeights& w, const BlockShape& shape, const Row& row, const RowScratch& scratch,
        Mat<const float> x_in)
      : device_(device), w_(w), shape_(shape), row_(row), s_(scratch), x_in_(x_in) {}

  void ssm_forward_row(const SsmWeights& w, std::span<SsmState> borders, Mat<float> x_out) {
    SsmState state = s_.state;
    clear(state);
    each_chunk(row_, s_.chunk, [&](std::size_t first, std::size_t count) {
      if (first != 0) copy(state, borders[first / s_.chunk - 1]);
      const Mat<float> normed = norm(first, count), x = x_out.rows_from(first, count);
      copy_rows(x_in_.rows_from(first, count), x);
      ssm_forward(device_, w, normed, runs_of(row_, first, count, s_.runs), state, s_.ssm, linear(first), x);
      experts_forward(first, x);
    });
  }

  void swa_forward_row(const SwaWeights& w, Mat<float> x_out) {
    attention(w);
    each_chunk(row_, s_.chunk, [&](std::size_t first, std::size_t count) {
      const Mat<float> x = x_out.rows_from(first, count);
      copy_rows(x_in_.rows_from(first, count), x);
      swa_output(device_, w, first, s_.swa, linear(first), x);
      experts_forward(first, x);
    });
  }

  void ssm_backward_row(const SsmWeights& w, std::span<const SsmState> borders, Mat<float> dx_row) {
    SsmState state = s_.state, carry = s_.carry;
    clear(carry);
    each_chunk_back(row_, s_.chunk, [&](std::size_t first, std::size_t count) {
      const SsmState& start = first == 0 ? s_.zero : borders[first / s_.chunk - 1];
      copy(start, state);
      const auto runs = runs_of(row_, first, count, s_.runs);
      const Mat<float> normed = norm(first, count), dx = dx_row.rows_from(first, count);
      if (w_.ffn || (w.out_proj.adapter != nullptr && w.out_proj.adapter->dora())) {
        const Mat<float> x = s_.x.rows_from(0, count);
        copy_rows(x_in_.rows_from(first, count), x);
        ssm_forward(device_, w, normed, runs, state, s_.ssm, linear(first), x);
        experts_backward(first, x, dx);
      } else {
        ssm_again(device_, w, normed, runs, state, s_.ssm, linear(first));
      }
      const Mat<float> dnormed = s_.dnormed.rows_from(0, count);
      ssm_backward(device_, w, normed, runs, start, s_.zero, s_.ssm, dx, carry, s_.ssm_back, linear(first), dnormed);
      norm_backward(first, count, dnormed, dx);
    });
  }

  void swa_backward_row(const SwaWeights& w, Mat<float> dx_row) {
    attention(w);
    each_chunk_back(row_, s_.chunk, [&](std::size_t first, std::size_t count) {
      const Mat<float> x = s_.x.rows_from(0, count), dx = dx_row.rows_from(first, count);
      copy_rows(x_in_.rows_from(first, count), x);
      swa_output(device_, w, first, s_.swa, linear(first), x);
      experts_backward(first, x, dx);
      swa_output_backward(device_, w, first, s_.swa, dx, s_.swa_back, linear(first));
    });
    swa_attend_backward(device_, row_.starts, row_.tokens, shape_.window, s_.swa, s_.swa_back);
    each_chunk_back(row_, s_.chunk, [&](std::size_t first, std::size_t count) {
      const Mat<float> dnormed = s_.dnormed.rows_from(0, count);
      swa_project_backward(device_, w, norm(first, count), first, s_.swa, s_.swa_back, linear(first), dnormed);
      norm_backward(first, count, dnormed, dx_row.rows_from(first, count));
    });
  }

 private:
  LinearScratch linear(std::size_t first) const { return linear_at(s_, shape_, row_, first); }

  Mat<float> norm(std::size_t first, std::size_t count) {
    const Mat<float> normed = s_.normed.rows_from(0, count);
    device_.rms_norm(x_in_.rows_from(first, count), w_.input_norm, shape_.eps, normed);
    return normed;
  }
  void norm_backward(std::size_t first, std::size_t count, Mat<const float> dnormed, Mat<float> dx) {
    device_.rms_norm_backward(x_in_.rows_from(first, count), w_.input_norm, shape_.eps, dnormed, dx);
  }

  // q, k, v and attention's output of the whole row.
  void attention(const SwaWeights& w) {
    each_chunk(row_, s_.chunk, [&](std::size_t first, std::size_t count) {
      swa_project(device_, w, norm(first, count), first, s_.swa, linear(first));
    });
    swa_attend(device_, row_.starts, row_.tokens, shape_.window, s_.swa);
  }

  void experts_forward(std::size_t first, Mat<float> x) {
    if (!w_.ffn) return;
    const Mat<float> normed = s_.ffn_normed.rows_from(0, x.rows);
    device_.rms_norm(x, w_.ffn->norm, shape_.eps, normed);
    moe_forward(device_, w_.ffn->moe, shape_.moe, normed, s_.moe, linear(first), x);
  }
  // x: what came out of the mixer.
  void experts_backward(std::size_t first, Mat<const float> x, Mat<float> dx) {
    if (!w_.ffn) return;
    const Mat<float> normed = s_.ffn_normed.rows_from(0, x.rows), dnormed = s_.dnormed.rows_from(0, x.rows);
    device_.rms_norm(x, w_.ffn->norm, shape_.eps, normed);
    moe_inside(device_, w_.ffn->moe, shape_.moe, normed, s_.moe, linear(first));
    moe_backward(device_, w_.ffn->moe, shape_.moe, normed, s_.moe, dx, s_.moe_back, linear(first), dnormed);
    device_.rms_norm_backward(x, w_.ffn->norm, shape_.eps, dnormed, dx);
  }

  Device& device_;
  const BlockWeights& w_;
  const BlockShape& shape_;
  const Row& row_;
  const RowScratch& s_;
  Mat<const float> x_in_;
};

}  // namespace

SsmState carve_state(Carver& carver, const BlockShape& shape) {
  return {.h = carver.mat<float>(shape.ssm.state, shape.ssm.inner),
          .tail = carver.mat<float>(shape.taps - 1, shape.ssm.inner)};
}

RowScratch::RowScratch(Carver& carver, const RowShape& row, const BlockShape& shape)
    : chunk(row.chunk),
      normed(carver.mat<float>(chunk, shape.hidden())),
      ffn_normed(carver.mat<float>(chunk, shape.hidden())),
      dnormed(carver.mat<float>(chunk, shape.hidden())),
      x(carver.mat<float>(chunk, shape.hidden())),
      runs(carver.span<Run>(chunk)),
      linear(carver, chunk * (shape.moe.top_k + 1), shape.calls_max(), shape.in_max(), row.needs),
      state(carve_state(carver, shape)),
      carry(carve_state(carver, shape)),
      zero(carve_state(carver, shape)) {
  const std::size_t mixers = carver.mark();
  swa = SwaRow(carver, row.tokens_max, shape.hidden(), shape.heads, row.needs);
  swa_back = SwaBackScratch(carver, swa, chunk, row.needs);
  const std::size_t after_swa = carver.mark();
  carver.rewind(mixers);
  ssm = SsmScratch(carver, chunk, shape.ssm, row.needs);
  const std::size_t after_ssm = carver.mark();
  ssm_back = SsmBackScratch(carver, chunk, shape.ssm, row.needs);
  carver.rewind(after_ssm);
  if (after_ssm < after_swa) carver.span<std::byte>(after_swa - after_ssm);
  moe = MoeScratch(carver, chunk, shape.moe, row.needs);
  moe_back = MoeBackScratch(carver, chunk, shape.moe, row.needs);
}

void row_forward(Device& device, const BlockWeights& w, const BlockShape& shape, const Row& row,
                 std::span<SsmState> borders, const RowScratch& scratch, Mat<const float> x_in, Mat<float> x_out) {
  Block block(device, w, shape, row, scratch, x_in);
  if (const auto* ssm = std::get_if<SsmWeights>(&w.mixer)) return block.ssm_forward_row(*ssm, borders, x_out);
  block.swa_forward_row(std::get<SwaWeights>(w.mixer), x_out);
}

void row_backward(Device& device, const BlockWeights& w, const BlockShape& shape, const Row& row,
                  std::span<const SsmState> borders, const RowScratch& scratch, Mat<const float> x_in, Mat<float> dx) {
  Block block(device, w, shape, row, scratch, x_in);
  if (const auto* ssm = std::get_if<SsmWeights>(&w.mixer)) return block.ssm_backward_row(*ssm, borders, dx);
  block.swa_backward_row(std::get<SwaWeights>(w.mixer), dx);
}

}  // namespace axon
