#include "kernels/reference_device.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/matmul_reference.h"
#include "quant/affine.h"
#include "tensor/dtype.h"

namespace axon {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
// log(1 + exp(x)) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

// One head's past as the cache returns it, [past, A] each, oldest first.
struct Past {
  std::uint64_t first;
  std::vector<double> k, v;
};
Past read_past(const KvCache& cache, std::size_t head, std::uint64_t first, std::uint64_t passed) {
  const std::size_t A = cache.head_dim, count = passed - first;
  Past past{first, std::vector<double>(count * A), std::vector<double>(count * A)};
  if (cache.layout != nullptr && count != 0) {
    std::vector<float> k(count * A), v(count * A);
    turboquant::read(cache.head(head), first, passed, {k.data(), count, A}, {v.data(), count, A});
    std::copy(k.begin(), k.end(), past.k.begin());
    std::copy(v.begin(), v.end(), past.v.begin());
    return past;
  }
  for (std::size_t i = 0; i < count * A; ++i) {
    const std::size_t at = (head * cache.capacity + (first + i / A) % cache.capacity) * A + i % A;
    past.k[i] = double{load_float(cache.dtype, cache.k, at)};
    past.v[i] = double{load_float(cache.dtype, cache.v, at)};
  }
  return past;
}

// What the cache would hold of `value`: a prompt that is cut elsewhere must give the same logits, so tokens of this
// call are rounded exactly as those that come back from the cache.
double as_stored(const KvCache& cache, float value) {
  return cache.layout == nullptr && cache.dtype == DType::kF16 ? double{f16_to_float(float_to_f16(value))}
                                                               : double{value};
}

}  // namespace

void ReferenceDevice::matmul(std::span<const Product> products) {
  for (const Product& product : products) reference::matmul(product, arithmetic_);
}

void ReferenceDevice::embed(const Weight& table, std::span<const std::uint32_t> ids, Mat<float> y) {
  AXON_CHECK(y.rows == ids.size() && y.cols == table.cols);
  for (std::size_t t = 0; t < ids.size(); ++t) affine::decode_row(table, ids[t], 0, y.row(t));
}

void ReferenceDevice::rms_norm(Mat<const float> x, std::span<const float> weight, float eps, Mat<float> y) {
  AXON_CHECK(x.rows == y.rows && x.cols == y.cols && weight.size() == x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    double sum = 0.0;
    for (const float v : x.row(t)) sum += double{v} * double{v};
    const double factor = 1.0 / std::sqrt(sum / static_cast<double>(x.cols) + double{eps});
    for (std::size_t i = 0; i < x.cols; ++i) {
      y.row(t)[i] = static_cast<float>(double{x.row(t)[i]} * factor * double{weight[i]});
    }
  }
}

void ReferenceDevice::conv_silu(Mat<const float> x, Mat<const float> taps, std::span<const float> bias, Mat<float> tail,
                                Mat<float> u) {
  const std::size_t K = taps.rows;
  AXON_CHECK(K >= 1 && tail.rows == K - 1 && u.rows == x.rows && u.cols == x.cols && taps.cols == x.cols &&
             tail.cols == x.cols && bias.size() == x.cols);
  for (std::size_t e = 0; e < x.cols; ++e) {
    std::vector<float> input;  // tail and x together
    for (std::size_t i = 0; i + 1 < K; ++i) input.push_back(tail.row(i)[e]);
    for (std::size_t t = 0; t < x.rows; ++t) input.push_back(x.row(t)[e]);
    for (std::size_t t = 0; t < x.rows; ++t) {
      double sum = double{bias[e]};
      for (std::size_t k = 0; k < K; ++k) sum += double{taps.row(k)[e]} * double{input[t + k]};
      u.row(t)[e] = static_cast<float>(silu(sum));
    }
    for (std::size_t i = 0; i + 1 < K; ++i) tail.row(i)[e] = input[x.rows + i];
  }
}

