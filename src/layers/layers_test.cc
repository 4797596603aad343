// Each layer against its equations, written down plainly (spec section 4), over the slow device.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/reference_device.h"
#include "layers/block.h"

namespace axon {
namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Float values that live as long as the test.
struct Matrix {
  std::size_t rows, cols;
  std::vector<float> values;
  Matrix(std::size_t r, std::size_t c, std::uint64_t seed, float scale = 1.0f) : rows(r), cols(c), values(r * c) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * CounterRng(seed).normal(i);
  }
  float at(std::size_t r, std::size_t c) const { return values[r * cols + c]; }
  Mat<float> mat() { return {values.data(), rows, cols}; }
  Weight weight() const {
    return {.data = values.data(), .rows = rows, .cols = cols, .dtype = DType::kF32, .affine = {}};
  }
  std::span<const float> span() const { return values; }
};

std::vector<double> times(const Matrix& w, std::span<const double> x, std::size_t first = 0, std::size_t rows = 0) {
  std::vector<double> y(rows == 0 ? w.rows : rows);
  for (std::size_t r = 0; r < y.size(); ++r) {
    for (std::size_t c = 0; c < w.cols; ++c) y[r] += double{w.at(first + r, c)} * x[c];
  }
  return y;
}

std::vector<double> row_of(const Matrix& m, std::size_t r) {
  return {m.values.begin() + static_cast<std::ptrdiff_t>(r * m.cols),
          m.values.begin() + static_cast<std::ptrdiff_t>((r + 1) * m.cols)};
}

template <class Scratch, class... Args>
struct Workspace {
  Ledger ledger{64_MiB};
  Arena arena;
  Scratch scratch;
  explicit Workspace(Args... args) {
    Carver measure;
    Scratch(measure, args...);
    arena = Arena::create(ledger, account::kWorkspace, measure.peak()).value();
    Carver carver = arena.carver();
    scratch = Scratch(carver, args...);
  }
};

// Within 2e-6 of the largest value: the layers hold float32 between their steps.
void expect_rows(const Matrix& came, const std::vector<std::vector<double>>& expected) {
  double largest = 0;
  for (const auto& row : expected) {
    for (const double v : row) largest = std::max(largest, std::fabs(v));
  }
  const double tolerance = 2e-6 * largest;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    for (std::size_t i = 0; i < came.cols; ++i)
      ASSERT_NEAR(double{came.at(t, i)}, expected[t][i], tolerance) << t << "," << i;
  }
}

constexpr std::size_t D = 12, F = 20, X = 5, kTopK = 2, T = 17;
constexpr std::size_t E = 10, N = 3, K = 4;
constexpr std::size_t H = 3, A = D / H, kWindow = 4;
constexpr BlockShape kShape{.ssm = {.hidden = D, .inner = E, .state = N},
                            .heads = H,
                            .window = kWindow,
                            .taps = K,
                            .moe = {.hidden = D, .experts = X, .top_k = kTopK, .ffn = F},
                            .eps = 1e-5f};

struct Moe {
  Matrix router{X, D, 1}, gate{X * F, D, 2, 0.3f}, up{X * F, D, 3, 0.3f}, down{X * D, F, 4, 0.3f}, shared_gate{1, D, 5};
  Matrix s_gate{F, D, 6, 0.3f}, s_up{F, D, 7, 0.3f}, s_down{D, F, 8, 0.3f};
  MoeWeights weights() const {
    return {router.weight(),      gate.weight(),   up.weight(),   down.weight(),
            shared_gate.weight(), s_gate.weight(), s_up.weight(), s_down.weight()};
  }
  static MoeShape shape() { return {.hidden = D, .experts = X, .top_k = kTopK, .ffn = F}; }

  static std::vector<double> expert(const Matrix& g, const Matrix& u, const Matrix& d, std::size_t e,
                                    std::span<const double> x) {
    std::vector<double> h = times(g, x, e * F, F);
    const std::vector<double> v = times(u, x, e * F, F);
    for (std::size_t i = 0; i < F; ++i) h[i] = silu(h[i]) * v[i];
    return times(d, h, e * D, D);
  }
  // Every expert for itself, by the equations: scores are a softmax over all, not renormalised over the chosen.
  std::vector<double> expected(std::span<const double> x) const {
    const std::vector<double> logits = times(router, x);
    double sum = 0;
    for (const double l : logits) sum += std::exp(l);
    std::vector<double> y(D);
    for (std::size_t e = 0; e < X; ++e) {
      std::size_t better = 0;
      for (const double l : logits) better += l > logits[e] ? 1u : 0u;
      if (better >= kTopK) continue;
      const auto out = expert(gate, up, down, e, x);
      for (std::size_t i = 0; i < D; ++i) y[i] += std::exp(logits[e]) / sum * out[i];
    }
    const auto shared = expert(s_gate, s_up, s_down, 0, x);
    const double open = sigmoid(times(shared_gate, x)[0]);
    for (std::size_t i = 0; i < D; ++i) y[i] += open * shared[i];
    return y;
  }
};

