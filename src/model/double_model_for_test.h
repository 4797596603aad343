#pragma once
// For tests: the whole model with its adapters written down plainly in double (spec sections 4 and 8), token by token.
// Its loss is a function of the adapters' values and of what is added to the first block's input, so central
// differences of it are the gradients that the way back must give.

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/adapters.h"
#include "model/model.h"
#include "quant/affine.h"

namespace axon::testing_model {

using Vec = std::vector<double>;

class DoubleModel {
 public:
  // `adapters` are attached to `model`. DoRA's norms stay what they are here.
  DoubleModel(Model& model, const AdapterSet& adapters) : model_(model), adapters_(adapters) {
    model.each_linear([&](const std::string& name, Linear& linear) { add(name, linear); });
    const ModelWeights& w = model.weights();
    add("lm_head", w.lm_head);
    add("embed_tokens", w.embed_tokens);
    for (std::size_t i = 0; i < w.blocks.size(); ++i) {
      if (const auto& b = w.blocks[i]; b.ffn) {
        add(fmt::format("layer_{}.moe.gate", i), b.ffn->moe.router);
        add(fmt::format("layer_{}.moe.shared_expert_gate", i), b.ffn->moe.shared_gate);
      }
    }
    for (const AdapterTensor& t : adapters.tensors()) {
      Matrix& m = matrices_.at(adapters.shape().linears[t.linear].name);
      m.sites.resize(std::max(m.sites.size(), t.expert + 1));
      Site& site = m.sites[t.expert];
      site.rank = t.part == AdapterTensor::Part::kMagnitude ? site.rank : t.rows;
      (t.part == AdapterTensor::Part::kA ? site.a : t.part == AdapterTensor::Part::kB ? site.b : site.m) = t.first;
    }
    for (auto& [name, m] : matrices_) {
      for (std::size_t e = 0; e < m.sites.size(); ++e) {
        for (std::size_t r = 0; r < m.adapter[e].columns.size(); ++r) {
          m.sites[e].norms.push_back(double{adapters.values()[m.sites[e].m + r]} / double{m.adapter[e].columns[r]});
        }
      }
    }
  }

  struct Input {
    std::vector<std::uint32_t> ids, starts, labels;
    std::vector<float> factors;
    float dropout = 0;
    std::uint64_t seed = 0;
    std::size_t chunk = 1;  // tokens that go through a layer at once: they number what drops out
  };

  // sum_t factors[t] * loss[t].   values: as AdapterSet::values()   dx0 [T, D], added to the first block's input
  double loss(const Input& in, const Vec& values, const Vec& dx0) {
    in_ = &in;
    values_ = &values;
    const std::size_t T = in.ids.size(), D = model_.config().hidden_dim;
    std::vector<Vec> x(T);
    for (std::size_t t = 0; t < T; ++t) {
      x[t] = apply("input_proj", row("embed_tokens", in.ids[t]), 0, t);
      for (std::size_t i = 0; i < D; ++i) x[t][i] += dx0[t * D + i];
    }
    for (std::size_t i = 0; i < model_.weights().blocks.size(); ++i) block(i, x);
    double sum = 0;
    std::size_t labelled = 0;
    for (std::size_t t = 0; t < T; ++t) {
      if (in.labels[t] == kNoLabel) continue;
      const Vec logits = plain("lm_head", apply("output_proj", x[t], 0, labelled++));
      double total = 0;
      const double most = *std::max_element(logits.begin(), logits.end());
      for (const double l : logits) total += std::exp(l - most);
      sum += double{in.factors[t]} * (most + std::log(total) - logits[in.labels[t]]);
    }
    return sum;
  }

 private:
  struct Site {
    std::size_t rank = 0, a = 0, b = 0, m = 0;  // places in the values
    Vec norms;                                  // DoRA's
  };
  struct Matrix {
    std::size_t rows, cols;
    Vec values;
    const Adapter* adapter;
    std::vector<Site> sites;  // one an expert; empty: no adapter
  };
  void add(const std::string& name, const Linear& w) {
    Matrix m{w.rows, w.cols, Vec(w.rows * w.cols), w.adapter, {}};
    std::vector<float> decoded(w.cols);
    for (std::size_t r = 0; r < w.rows; ++r) {
      affine::decode_row(w, r, 0, decoded);
      std::copy(decoded.begin(), decoded.end(), m.values.begin() + static_cast<std::ptrdiff_t>(r * w.cols));
    }
    matrices_.emplace(name, std::move(m));
  }
  static double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }
  static double silu(double v) { return v * sigmoid(v); }

