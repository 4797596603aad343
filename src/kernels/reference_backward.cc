// The training half of ReferenceDevice: the verbs' derivatives written out, sums in double.

#include "kernels/reference_device.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/cpu/matmul_reference.h"

namespace axon {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double dsilu(double x) { return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

double log_sum_exp(std::span<const float> row) {
  const double largest = double{*std::max_element(row.begin(), row.end())};
  double sum = 0.0;
  for (const float v : row) sum += std::exp(double{v} - largest);
  return largest + std::log(sum);
}

std::vector<double> softmax(std::span<const float> row) {
  const double log_sum = log_sum_exp(row);
  std::vector<double> p;
  for (const float v : row) p.push_back(std::exp(double{v} - log_sum));
  return p;
}

}  // namespace

void ReferenceDevice::matmul_transposed(std::span<const Product> products) {
  for (const Product& product : products) reference::matmul_transposed(product);
}

void ReferenceDevice::add_outer(std::span<const OuterProduct> products) {
  for (const OuterProduct& p : products) {
    AXON_CHECK(p.g.rows == p.a.cols && p.g.cols == p.b.cols);
    AXON_CHECK((p.b_rows.empty() ? p.b.rows : p.b_rows.size()) == p.a.rows);
    for (std::size_t i = 0; i < p.g.rows; ++i) {
      for (std::size_t c = 0; c < p.g.cols; ++c) {
        double sum = 0.0;
        for (std::size_t t = 0; t < p.a.rows; ++t) {
          sum += double{p.a.row(t)[i]} * double{p.b.row(p.b_rows.empty() ? t : p.b_rows[t])[c]};
        }
        p.g.row(i)[c] = static_cast<float>(double{p.g.row(i)[c]} + double{p.factor} * sum);
      }
    }
  }
}

void ReferenceDevice::scale_columns(Mat<const float> x, std::span<const float> scale, Mat<float> y, bool add) {
  AXON_CHECK(x.rows == y.rows && x.cols == y.cols && scale.size() == x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t c = 0; c < x.cols; ++c) {
      const double value = double{scale[c]} * double{x.row(t)[c]};
      y.row(t)[c] = static_cast<float>(add ? double{y.row(t)[c]} + value : value);
    }
  }
}

void ReferenceDevice::add_column_dots(Mat<const float> a, Mat<const float> b, std::span<float> g) {
  AXON_CHECK(a.rows == b.rows && a.cols == b.cols && g.size() == a.cols);
  for (std::size_t c = 0; c < a.cols; ++c) {
    double sum = double{g[c]};
    for (std::size_t t = 0; t < a.rows; ++t) sum += double{a.row(t)[c]} * double{b.row(t)[c]};
    g[c] = static_cast<float>(sum);
  }
}

void ReferenceDevice::dropout(const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add) {
  AXON_CHECK(x.rows == y.rows && x.cols == y.cols && dropout.p >= 0.0f && dropout.p < 1.0f);
  const CounterRng rng(dropout.seed, dropout.stream);
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t c = 0; c < x.cols; ++c) {
      const bool kept = rng.uniform(dropout.first + t * x.cols + c) >= double{dropout.p};
      const double value = kept ? double{x.row(t)[c]} / (1.0 - double{dropout.p}) : 0.0;
      y.row(t)[c] = static_cast<float>(add ? double{y.row(t)[c]} + value : value);
    }
  }
}

// y_i = r w_i x_i with r = (mean(x^2) + eps)^(-1/2): dx_i = r w_i dy_i - x_i r^3 / D * sum_j w_j dy_j x_j.
void ReferenceDevice::rms_norm_backward(Mat<const float> x, std::span<const float> weight, float eps,
                                        Mat<const float> dy, Mat<float> dx) {
  AXON_CHECK(x.rows == dy.rows && x.cols == dy.cols && dx.rows == x.rows && dx.cols == x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    double squares = 0.0, dot = 0.0;
    for (std::size_t i = 0; i < x.cols; ++i) {
      squares += double{x.row(t)[i]} * double{x.row(t)[i]};
      dot += double{weight[i]} * double{dy.row(t)[i]} * double{x.row(t)[i]};
    }
    const double cols = static_cast<double>(x.cols);
    const double r = 1.0 / std::sqrt(squares / cols + double{eps});
    for (std::size_t i = 0; i < x.cols; ++i) {
      const double own = r * double{weight[i]} * double{dy.row(t)[i]};
      const double shared = double{x.row(t)[i]} * r * r * r / cols * dot;
      dx.row(t)[i] = static_cast<float>(double{dx.row(t)[i]} + own - shared);
    }
  }
}