TEST(Moe, EqualsEveryTokenForItself) {
  const Moe moe;
  ReferenceDevice device(Arithmetic::kExact);
  Workspace<BlockScratch, std::size_t, BlockShape> space(T, kShape);
  for (const std::size_t tokens : {std::size_t{1}, std::size_t{2}, T}) {
    Matrix x(tokens, D, 20), residual(tokens, D, 21);
    std::vector<std::vector<double>> expected;
    for (std::size_t t = 0; t < tokens; ++t) {
      expected.push_back(moe.expected(row_of(x, t)));
      for (std::size_t i = 0; i < D; ++i) expected[t][i] += double{residual.at(t, i)};
    }
    moe_forward(device, moe.weights(), Moe::shape(), x.mat(), space.scratch.moe, space.scratch.linear, residual.mat());
    expect_rows(residual, expected);
  }
}

// All tokens to one expert, and experts without a token.
TEST(Moe, CrowdedAndEmptyExperts) {
  Moe moe;
  for (std::size_t i = 0; i < D; ++i) {
    moe.router.values[3 * D + i] = 4.0f;  // x of ones: expert 3, then 1
    moe.router.values[1 * D + i] = 3.5f;
  }
  ReferenceDevice device(Arithmetic::kExact);
  Workspace<BlockScratch, std::size_t, BlockShape> space(T, kShape);
  Matrix x(T, D, 20), residual(T, D, 21, 0.0f);
  for (float& v : x.values) v = 1.0f + 0.01f * v;
  moe_forward(device, moe.weights(), Moe::shape(), x.mat(), space.scratch.moe, space.scratch.linear, residual.mat());
  std::vector<std::vector<double>> expected;
  for (std::size_t t = 0; t < T; ++t) {
    EXPECT_EQ(space.scratch.moe.chosen.row(t)[0], 3u);
    EXPECT_EQ(space.scratch.moe.chosen.row(t)[1], 1u);
    expected.push_back(moe.expected(row_of(x, t)));
  }
  expect_rows(residual, expected);
}

struct Ssm {
  Matrix in_proj{2 * E, D, 1}, taps{K, E, 2, 0.5f}, conv_bias{1, E, 3}, x_proj{2 * N + 1, E, 4}, dt_weight{1, E, 5};
  Matrix dt_bias{1, E, 6}, a{N, E, 7}, d{1, E, 8}, out_proj{D, E, 9};
  Ssm() {
    for (float& v : a.values) v = -std::exp(v);
  }
  SsmWeights weights() {
    const Mat<float> taps_mat = taps.mat(), a_mat = a.mat();
    return {in_proj.weight(), taps_mat, conv_bias.span(), x_proj.weight(),  dt_weight.span(),
            dt_bias.span(),   a_mat,    d.span(),         out_proj.weight()};
  }
  std::vector<std::vector<double>> expected(const Matrix& x) const {
    std::vector<std::vector<double>> inputs, out;
    std::vector<double> h(N * E);
    for (std::size_t t = 0; t < x.rows; ++t) {
      const std::vector<double> xz = times(in_proj, row_of(x, t));
      inputs.push_back(xz);
      std::vector<double> u(E), y(E);
      for (std::size_t e = 0; e < E; ++e) {
        double sum = double{conv_bias.values[e]};
        for (std::size_t k = 0; k < K; ++k) {
          if (t + k >= K - 1) sum += double{taps.at(k, e)} * inputs[t + k - (K - 1)][e];
        }
        u[e] = silu(sum);
      }
      const std::vector<double> bcdt = times(x_proj, u);
      for (std::size_t e = 0; e < E; ++e) {
        const double raw = bcdt[2 * N] * double{dt_weight.values[e]} + double{dt_bias.values[e]};
        const double dt = std::min(std::max(std::log1p(std::exp(raw)), 1e-4), 100.0);
        y[e] = double{d.values[e]} * u[e];
        for (std::size_t n = 0; n < N; ++n) {
          double& state = h[n * E + e];
          state = std::exp(dt * double{a.at(n, e)}) * state + dt * u[e] * bcdt[n];
          y[e] += bcdt[N + n] * state;
        }
        y[e] *= silu(xz[E + e]);
      }
      out.push_back(times(out_proj, y));
    }
    return out;
  }
};

TEST(Ssm, EqualsItsRecurrenceInAnyPieces) {
  Ssm ssm;
  ReferenceDevice device(Arithmetic::kExact);
  const std::vector<LayerStateShape> shapes = {{.inner = E, .state = N, .taps = K}};
  Workspace<BlockScratch, std::size_t, BlockShape> space(T, kShape);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{5}, T}) {
    SequenceState state = SequenceState::create(space.ledger, shapes, DType::kF32).value();
    Matrix x(T, D, 30), residual(T, D, 31, 0.0f);
    for (std::size_t at = 0; at < T; at += piece) {
      const std::size_t n = std::min(piece, T - at);
      const std::array<axon::Run, 1> run = {axon::Run{0, n, false}};
      ssm_forward(device, ssm.weights(), x.mat().rows_from(at, n), run, state.ssm(0), space.scratch.ssm,
                  space.scratch.linear, residual.mat().rows_from(at, n));
    }
    expect_rows(residual, ssm.expected(x));
  }
}