void ReferenceDevice::scan(const ScanInput& in, Mat<float> h, Mat<float> y) {
  const std::size_t N = h.rows;
  AXON_CHECK(in.a.rows == N && in.a.cols == h.cols && in.bcdt.cols == 2 * N + 1 && in.u.cols == h.cols);
  AXON_CHECK(in.u.rows == y.rows && in.z.rows == y.rows && in.bcdt.rows == y.rows && y.cols == h.cols);
  std::vector<double> state(N);
  for (std::size_t e = 0; e < h.cols; ++e) {
    for (std::size_t n = 0; n < N; ++n) state[n] = double{h.row(n)[e]};
    for (std::size_t t = 0; t < y.rows; ++t) {
      const auto bcdt = in.bcdt.row(t);
      const double raw = double{bcdt[2 * N]} * double{in.dt_weight[e]} + double{in.dt_bias[e]};
      const double dt = std::clamp(softplus(raw), 1e-4, 100.0);
      const double u = double{in.u.row(t)[e]};
      double sum = double{in.d[e]} * u;
      for (std::size_t n = 0; n < N; ++n) {
        state[n] = std::exp(dt * double{in.a.row(n)[e]}) * state[n] + dt * u * double{bcdt[n]};
        sum += double{bcdt[N + n]} * state[n];
      }
      y.row(t)[e] = static_cast<float>(sum * silu(double{in.z.row(t)[e]}));
    }
    for (std::size_t n = 0; n < N; ++n) h.row(n)[e] = static_cast<float>(state[n]);
  }
}

void ReferenceDevice::rotate(const turboquant::Rotation& rotation, bool back, Mat<float> x) {
  const std::size_t A = rotation.head_dim();
  AXON_CHECK(x.cols % A == 0);
  const std::vector<float> matrix = rotation.matrix();
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t at = 0; at < x.cols; at += A) {
      const std::vector<float> in(x.row_ptr(t) + at, x.row_ptr(t) + at + A);
      for (std::size_t i = 0; i < A; ++i) {
        double sum = 0.0;
        for (std::size_t j = 0; j < A; ++j) sum += double{matrix[back ? j * A + i : i * A + j]} * double{in[j]};
        x.row_ptr(t)[at + i] = static_cast<float>(sum);
      }
    }
  }
}

void ReferenceDevice::attend(Mat<const float> q, Mat<const float> k, Mat<const float> v, const KvCache& past,
                             std::uint64_t first_position, std::size_t window, Mat<float> y) {
  const std::size_t T = q.rows, H = past.heads, A = past.head_dim;
  AXON_CHECK(q.cols == H * A && k.cols == H * A && v.cols == H * A && y.cols == H * A && window >= 1);
  AXON_CHECK(k.rows == T && v.rows == T && y.rows == T);
  AXON_CHECK(past.capacity + 1 >= std::min<std::uint64_t>(window, first_position));
  const double scale = 1.0 / std::sqrt(static_cast<double>(A));
  const auto first_key_of = [&](std::uint64_t position) {
    return position + 1 - std::min<std::uint64_t>(window, position + 1);
  };
  const std::uint64_t oldest = std::min(first_key_of(first_position), first_position);
  for (std::size_t head = 0; head < H; ++head) {
    const Past read = read_past(past, head, oldest, first_position);
    for (std::size_t t = 0; t < T; ++t) {
      const std::uint64_t position = first_position + t, first_key = first_key_of(position);
      const auto key = [&](std::uint64_t p, std::size_t a) {
        return p < first_position ? read.k[(p - read.first) * A + a]
                                  : as_stored(past, k.row(p - first_position)[head * A + a]);
      };
      const auto value = [&](std::uint64_t p, std::size_t a) {
        return p < first_position ? read.v[(p - read.first) * A + a]
                                  : as_stored(past, v.row(p - first_position)[head * A + a]);
      };
      std::vector<double> p;  // scores of keys first_key, first_key + 1, ...; then their weights
      for (std::uint64_t j = first_key; j <= position; ++j) {
        double dot = 0.0;
        for (std::size_t a = 0; a < A; ++a) dot += double{q.row(t)[head * A + a]} * key(j, a);
        p.push_back(dot * scale);
      }
      const double largest = *std::max_element(p.begin(), p.end());
      for (double& score : p) score = std::exp(score - largest);
      const double sum = std::accumulate(p.begin(), p.end(), 0.0);
      for (std::size_t a = 0; a < A; ++a) {
        double out = 0.0;
        for (std::size_t j = 0; j < p.size(); ++j) out += p[j] / sum * value(first_key + j, a);
        y.row(t)[head * A + a] = static_cast<float>(out);  // q of this head and token has been read: y may be q
      }
    }
  }
}

