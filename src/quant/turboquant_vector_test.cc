#include "quant/turboquant_vector.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include <gtest/gtest.h>

#include "quant/turboquant_test_data.h"

namespace axon::turboquant {
namespace {

constexpr Code kScalars[] = {Code::kScalar1, Code::kScalar2, Code::kScalar3, Code::kScalar4};

TEST(TurboquantVector, ScalarDistortionIsThePapers) {
  const std::vector<float> rows = gaussian(4000, 11);
  const double want[] = {0.3594, 0.1151, 0.0336, 0.0092};
  for (int b = 1; b <= 4; ++b) {
    const double measured = distortion(kScalars[b - 1], rows);
    EXPECT_NEAR(measured, want[b - 1], (b == 4 ? 0.03 : 0.02) * want[b - 1]);
    EXPECT_GE(measured, std::pow(4, -b));
    EXPECT_LE(measured, 2.7207 * std::pow(4, -b));
  }
}

// Vectors that are far from uniform on the sphere.
using Source = std::function<void(std::uint64_t n, std::span<float> x)>;
const CounterRng kNoise(12);
float noise(std::uint64_t n, std::size_t i) { return kNoise.normal(n * kDim + i); }

void student(std::uint64_t n, std::span<float> x) {  // 3 degrees of freedom
  for (std::size_t i = 0; i < kDim; ++i) {
    double chi = 0;
    for (std::uint64_t j = 1; j <= 3; ++j) {
      const auto g = static_cast<double>(CounterRng(13, j).normal(n * kDim + i));
      chi += g * g;
    }
    x[i] = static_cast<float>(static_cast<double>(noise(n, i)) / std::sqrt(chi / 3));
  }
}
void outliers(std::uint64_t n, std::span<float> x, std::array<std::size_t, 3> channels) {
  for (std::size_t i = 0; i < kDim; ++i) x[i] = noise(n, i);
  for (const std::size_t c : channels) x[c] *= 10;
}
void lognormal(std::uint64_t n, std::span<float> x) {
  for (std::size_t i = 0; i < kDim; ++i) x[i] = noise(n, i) * std::exp(CounterRng(14).normal(i));
}
void one_hot(std::uint64_t n, std::span<float> x) {
  for (std::size_t i = 0; i < kDim; ++i) x[i] = 0.1f * noise(n, i) + (i == n % kDim ? 1.0f : 0.0f);
}
const std::map<std::string, Source>& sources() {
  static const std::map<std::string, Source> all = {
      {"student t3", student},
      {"outliers at 64, 70, 79",
       [](std::uint64_t n, std::span<float> x) {
         outliers(n, x, {64, 70, 79});
       }},
      {"outliers at 0, 1, 2",
       [](std::uint64_t n, std::span<float> x) {
         outliers(n, x, {0, 1, 2});
       }},
      {"outliers at 5, 21, 37",
       [](std::uint64_t n, std::span<float> x) {
         outliers(n, x, {5, 21, 37});
       }},
      {"outliers anywhere",
       [](std::uint64_t n, std::span<float> x) {
         const std::uint64_t a = CounterRng(15).bits(n) % kDim;
         outliers(n, x,
                  {a, (a + 1 + CounterRng(16).bits(n) % 39) % kDim, (a + 40 + CounterRng(17).bits(n) % 40) % kDim});
       }},
      {"lognormal channels", lognormal},
      {"one hot", one_hot}};
  return all;
}

struct Spread {
  double mean, p99;
};
Spread errors(const Coder& coder, const Source& source, const std::function<void(std::span<float>)>& rotate = nullptr) {
  constexpr std::size_t kCount = 4000;
  std::vector<double> all(kCount);
  double sum = 0;
  for (std::size_t n = 0; n < kCount; ++n) {
    std::array<float, kDim> x{};
    source(n, x);
    if (rotate) rotate(x);
    all[n] = relative_error(x, round_trip(coder, x));
    sum += all[n];
  }
  std::nth_element(all.begin(), all.begin() + kCount * 99 / 100, all.end());
  return {sum / kCount, all[kCount * 99 / 100]};
}

TEST(TurboquantVector, RotationMakesEveryDistributionTheSame) {
  const Rotation rotation(kDim);
  for (const auto& [name, source] : sources()) {
    const Spread lm3 = errors({Code::kScalar3, ScaleMode::kLeastSquares, &rotation}, source);
    EXPECT_LE(lm3.mean, 0.0345) << name;
    EXPECT_LE(lm3.p99, 0.065) << name;
    EXPECT_LE(errors({Code::kTrellis2, ScaleMode::kLeastSquares, &rotation}, source).mean, 0.080) << name;
    const double unrotated = errors({Code::kScalar3, ScaleMode::kLeastSquares}, source).mean;
    EXPECT_GT(unrotated, 2.5 * 0.0336) << name;
  }
}

// Hadamard blocks of 64 and 16 with one norm do not spread outliers of the last 16 channels.
TEST(TurboquantVector, BlocksOf64And16AreNoRotationOf80) {
  const Rotation large(64), small(16);
  const Spread split = errors({Code::kScalar3, ScaleMode::kLeastSquares}, sources().at("outliers at 64, 70, 79"),
                              [&](std::span<float> x) {
                                large.apply(x.first(64));
                                small.apply(x.last(16));
                              });
  EXPECT_GT(split.p99, 0.065);
}

struct Products {
  double slope, ip_variance;
};
// Pairs (q, k) with a given cosine, or independent ones for cosine 2: the mean of <q, k^> over <q, k> and
// A E (<q, k> - <q, k^>)^2 / (|q| |k|)^2.
Products products(const Coder& coder, double cosine) {
  constexpr std::size_t kKeys = 4096, kQueries = 8;
  const std::vector<float> keys = gaussian(kKeys, 18), others = gaussian(kKeys * kQueries, 19);
  double with_exact = 0, exact_square = 0, variance = 0;
  for (std::size_t n = 0; n < kKeys; ++n) {
    const auto k = row(keys, n);
    const std::vector<float> back = round_trip(coder, k);
    const double kk = dot(k, k);
    for (std::size_t j = 0; j < kQueries; ++j) {
      std::vector<float> q(row(others, n * kQueries + j).begin(), row(others, n * kQueries + j).end());
      if (cosine <= 1) {
        const double along = dot(q, k) / kk;
        for (std::size_t i = 0; i < kDim; ++i) q[i] -= static_cast<float>(along * static_cast<double>(k[i]));
        const double to_q = std::sqrt((1 - cosine * cosine) / dot(q, q)), to_k = cosine / std::sqrt(kk);
        for (std::size_t i = 0; i < kDim; ++i) {
          q[i] = static_cast<float>(static_cast<double>(q[i]) * to_q + static_cast<double>(k[i]) * to_k);
        }
      }
      const double want = dot(q, k), got = dot(q, back), unit = dot(q, q) * kk;
      with_exact += want * got / unit;
      exact_square += want * want / unit;
      variance += (want - got) * (want - got) / unit;
    }
  }
  return {with_exact / exact_square, variance * kDim / (kKeys * kQueries)};
}

TEST(TurboquantVector, TheScaleIsUnbiased) {
  for (const Code code : kCodes) {
    if (code == Code::kScalar1) continue;
    EXPECT_NEAR(products({code, ScaleMode::kUnbiased}, 0.5).slope, 1, 0.003) << static_cast<int>(code);
  }
  const double norm_corrected[] = {0.940, 0.983, 0.995}, least_squares[] = {0.885, 0.967, 0.991};
  for (std::size_t b = 2; b <= 4; ++b) {
    EXPECT_NEAR(products({kScalars[b - 1], ScaleMode::kNormCorrected}, 0.5).slope, norm_corrected[b - 2], 0.003);
    EXPECT_NEAR(products({kScalars[b - 1], ScaleMode::kLeastSquares}, 0.5).slope, least_squares[b - 2], 0.003);
  }
}

TEST(TurboquantVector, ErrorsOfInnerProductsAreAsSmallAsClaimed) {
  const double scalar[] = {0.131, 0.0342, 0.0091}, trellis[] = {0.088, 0.0455, 0.0224, 0.0125, 0.0062};
  for (const Code code : kCodes) {
    if (code == Code::kScalar1) continue;
    const double measured = products({code}, 2).ip_variance;
    RecordProperty(fmt::format("ip_variance_{}", static_cast<int>(code)), std::to_string(measured));
    if (is_trellis(code)) {
      EXPECT_LE(measured, trellis[bits_x2(code) - 4]);
    } else {
      const double want = scalar[bits_x2(code) / 2 - 2];
      EXPECT_NEAR(measured, want, 0.04 * want);
    }
  }
}

TEST(TurboquantVector, ZeroIsExactlyZero) {
  const Rotation rotation(kDim);
  const std::vector<float> zero(kDim, 0.0f);
  std::vector<std::uint8_t> codes(40, 0xFF);
  for (const Code code : kCodes) {
    for (const ScaleMode mode : {ScaleMode::kUnbiased, ScaleMode::kNormCorrected, ScaleMode::kLeastSquares}) {
      const Coder coder{code, mode, &rotation};
      const std::span<std::uint8_t> used(codes.data(), code_bytes(code, kDim));
      EXPECT_EQ(coder.encode(zero, used), 0.0f);
      for (const std::uint8_t byte : used) EXPECT_EQ(byte, 0);
      std::vector<float> back(kDim, 1.0f);
      coder.decode(used, load_scale(ScaleKind::kByte, store_scale(ScaleKind::kByte, 0, 3).bits, 3), back);
      for (const float v : back) EXPECT_EQ(v, 0.0f);
    }
  }
}

TEST(TurboquantVector, WhatIsNotFiniteIsRefusedAndNothingIsWritten) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 1e35f}) {
    for (const Code code : {Code::kScalar3, Code::kTrellis2p5}) {
      std::vector<float> x = gaussian(1, 20);
      x[77] = bad;
      std::vector<std::uint8_t> codes(code_bytes(code, kDim), 0x5A);
      EXPECT_FALSE(Coder{code}.encode(x, codes).has_value());
      for (const std::uint8_t byte : codes) EXPECT_EQ(byte, 0x5A);
    }
  }
}