  Vec row(const std::string& name, std::size_t r) const {
    const Matrix& m = matrices_.at(name);
    const auto at = m.values.begin() + static_cast<std::ptrdiff_t>(r * m.cols);
    return {at, at + static_cast<std::ptrdiff_t>(m.cols)};
  }
  static Vec times(const Matrix& m, const Vec& x, std::size_t first, std::size_t rows) {
    Vec y(rows);
    for (std::size_t r = 0; r < rows; ++r) {
      const double* w = m.values.data() + (first + r) * m.cols;
      for (std::size_t c = 0; c < m.cols; ++c) y[r] += w[c] * x[c];
    }
    return y;
  }
  Vec plain(const std::string& name, const Vec& x) const {
    const Matrix& m = matrices_.at(name);
    return times(m, x, 0, m.rows);
  }

  // With the adapter of `expert`; `token` numbers x in the stream of dropout.
  Vec apply(const std::string& name, const Vec& x, std::size_t expert, std::size_t token) const {
    const Matrix& m = matrices_.at(name);
    const std::size_t experts = name.find("switch_mlp") == std::string::npos ? 1 : model_.config().moe_num_experts;
    const std::size_t out = m.rows / experts;
    Vec y = times(m, x, expert * out, out);
    if (m.sites.empty()) return y;
    const Site& site = m.sites[expert];
    const double *a = values_->data() + site.a, *b = values_->data() + site.b;
    const CounterRng rng(in_->seed, m.adapter[expert].stream);
    for (std::size_t j = 0; j < site.rank; ++j) {
      double h = 0;
      for (std::size_t c = 0; c < m.cols; ++c) {
        const bool kept = in_->dropout == 0 || rng.uniform(token * m.cols + c) >= double{in_->dropout};
        h += kept ? a[j * m.cols + c] * x[c] / (1 - double{in_->dropout}) : 0;
      }
      for (std::size_t r = 0; r < out; ++r) y[r] += double{adapters_.shape().scale} * h * b[j * out + r];
    }
    for (std::size_t r = 0; r < site.norms.size(); ++r) y[r] *= (*values_)[site.m + r] / site.norms[r];
    return y;
  }

  // A chunk's tokens have numbers for top_k + 1 rows each.
  std::size_t chunk_of(std::size_t t) const { return t / in_->chunk * in_->chunk; }
  std::size_t number(std::size_t t) const { return chunk_of(t) * (model_.config().moe_top_k + 1) + t - chunk_of(t); }

