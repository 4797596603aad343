#include "kernels/cpu/matmul_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/affine.h"

namespace axon::reference {
namespace {

// One row of x as the weights meet it: the values themselves, or what is left of them after int8.
std::vector<double> activations(const Product& p, std::size_t row, bool int8) {
  const float* x = p.x.row_ptr(row);
  const std::size_t cols = p.weight.cols;
  std::vector<double> out(x, x + cols);
  if (!int8) return out;
  const auto group = static_cast<std::size_t>(p.weight.affine.group_size);
  for (std::size_t first = 0; first < cols; first += group) {
    float most = 0.0f;
    for (std::size_t i = 0; i < group; ++i) most = std::max(most, std::fabs(x[first + i]));
    const bool zero = most < 0x1p-100f;  // 127 / most has to stay finite
    const float scale = zero ? 0.0f : most / 127.0f;
    const float inverse = zero ? 0.0f : 127.0f / most;
    for (std::size_t i = 0; i < group; ++i) {
      const float code = std::nearbyint(x[first + i] * inverse);
      out[first + i] = static_cast<double>(scale) * static_cast<double>(code);
    }
  }
  return out;
}

// Row r of W; scale and bias are exact in double, so nothing is rounded here.
std::vector<double> weights(const Weight& w, std::size_t r) {
  std::vector<double> out(w.cols);
  const auto* row = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  for (std::size_t k = 0; k < w.cols; ++k) {
    if (!w.quantised()) {
      out[k] = static_cast<double>(load_float(w.dtype, row, k));
      continue;
    }
    const std::size_t g = r * w.groups() + k / static_cast<std::size_t>(w.affine.group_size);
    const double scale = static_cast<double>(load_float(w.affine.scale_dtype, w.affine.scales, g));
    const double bias = static_cast<double>(load_float(w.affine.scale_dtype, w.affine.biases, g));
    out[k] = scale * affine::code_at(row, w.affine.bits, k) + bias;
  }
  return out;
}

}  // namespace

void matmul(const Product& p, Arithmetic arithmetic) {
  const bool int8 = arithmetic == Arithmetic::kFast && p.weight.quantised();
  const std::size_t tokens = p.x_rows.empty() ? p.x.rows : p.x_rows.size();
  std::vector<std::vector<double>> x(tokens);
  for (std::size_t t = 0; t < tokens; ++t) x[t] = activations(p, p.x_rows.empty() ? t : p.x_rows[t], int8);
  for (std::size_t r = 0; r < p.weight.rows; ++r) {
    const std::vector<double> w = weights(p.weight, r);
    for (std::size_t t = 0; t < tokens; ++t) {
      double sum = 0.0;
      for (std::size_t k = 0; k < w.size(); ++k) sum += w[k] * x[t][k];
      float& y = p.y.row_ptr(t)[r];
      y = static_cast<float>(p.add ? static_cast<double>(y) + sum : sum);
    }
  }
}

void matmul_transposed(const Product& p) {
  const std::size_t tokens = p.x_rows.empty() ? p.x.rows : p.x_rows.size();
  AXON_CHECK(p.x.cols == p.weight.rows && p.y.rows == tokens && p.y.cols == p.weight.cols);
  std::vector<std::vector<double>> sums(tokens, std::vector<double>(p.weight.cols, 0.0));
  for (std::size_t r = 0; r < p.weight.rows; ++r) {
    const std::vector<double> w = weights(p.weight, r);
    for (std::size_t t = 0; t < tokens; ++t) {
      const double x = static_cast<double>(p.x.row_ptr(p.x_rows.empty() ? t : p.x_rows[t])[r]);
      for (std::size_t k = 0; k < w.size(); ++k) sums[t][k] += w[k] * x;
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t k = 0; k < p.weight.cols; ++k) {
      float& y = p.y.row_ptr(t)[k];
      y = static_cast<float>(p.add ? static_cast<double>(y) + sums[t][k] : sums[t][k]);
    }
  }
}

}  // namespace axon::reference