TEST(TurboquantVector, NormsFrom2ToTheMinus30To2ToThe15KeepTheirShape) {
  const std::vector<float> rows = gaussian(64, 21);
  const Rotation rotation(kDim);
  for (const ScaleKind kind : {ScaleKind::kByte, ScaleKind::kHalf}) {
    for (int octave = -30; octave <= 15; ++octave) {
      const Coder coder{.code = Code::kTrellis3, .rotation = &rotation};
      for (std::size_t n = 0; n < 64; ++n) {
        std::vector<float> x(row(rows, n).begin(), row(rows, n).end()), back(kDim);
        const auto to_norm = static_cast<float>(std::ldexp(1 / std::sqrt(dot(x, x)), octave));
        for (float& v : x) v *= to_norm;
        std::vector<std::uint8_t> codes(30);
        const float scale = coder.encode(x, codes).value();
        const int exponent = scale_exponent(scale);
        const StoredScale stored = store_scale(kind, scale, exponent);
        EXPECT_FALSE(stored.saturated);
        coder.decode(codes, load_scale(kind, stored.bits, exponent), back);
        EXPECT_LT(relative_error(x, back), 0.06) << "norm 2^" << octave;
      }
    }
  }
}

TEST(TurboquantVector, TheScaleIsClamped) {
  // All energy in one coordinate and no rotation: one bit a value spreads it over all.
  std::vector<float> x(kDim, 0.0f), back(kDim);
  x[3] = 1;
  std::vector<std::uint8_t> codes(10);
  const Coder coder{Code::kScalar1};
  const float scale = coder.encode(x, codes).value();
  coder.decode(codes, scale, back);
  EXPECT_NEAR(std::sqrt(dot(back, back)), 1.5, 1e-5);
}