void ReferenceDevice::conv_silu_backward(Mat<const float> x, Mat<const float> taps, std::span<const float> bias,
                                         Mat<const float> tail, Mat<const float> du, Mat<float> carry, Mat<float> dx) {
  const std::size_t K = taps.rows, T = x.rows;
  AXON_CHECK(K >= 1 && tail.rows == K - 1 && carry.rows == K - 1 && du.rows == T && dx.rows == T);
  for (std::size_t e = 0; e < x.cols; ++e) {
    std::vector<double> input, dinput(K - 1 + T, 0.0);  // of tail and x together
    for (std::size_t i = 0; i + 1 < K; ++i) input.push_back(double{tail.row(i)[e]});
    for (std::size_t t = 0; t < T; ++t) input.push_back(double{x.row(t)[e]});
    for (std::size_t i = 0; i + 1 < K; ++i) dinput[T + i] = double{carry.row(i)[e]};
    for (std::size_t t = 0; t < T; ++t) {
      double sum = double{bias[e]};
      for (std::size_t k = 0; k < K; ++k) sum += double{taps.row(k)[e]} * input[t + k];
      const double dsum = double{du.row(t)[e]} * dsilu(sum);
      for (std::size_t k = 0; k < K; ++k) dinput[t + k] += double{taps.row(k)[e]} * dsum;
    }
    for (std::size_t i = 0; i + 1 < K; ++i) carry.row(i)[e] = static_cast<float>(dinput[i]);
    for (std::size_t t = 0; t < T; ++t) dx.row(t)[e] = static_cast<float>(dinput[K - 1 + t]);
  }
}

void ReferenceDevice::scan_backward(const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh,
                                    Mat<float> du, Mat<float> dz, Mat<float> dbcdt) {
  const std::size_t N = h.rows, E = h.cols, T = dy.rows;
  AXON_CHECK(in.a.rows == N && in.a.cols == E && in.bcdt.cols == 2 * N + 1 && dbcdt.cols == 2 * N + 1);
  AXON_CHECK(du.rows == T && dz.rows == T && dbcdt.rows == T && dh.rows == N && dh.cols == E);
  std::vector<double> db((2 * N + 1) * T, 0.0);
  std::vector<double> states((T + 1) * N), dstate(N);
  for (std::size_t e = 0; e < E; ++e) {
    const auto raw_of = [&](std::size_t t) {
      return double{in.bcdt.row(t)[2 * N]} * double{in.dt_weight[e]} + double{in.dt_bias[e]};
    };
    const auto dt_of = [&](std::size_t t) { return std::clamp(softplus(raw_of(t)), 1e-4, 100.0); };
    for (std::size_t n = 0; n < N; ++n) states[n] = double{h.row(n)[e]};
    for (std::size_t t = 0; t < T; ++t) {
      const double dt = dt_of(t), u = double{in.u.row(t)[e]};
      for (std::size_t n = 0; n < N; ++n) {
        states[(t + 1) * N + n] =
            std::exp(dt * double{in.a.row(n)[e]}) * states[t * N + n] + dt * u * double{in.bcdt.row(t)[n]};
      }
    }
    for (std::size_t n = 0; n < N; ++n) dstate[n] = double{dh.row(n)[e]};
    for (std::size_t t = T; t-- > 0;) {
      const auto bcdt = in.bcdt.row(t);
      const double dt = dt_of(t), u = double{in.u.row(t)[e]}, z = double{in.z.row(t)[e]};
      // y = sum * silu(z), sum = C . h + d u
      double sum = double{in.d[e]} * u;
      for (std::size_t n = 0; n < N; ++n) sum += double{bcdt[N + n]} * states[(t + 1) * N + n];
      const double dsum = double{dy.row(t)[e]} * silu(z);
      const double gate = double{dy.row(t)[e]} * sum * dsilu(z);
      double du_sum = dsum * double{in.d[e]}, ddt = 0.0;
      for (std::size_t n = 0; n < N; ++n) {
        const double a = double{in.a.row(n)[e]}, decay = std::exp(dt * a), before = states[t * N + n];
        db[t * (2 * N + 1) + N + n] += dsum * states[(t + 1) * N + n];
        dstate[n] += dsum * double{bcdt[N + n]};
        // h = decay * before + dt u B
        db[t * (2 * N + 1) + n] += dstate[n] * dt * u;
        du_sum += dstate[n] * dt * double{bcdt[n]};
        ddt += dstate[n] * (a * decay * before + u * double{bcdt[n]});
        dstate[n] *= decay;
      }
      const double raw = raw_of(t), unclipped = softplus(raw);
      const double draw = unclipped < 1e-4 || unclipped > 100.0 ? 0.0 : ddt * sigmoid(raw);
      db[t * (2 * N + 1) + 2 * N] += draw * double{in.dt_weight[e]};
      du.row(t)[e] = static_cast<float>(du_sum);
      dz.row(t)[e] = static_cast<float>(gate);
    }
    for (std::size_t n = 0; n < N; ++n) dh.row(n)[e] = static_cast<float>(dstate[n]);
  }
  for (std::size_t t = 0; t < T; ++t) {
    for (std::size_t i = 0; i < 2 * N + 1; ++i) dbcdt.row(t)[i] = static_cast<float>(db[t * (2 * N + 1) + i]);
  }
}