void ReferenceDevice::append(Mat<const float> k, Mat<const float> v, std::uint64_t first_position,
                             const KvCache& cache) {
  const std::size_t T = k.rows, A = cache.head_dim;
  if (cache.layout != nullptr) {
    for (std::size_t head = 0; head < cache.heads; ++head) {
      turboquant::append(cache.head(head), k.cols_from(head * A, A), v.cols_from(head * A, A), first_position,
                         turboquant::kReferenceCodec);
    }
    return;
  }
  AXON_CHECK(k.cols == cache.heads * A && v.cols == cache.heads * A && v.rows == T);
  for (std::size_t t = T - std::min(T, cache.capacity); t < T; ++t) {
    const std::size_t slot = (first_position + t) % cache.capacity;
    for (std::size_t head = 0; head < cache.heads; ++head) {
      for (std::size_t a = 0; a < A; ++a) {
        const std::size_t to = (head * cache.capacity + slot) * A + a;
        store_float(cache.dtype, cache.k, to, k.row(t)[head * A + a]);
        store_float(cache.dtype, cache.v, to, v.row(t)[head * A + a]);
      }
    }
  }
}

void ReferenceDevice::route(Mat<const float> logits, Mat<std::uint32_t> experts, Mat<float> scores) {
  AXON_CHECK(experts.rows == logits.rows && scores.rows == logits.rows && scores.cols == experts.cols &&
             experts.cols <= logits.cols);
  for (std::size_t t = 0; t < logits.rows; ++t) {
    const auto row = logits.row(t);
    const double largest = double{*std::max_element(row.begin(), row.end())};
    double sum = 0.0;
    for (const float logit : row) sum += std::exp(double{logit} - largest);
    std::vector<std::uint32_t> order(row.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return row[a] > row[b]; });
    for (std::size_t j = 0; j < experts.cols; ++j) {
      experts.row(t)[j] = order[j];
      scores.row(t)[j] = static_cast<float>(std::exp(double{row[order[j]]} - largest) / sum);
    }
  }
}

void ReferenceDevice::swiglu(Mat<const float> gate, Mat<const float> up, Mat<float> h) {
  AXON_CHECK(gate.rows == h.rows && up.rows == h.rows && gate.cols == h.cols && up.cols == h.cols);
  for (std::size_t t = 0; t < h.rows; ++t) {
    for (std::size_t i = 0; i < h.cols; ++i) {
      h.row(t)[i] = static_cast<float>(silu(double{gate.row(t)[i]}) * double{up.row(t)[i]});
    }
  }
}

void ReferenceDevice::combine(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                              Mat<const float> shared, Mat<const float> shared_gate, Mat<float> x) {
  AXON_CHECK(slots.rows == x.rows && scores.rows == x.rows && shared.rows == x.rows && shared_gate.rows == x.rows);
  AXON_CHECK(slots.cols == scores.cols && shared.cols == x.cols && routed.cols == x.cols && shared_gate.cols == 1);
  for (std::size_t t = 0; t < x.rows; ++t) {
    const double gate = sigmoid(double{shared_gate.row(t)[0]});
    for (std::size_t i = 0; i < x.cols; ++i) {
      double sum = double{x.row(t)[i]} + gate * double{shared.row(t)[i]};
      for (std::size_t j = 0; j < slots.cols; ++j) {
        sum += double{scores.row(t)[j]} * double{routed.row(slots.row(t)[j])[i]};
      }
      x.row(t)[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace axon