TEST(TurboquantVector, AConstantAddedToAllVectorsAndToTheCentreChangesNoCode) {
  const Rotation rotation(kDim);
  std::vector<float> rows = gaussian(200, 22), centre = gaussian(1, 23), moved(kDim), moved_centre(kDim);
  for (float& v : rows) v = std::round(v * 4096) / 4096;  // so that the sums below are exact
  for (float& v : centre) v = std::round(v * 4096) / 4096;
  const auto constant = [](std::size_t i) { return 16.0f - static_cast<float>(i % 7); };
  for (std::size_t i = 0; i < kDim; ++i) moved_centre[i] = centre[i] + constant(i);
  const Coder coder{Code::kTrellis3, ScaleMode::kUnbiased, &rotation, centre};
  const Coder moved_coder{Code::kTrellis3, ScaleMode::kUnbiased, &rotation, moved_centre};
  std::vector<std::uint8_t> codes(30), moved_codes(30);
  for (std::size_t n = 0; n < 200; ++n) {
    const auto x = row(rows, n);
    for (std::size_t i = 0; i < kDim; ++i) moved[i] = x[i] + constant(i);
    EXPECT_EQ(coder.encode(x, codes), moved_coder.encode(moved, moved_codes));
    EXPECT_EQ(codes, moved_codes);
    std::vector<float> back(kDim), moved_back(kDim);
    coder.decode(codes, 1.0f, back);
    moved_coder.decode(moved_codes, 1.0f, moved_back);
    for (std::size_t i = 0; i < kDim; ++i) EXPECT_NEAR(moved_back[i] - constant(i), back[i], 1e-5f);
  }
}

TEST(TurboquantVector, RotatedAndRotatingCodersAgree) {
  const Rotation rotation(kDim);
  const std::vector<float> rows = gaussian(100, 24);
  for (const Code code : kCodes) {
    std::vector<std::uint8_t> a(code_bytes(code, kDim)), b(a.size());
    for (std::size_t n = 0; n < 100; ++n) {
      std::vector<float> y(row(rows, n).begin(), row(rows, n).end());
      const auto scale = Coder{.code = code, .rotation = &rotation}.encode(y, a);
      rotation.apply(y);
      EXPECT_NEAR(Coder{code}.encode(y, b).value(), scale.value(), 1e-5f);
      EXPECT_EQ(a, b);
    }
  }
}

TEST(TurboquantVector, OtherDimsAreCodedToo) {
  for (const std::size_t dim : {16u, 48u, 64u, 96u, 128u, 256u, 1024u}) {
    const Rotation rotation(dim);
    const CounterRng rng(25, dim);
    for (const Code code : {Code::kScalar3, Code::kTrellis2p5, Code::kTrellis3p5}) {
      double error = 0;
      for (std::uint64_t n = 0; n < 50; ++n) {
        std::vector<float> x(dim);
        for (std::size_t i = 0; i < dim; ++i) x[i] = rng.normal(n * dim + i);
        error += relative_error(x, round_trip({code, ScaleMode::kLeastSquares, &rotation}, x)) / 50;
      }
      EXPECT_LT(error, code == Code::kScalar3 ? 0.037 : code == Code::kTrellis2p5 ? 0.050 : 0.015) << dim;
    }
  }
}

}  // namespace
}  // namespace axon::turboquant