struct Swa {
  Matrix q{D, D, 1, 0.5f}, k{D, D, 2, 0.5f}, v{D, D, 3}, o{D, D, 4};
  SwaWeights weights() const { return {q.weight(), k.weight(), v.weight(), o.weight()}; }
  std::vector<std::vector<double>> expected(const Matrix& x) const {
    std::vector<std::vector<double>> qs, ks, vs, out;
    for (std::size_t t = 0; t < x.rows; ++t) {
      qs.push_back(times(q, row_of(x, t)));
      ks.push_back(times(k, row_of(x, t)));
      vs.push_back(times(v, row_of(x, t)));
      std::vector<double> y(D);
      for (std::size_t h = 0; h < H; ++h) {
        double sum = 0;
        for (std::size_t j = 0; j <= t; ++j) {
          if (t - j >= kWindow) continue;
          double dot = 0;
          for (std::size_t i = 0; i < A; ++i) dot += qs[t][h * A + i] * ks[j][h * A + i];
          const double weight = std::exp(dot / std::sqrt(double{A}));
          sum += weight;
          for (std::size_t i = 0; i < A; ++i) y[h * A + i] += weight * vs[j][h * A + i];
        }
        for (std::size_t i = 0; i < A; ++i) y[h * A + i] /= sum;
      }
      out.push_back(times(o, y));
    }
    return out;
  }
};

TEST(Swa, EqualsItsMaskInAnyPieces) {
  const Swa swa;
  ReferenceDevice device(Arithmetic::kExact);
  const std::vector<LayerStateShape> shapes = {{.attention = true, .heads = H, .head_dim = A, .capacity = kWindow}};
  Workspace<BlockScratch, std::size_t, BlockShape> space(T, kShape);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, kWindow, kWindow + 1, T}) {
    SequenceState state = SequenceState::create(space.ledger, shapes, DType::kF32).value();
    Matrix x(T, D, 40), residual(T, D, 41, 0.0f);
    for (std::size_t at = 0; at < T; at += piece) {
      const std::size_t n = std::min(piece, T - at);
      swa_forward(device, swa.weights(), x.mat().rows_from(at, n), state.kv(0), at, kWindow, space.scratch.swa,
                  space.scratch.linear, residual.mat().rows_from(at, n));
    }
    expect_rows(residual, swa.expected(x));
  }
}

// Pre-norm, plain residual adds: x += mixer(norm(x)), then x += moe(norm(x)).
TEST(Block, AddsMixerThenMoe) {
  Ssm ssm;
  const Moe moe;
  const Matrix norm1(1, D, 50), norm2(1, D, 51);
  const auto normed = [&](const Matrix& x, const Matrix& weight) {
    Matrix out = x;
    for (std::size_t t = 0; t < x.rows; ++t) {
      double squares = 0;
      for (std::size_t i = 0; i < D; ++i) squares += double{x.at(t, i)} * double{x.at(t, i)};
      const double factor = 1 / std::sqrt(squares / double{D} + 1e-5);
      for (std::size_t i = 0; i < D; ++i)
        out.values[t * D + i] = static_cast<float>(double{x.at(t, i)} * factor * double{weight.values[i]});
    }
    return out;
  };
  Workspace<BlockScratch, std::size_t, BlockShape> space(T, kShape);
  ReferenceDevice device(Arithmetic::kExact);
  for (const bool with_moe : {false, true}) {
    Matrix x(T, D, 60), expected = x;
    const auto add = [&](const std::vector<std::vector<double>>& rows) {
      for (std::size_t t = 0; t < T; ++t) {
        for (std::size_t i = 0; i < D; ++i) expected.values[t * D + i] += static_cast<float>(rows[t][i]);
      }
    };
    add(ssm.expected(normed(expected, norm1)));
    BlockWeights weights{.input_norm = norm1.span(), .mixer = ssm.weights(), .ffn = {}};
    if (with_moe) {
      const Matrix in = normed(expected, norm2);
      std::vector<std::vector<double>> rows;
      for (std::size_t t = 0; t < T; ++t) rows.push_back(moe.expected(row_of(in, t)));
      add(rows);
      weights.ffn = BlockWeights::Ffn{norm2.span(), moe.weights()};
    }
    SequenceState state =
        SequenceState::create(space.ledger, std::vector<LayerStateShape>{{.inner = E, .state = N, .taps = K}},
                              DType::kF32)
            .value();
    block_forward(device, weights, kShape, state, 0, space.scratch, x.mat());
    std::vector<std::vector<double>> rows;
    for (std::size_t t = 0; t < T; ++t) rows.push_back(row_of(expected, t));
    expect_rows(x, rows);
  }
}

}  // namespace
}  // namespace axon