  Vec norm(const Vec& x, std::span<const float> weight) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double factor = 1 / std::sqrt(squares / static_cast<double>(x.size()) +
                                        double{static_cast<float>(model_.config().rms_norm_eps)});
    Vec y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * factor * double{weight[i]};
    return y;
  }

  void block(std::size_t i, std::vector<Vec>& x) {
    const BlockWeights& b = model_.weights().blocks[i];
    for (std::size_t s = 0; s < in_->starts.size(); ++s) {
      const std::size_t begin = in_->starts[s], end = s + 1 < in_->starts.size() ? in_->starts[s + 1] : x.size();
      if (const auto* ssm = std::get_if<SsmWeights>(&b.mixer)) {
        mix_ssm(fmt::format("layer_{}.ssm.", i), b, *ssm, begin, end, x);
      } else {
        mix_swa(fmt::format("layer_{}.attention.", i), b, begin, end, x);
      }
    }
    if (!b.ffn) return;
    experts(fmt::format("layer_{}.moe.", i), *b.ffn, x);
  }

  void mix_ssm(const std::string& at, const BlockWeights& b, const SsmWeights& w, std::size_t begin, std::size_t end,
               std::vector<Vec>& x) {
    const std::size_t E = w.a.cols, N = w.a.rows, K = w.conv_taps.rows;
    std::vector<Vec> inputs;
    Vec h(N * E);
    for (std::size_t t = begin; t < end; ++t) {
      const Vec xz = apply(at + "in_proj", norm(x[t], b.input_norm), 0, number(t));
      inputs.push_back(xz);
      Vec u(E);
      for (std::size_t e = 0; e < E; ++e) {
        double sum = double{w.conv_bias[e]};
        for (std::size_t k = 0; k < K; ++k) {
          const std::size_t back = K - 1 - k;
          if (back < inputs.size()) sum += double{w.conv_taps.row(k)[e]} * inputs[inputs.size() - 1 - back][e];
        }
        u[e] = silu(sum);
      }
      const Vec p = apply(at + "x_proj", u, 0, number(t));
      Vec y(E);
      for (std::size_t e = 0; e < E; ++e) {
        const double raw = p[2 * N] * double{w.dt_weight[e]} + double{w.dt_bias[e]};
        const double dt = std::clamp(std::max(raw, 0.0) + std::log1p(std::exp(-std::fabs(raw))), 1e-4, 100.0);
        y[e] = double{w.d[e]} * u[e];
        for (std::size_t n = 0; n < N; ++n) {
          double& state = h[n * E + e];
          state = std::exp(dt * double{w.a.row(n)[e]}) * state + dt * u[e] * p[n];
          y[e] += p[N + n] * state;
        }
        y[e] *= silu(xz[E + e]);
      }
      const Vec out = apply(at + "out_proj", y, 0, number(t));
      for (std::size_t d = 0; d < out.size(); ++d) x[t][d] += out[d];
    }
  }

  void mix_swa(const std::string& at, const BlockWeights& b, std::size_t begin, std::size_t end, std::vector<Vec>& x) {
    const std::size_t D = model_.config().hidden_dim, H = model_.config().num_heads, A = D / H;
    std::vector<Vec> k, v;
    for (std::size_t t = begin; t < end; ++t) {
      const Vec in = norm(x[t], b.input_norm);
      const Vec q = apply(at + "q_proj", in, 0, number(t));
      k.push_back(apply(at + "k_proj", in, 0, number(t)));
      v.push_back(apply(at + "v_proj", in, 0, number(t)));
      const std::size_t first = k.size() - std::min<std::size_t>(k.size(), model_.config().swa_window_size);
      Vec y(D);
      for (std::size_t head = 0; head < H; ++head) {
        Vec p;
        for (std::size_t j = first; j < k.size(); ++j) {
          double dot = 0;
          for (std::size_t a = head * A; a < (head + 1) * A; ++a) dot += q[a] * k[j][a];
          p.push_back(std::exp(dot / std::sqrt(static_cast<double>(A))));
        }
        const double sum = std::accumulate(p.begin(), p.end(), 0.0);
        for (std::size_t j = 0; j < p.size(); ++j) {
          for (std::size_t a = head * A; a < (head + 1) * A; ++a) y[a] += p[j] / sum * v[first + j][a];
        }
      }
      const Vec out = apply(at + "o_proj", y, 0, number(t));
      for (std::size_t d = 0; d < D; ++d) x[t][d] += out[d];
    }
  }

  Vec expert(const std::string& at, const Vec& in, std::size_t e, std::size_t token) const {
    Vec gate = apply(at + "gate_proj", in, e, token);
    const Vec up = apply(at + "up_proj", in, e, token);
    for (std::size_t f = 0; f < gate.size(); ++f) gate[f] = silu(gate[f]) * up[f];
    return apply(at + "down_proj", gate, e, token);
  }

  void experts(const std::string& at, const BlockWeights::Ffn& ffn, std::vector<Vec>& x) {
    const std::size_t top_k = model_.config().moe_top_k;
    std::vector<std::size_t> taken;  // by each expert, of this chunk
    for (std::size_t t = 0; t < x.size(); ++t) {
      if (t == chunk_of(t)) taken.assign(model_.config().moe_num_experts, 0);
      const Vec in = norm(x[t], ffn.norm), logits = plain(at + "gate", in);
      double sum = 0;
      for (const double l : logits) sum += std::exp(l);
      std::vector<std::size_t> order(logits.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](std::size_t l, std::size_t r) { return logits[l] > logits[r]; });
      Vec out(in.size());
      for (std::size_t j = 0; j < top_k; ++j) {
        const Vec y = expert(at + "switch_mlp.", in, order[j], number(chunk_of(t)) + taken[order[j]]++);
        for (std::size_t d = 0; d < out.size(); ++d) out[d] += std::exp(logits[order[j]]) / sum * y[d];
      }
      const Vec y = expert(at + "shared_expert.", in, 0, number(t));
      const double open = sigmoid(plain(at + "shared_expert_gate", in)[0]);
      for (std::size_t d = 0; d < out.size(); ++d) x[t][d] += out[d] + open * y[d];
    }
  }

  Model& model_;
  const AdapterSet& adapters_;
  std::map<std::string, Matrix> matrices_;
  const Input* in_ = nullptr;
  const Vec* values_ = nullptr;
};

}  // namespace axon::testing_model