namespace {

// A query's scaled scores with the keys that it sees, first_key on.
std::vector<double> scores_of(Mat<const float> q, Mat<const float> k, std::size_t head, std::size_t A, std::size_t t,
                              std::size_t first_key) {
  std::vector<double> scores;
  for (std::size_t j = first_key; j <= t; ++j) {
    double dot = 0.0;
    for (std::size_t a = 0; a < A; ++a) dot += double{q.row(t)[head * A + a]} * double{k.row(j)[head * A + a]};
    scores.push_back(dot / std::sqrt(static_cast<double>(A)));
  }
  return scores;
}

std::size_t first_key_of(std::size_t t, std::size_t window) { return t + 1 - std::min(window, t + 1); }

}  // namespace

void ReferenceDevice::attend_alone(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                                   std::size_t window, Mat<float> y, Mat<float> log_sums) {
  const std::size_t T = q.rows, A = q.cols / heads;
  AXON_CHECK(q.cols == heads * A && k.rows == T && v.rows == T && y.rows == T && window >= 1);
  AXON_CHECK(log_sums.rows == heads && log_sums.cols == T);
  for (std::size_t head = 0; head < heads; ++head) {
    for (std::size_t t = 0; t < T; ++t) {
      const std::size_t first = first_key_of(t, window);
      std::vector<double> p = scores_of(q, k, head, A, t, first);
      const double largest = *std::max_element(p.begin(), p.end());
      double sum = 0.0;
      for (const double s : p) sum += std::exp(s - largest);
      const double log_sum = largest + std::log(sum);
      log_sums.row(head)[t] = static_cast<float>(log_sum);
      for (std::size_t a = 0; a < A; ++a) {
        double out = 0.0;
        for (std::size_t j = 0; j < p.size(); ++j)
          out += std::exp(p[j] - log_sum) * double{v.row(first + j)[head * A + a]};
        y.row(t)[head * A + a] = static_cast<float>(out);
      }
    }
  }
}

// p = softmax(s): ds_j = p_j (dp_j - sum_i p_i dp_i), dp_j = dy . v_j; and sum_i p_i dp_i = dy . y.
void ReferenceDevice::attend_backward(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                                      std::size_t window, Mat<const float> y, Mat<const float> log_sums,
                                      Mat<const float> dy, Mat<float> dq, Mat<float> dk, Mat<float> dv) {
  const std::size_t T = q.rows, A = q.cols / heads;
  AXON_CHECK(y.rows == T && dy.rows == T && log_sums.rows == heads && log_sums.cols == T);
  const double scale = 1.0 / std::sqrt(static_cast<double>(A));
  std::vector<double> gq(T * A), gk(T * A), gv(T * A);
  for (std::size_t head = 0; head < heads; ++head) {
    for (auto* g : {&gq, &gk, &gv}) std::fill(g->begin(), g->end(), 0.0);
    for (std::size_t t = 0; t < T; ++t) {
      const std::size_t first = first_key_of(t, window);
      const std::vector<double> s = scores_of(q, k, head, A, t, first);
      double mean = 0.0;
      for (std::size_t a = head * A; a < (head + 1) * A; ++a) mean += double{dy.row(t)[a]} * double{y.row(t)[a]};
      for (std::size_t i = 0; i < s.size(); ++i) {
        const std::size_t j = first + i;
        const double p = std::exp(s[i] - double{log_sums.row(head)[t]});
        double dp = 0.0;
        for (std::size_t a = head * A; a < (head + 1) * A; ++a) dp += double{dy.row(t)[a]} * double{v.row(j)[a]};
        const double ds = p * (dp - mean) * scale;
        for (std::size_t a = 0; a < A; ++a) {
          gq[t * A + a] += ds * double{k.row(j)[head * A + a]};
          gk[j * A + a] += ds * double{q.row(t)[head * A + a]};
          gv[j * A + a] += p * double{dy.row(t)[head * A + a]};
        }
      }
    }
    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t a = 0; a < A; ++a) {
        dq.row(t)[head * A + a] = static_cast<float>(gq[t * A + a]);
        dk.row(t)[head * A + a] = static_cast<float>(gk[t * A + a]);
        dv.row(t)[head * A + a] = static_cast<float>(gv[t * A + a]);
      }
    }
  }
}

