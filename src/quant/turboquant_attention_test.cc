// What codes do to the output of attention: the relative error of softmax(K q / sqrt(A)) V over random keys.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "quant/turboquant_test_data.h"

namespace axon::turboquant {
namespace {

// Vectors as the cache gives them back, scales in a byte.
std::vector<float> coded(const Coder& coder, const std::vector<float>& rows) {
  std::vector<std::uint8_t> codes(code_bytes(coder.code, kDim));
  std::vector<float> out(rows.size());
  for (std::size_t t = 0; t < rows.size() / kDim; ++t) {
    const float scale = coder.encode(row(rows, t), codes).value();
    const float stored = load_scale(ScaleKind::kByte, store_scale(ScaleKind::kByte, scale, 0).bits, 0);
    coder.decode(codes, stored, {out.data() + t * kDim, kDim});
  }
  return out;
}

// q [A] holds what gives logits.
std::vector<float> attend(std::span<const float> q, const std::vector<float>& keys, const std::vector<float>& values) {
  const std::size_t count = keys.size() / kDim;
  std::vector<float> p(count), out(kDim), part(kDim);
  float most = -std::numeric_limits<float>::infinity();
  for (std::size_t t = 0; t < count; ++t) {
    std::array<float, 16> sums{};
    for (std::size_t i = 0; i < kDim; ++i) sums[i % 16] += q[i] * keys[t * kDim + i];
    for (const float s : sums) p[t] += s;
    most = std::max(most, p[t]);
  }
  float total = 0;
  for (std::size_t first = 0; first < count; first += 64) {
    std::fill(part.begin(), part.end(), 0.0f);
    for (std::size_t t = first; t < std::min(count, first + 64); ++t) {
      const float w = std::exp(p[t] - most);
      total += w;
      for (std::size_t i = 0; i < kDim; ++i) part[i] += w * values[t * kDim + i];
    }
    for (std::size_t i = 0; i < kDim; ++i) out[i] += part[i];
  }
  for (float& v : out) v /= total;
  return out;
}

// A query whose logits over standard normal keys have deviation tau.
std::vector<float> query(std::uint64_t n, double tau) {
  std::vector<float> q = gaussian(1, 5000 + n);
  const auto unit = static_cast<float>(tau / std::sqrt(dot(q, q)));
  for (float& v : q) v *= unit;
  return q;
}

constexpr std::size_t kSets = 16, kQueries = 48, kTokens = 1024;

struct Case {
  const char* name;
  Code key, value;
  std::array<double, 3> published;  // at tau = 1, 2, 3
};
// Mean over queries of |o - o^|^2 / |o|^2 at tau = 1, 2, 3.
using Errors = std::array<double, 3>;
Errors errors(const Case& c) {
  Errors sum{};
  for (std::uint64_t set = 0; set < kSets; ++set) {
    const std::vector<float> keys = gaussian(kTokens, 100 + 2 * set), values = gaussian(kTokens, 101 + 2 * set);
    const std::vector<float> k = coded({c.key, ScaleMode::kLeastSquares}, keys);
    const std::vector<float> v = coded({c.value, ScaleMode::kLeastSquares}, values);
    for (std::size_t n = 0; n < kQueries; ++n) {
      for (std::size_t tau = 0; tau < 3; ++tau) {
        const std::vector<float> q = query(set * kQueries + n, static_cast<double>(tau + 1));
        sum[tau] += relative_error(attend(q, keys, values), attend(q, k, v)) / (kSets * kQueries);
      }
    }
  }
  return sum;
}

class Attention : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    TurboquantAttention, Attention,
    testing::Values(Case{"lm_k3_v2", Code::kScalar3, Code::kScalar2, {0.144, 0.212, 0.268}},
                    Case{"tcq_k3_v2", Code::kTrellis3, Code::kTrellis2, {0.099, 0.143, 0.184}},
                    Case{"tcq_k2p5_v2p5", Code::kTrellis2p5, Code::kTrellis2p5, {0.079, 0.182, 0.300}},
                    Case{"lm_k3_v3", Code::kScalar3, Code::kScalar3, {0.065, 0.135, 0.196}},
                    Case{"tcq_k3p5_v3", Code::kTrellis3p5, Code::kTrellis3, {0.033, 0.068, 0.101}},
                    Case{"lm_k4_v3", Code::kScalar4, Code::kScalar3, {0.044, 0.071, 0.100}},
                    Case{"tcq_k4_v3", Code::kTrellis4, Code::kTrellis3, {0.027, 0.044, 0.064}},
                    Case{"lm_k4_v4", Code::kScalar4, Code::kScalar4, {0.018, 0.047, 0.078}},
                    Case{"tcq_k4_v4", Code::kTrellis4, Code::kTrellis4, {0.0126, 0.0285, 0.047}}),
    [](const auto& param) { return std::string(param.param.name); });

// The published figures are simulations whose scales had 16 steps an octave. Ours has 32: at 4 bits it errs up to a
// fifth less. Much less than that would be a fault of this test.
TEST_P(Attention, ErrsNoMoreThanPublished) {
  const Case& c = GetParam();
  const Errors measured = errors(c);
  for (std::size_t tau = 0; tau < 3; ++tau) {
    RecordProperty(fmt::format("error_tau_{}", tau + 1), std::to_string(measured[tau]));
    EXPECT_LE(measured[tau], 1.1 * c.published[tau]) << "tau " << tau + 1;
    EXPECT_GE(measured[tau], 0.75 * c.published[tau]) << "tau " << tau + 1;
  }
}

TEST(TurboquantAttention, AtEqualBytesTrellisCodesErrLess) {
  const Case pairs[][2] = {{{"", Code::kScalar3, Code::kScalar2, {}}, {"", Code::kTrellis3, Code::kTrellis2, {}}},
                           {{"", Code::kScalar4, Code::kScalar4, {}}, {"", Code::kTrellis4, Code::kTrellis4, {}}}};
  for (const auto& [scalar, trellis] : pairs) {
    const Errors a = errors(scalar), b = errors(trellis);
    for (std::size_t tau = 0; tau < 3; ++tau) EXPECT_LT(b[tau], 0.8 * a[tau]);
  }
}

// Values whose mean is as large as their spread: the unbiased scale keeps the mean, a centre takes it out of the codes.
TEST(TurboquantAttention, TheMeanOfValuesSurvives) {
  constexpr std::size_t kLong = 4096;
  const std::vector<float> keys = gaussian(kLong, 60);
  std::vector<float> values = gaussian(kLong, 61), mean = gaussian(1, 62);
  const auto to_noise = static_cast<float>(std::sqrt(static_cast<double>(kDim) / dot(mean, mean)));
  for (float& v : mean) v *= to_noise;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] += mean[i % kDim];
  const Rotation rotation(kDim);
  const std::vector<float> k = coded({Code::kTrellis3, ScaleMode::kUnbiased, &rotation}, keys);
  const std::vector<float> plain = coded({Code::kTrellis2, ScaleMode::kUnbiased, &rotation}, values);
  const std::vector<float> centred = coded({Code::kTrellis2, ScaleMode::kUnbiased, &rotation, mean}, values);
  double plain_error = 0, centred_error = 0;
  constexpr std::size_t kLongQueries = 64;
  for (std::size_t n = 0; n < kLongQueries; ++n) {
    const std::vector<float> q = query(n, 1), want = attend(q, keys, values);
    plain_error += relative_error(want, attend(q, k, plain)) / kLongQueries;
    centred_error += relative_error(want, attend(q, k, centred)) / kLongQueries;
  }
  RecordProperty("unbiased", std::to_string(plain_error));
  RecordProperty("centred", std::to_string(centred_error));
  EXPECT_LE(plain_error, 0.0005);
  EXPECT_LE(centred_error, 0.00015);
}

}  // namespace
}  // namespace axon::turboquant