void ReferenceDevice::route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts,
                                     Mat<const float> dscores, Mat<float> dlogits) {
  AXON_CHECK(experts.rows == logits.rows && dscores.rows == logits.rows && dlogits.rows == logits.rows);
  for (std::size_t t = 0; t < logits.rows; ++t) {
    const std::vector<double> p = softmax(logits.row(t));
    std::vector<double> dp(p.size(), 0.0);
    double mean = 0.0;
    for (std::size_t j = 0; j < experts.cols; ++j) {
      dp[experts.row(t)[j]] = double{dscores.row(t)[j]};
      mean += p[experts.row(t)[j]] * double{dscores.row(t)[j]};
    }
    for (std::size_t x = 0; x < p.size(); ++x) dlogits.row(t)[x] = static_cast<float>(p[x] * (dp[x] - mean));
  }
}

void ReferenceDevice::swiglu_backward(Mat<const float> gate, Mat<const float> up, Mat<const float> dh, Mat<float> dgate,
                                      Mat<float> dup) {
  AXON_CHECK(gate.rows == up.rows && dh.rows == up.rows && dgate.rows == up.rows && dup.rows == up.rows);
  for (std::size_t t = 0; t < up.rows; ++t) {
    for (std::size_t i = 0; i < up.cols; ++i) {
      const double g = double{gate.row(t)[i]}, u = double{up.row(t)[i]}, d = double{dh.row(t)[i]};
      dgate.row(t)[i] = static_cast<float>(d * u * dsilu(g));
      dup.row(t)[i] = static_cast<float>(d * silu(g));
    }
  }
}

void ReferenceDevice::combine_backward(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                                       Mat<const float> shared, Mat<const float> shared_gate, Mat<const float> dy,
                                       Mat<float> drouted, Mat<float> dscores, Mat<float> dshared,
                                       Mat<float> dshared_gate) {
  AXON_CHECK(slots.rows == dy.rows && scores.rows == dy.rows && shared.rows == dy.rows && dshared.rows == dy.rows);
  for (std::size_t t = 0; t < dy.rows; ++t) {
    const double gate = sigmoid(double{shared_gate.row(t)[0]});
    for (std::size_t j = 0; j < slots.cols; ++j) {
      const std::size_t slot = slots.row(t)[j];
      double dot = 0.0;
      for (std::size_t i = 0; i < dy.cols; ++i) {
        dot += double{routed.row(slot)[i]} * double{dy.row(t)[i]};
        drouted.row(slot)[i] = static_cast<float>(double{scores.row(t)[j]} * double{dy.row(t)[i]});
      }
      dscores.row(t)[j] = static_cast<float>(dot);
    }
    double dot = 0.0;
    for (std::size_t i = 0; i < dy.cols; ++i) {
      dot += double{shared.row(t)[i]} * double{dy.row(t)[i]};
      dshared.row(t)[i] = static_cast<float>(gate * double{dy.row(t)[i]});
    }
    dshared_gate.row(t)[0] = static_cast<float>(dot * gate * (1.0 - gate));
  }
}

void ReferenceDevice::add_rows(Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) {
  AXON_CHECK(slots.rows == x.rows && rows.cols == x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t i = 0; i < x.cols; ++i) {
      double sum = double{x.row(t)[i]};
      for (const std::uint32_t slot : slots.row(t)) sum += double{rows.row(slot)[i]};
      x.row(t)[i] = static_cast<float>(sum);
    }
  }
}

void ReferenceDevice::cross_entropy(Mat<const float> logits, std::span<const std::uint32_t> labels,
                                    std::span<float> loss) {
  AXON_CHECK(labels.size() == logits.rows && loss.size() == logits.rows);
  for (std::size_t t = 0; t < logits.rows; ++t) {
    if (labels[t] == kNoLabel) {
      loss[t] = 0.0f;
      continue;
    }
    AXON_CHECK(labels[t] < logits.cols);
    loss[t] = static_cast<float>(log_sum_exp(logits.row(t)) - double{logits.row(t)[labels[t]]});
  }
}

void ReferenceDevice::cross_entropy_backward(Mat<float> logits, std::span<const std::uint32_t> labels,
                                             std::span<const float> factors) {
  AXON_CHECK(labels.size() == logits.rows && factors.size() == logits.rows);
  for (std::size_t t = 0; t < logits.rows; ++t) {
    const std::vector<double> p = softmax(logits.row(t));
    for (std::size_t i = 0; i < logits.cols; ++i) {
      const double target = labels[t] == i ? 1.0 : 0.0;
      logits.row(t)[i] = labels[t] == kNoLabel ? 0.0f : static_cast<float>(double{factors[t]} * (p[i] - target));
    }
  }
}

}  // namespace axon
