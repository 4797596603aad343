#include "quant/turboquant_recode.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "quant/turboquant_test_data.h"
#include "quant/turboquant_trellis.h"

namespace axon::turboquant {
namespace {

constexpr std::size_t kDims[] = {16, 32, 48, 64, 80, 96, 112, 128, 256, 1024};

// A normal vector as the tail would hold it: the largest magnitude is 127.
std::vector<std::int8_t> tail_vector(std::size_t A, std::uint64_t seed) {
  const CounterRng rng(81, seed);
  std::vector<float> x(A);
  for (std::size_t i = 0; i < A; ++i) x[i] = rng.normal(i);
  std::vector<std::int8_t> values(A);
  std::uint16_t scale = 0;
  EXPECT_TRUE(encode_tail(x, values, scale));
  return values;
}

std::vector<float> dequantised(std::span<const std::int8_t> values, float factor) {
  std::vector<float> y(values.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = factor * static_cast<float>(values[i]);
  return y;
}

double error_of(Code code, std::span<const float> y, std::span<const std::uint8_t> codes, float scale) {
  std::vector<float> back(y.size());
  Coder{.code = code}.decode(codes, scale, back);
  return relative_error(y, back);
}

// One vector both ways: true if the codes agree, and then the scales do.
struct Compared {
  bool same_codes;
  double error, coder_error;
};
Compared compare(Code code, std::span<const std::int8_t> values, float factor) {
  const std::vector<float> y = dequantised(values, factor);
  std::vector<std::uint8_t> codes(code_bytes(code, values.size()), 0xAA), expected(codes.size());
  const float scale = recode(code, values, factor, codes);
  const float want = Coder{.code = code}.encode(y, expected).value();
  if (codes == expected) {
    EXPECT_NEAR(scale, want, 1e-5f * want) << static_cast<int>(code) << " at head_dim " << values.size();
  }
  return {codes == expected, error_of(code, y, codes, scale), error_of(code, y, expected, want)};
}

TEST(TurboquantRecode, IsTheCoderOnTheDequantisedVector) {
  for (const Code code : kCodes) {
    for (const std::size_t A : kDims) {
      const std::size_t count = A > 200 ? 40 : 400;
      std::size_t agreed = 0;
      double error = 0, coder_error = 0;
      for (std::uint64_t n = 0; n < count; ++n) {
        const Compared one = compare(code, tail_vector(A, n), 0.0125f);
        agreed += one.same_codes;
        error += one.error;
        coder_error += one.coder_error;
      }
      EXPECT_GE(agreed, count * 97 / 100) << static_cast<int>(code) << " at head_dim " << A;
      EXPECT_NEAR(error, coder_error, 0.005 * coder_error) << static_cast<int>(code) << " at head_dim " << A;
    }
  }
}

TEST(TurboquantRecode, ZeroIsExactlyZero) {
  for (const Code code : kCodes) {
    for (const std::size_t A : kDims) {
      std::vector<std::uint8_t> codes(code_bytes(code, A), 0xFF);
      const std::vector<std::uint8_t> zeros(codes.size(), 0);
      EXPECT_EQ(recode(code, std::vector<std::int8_t>(A, 0), 1.0f, codes), 0.0f);
      EXPECT_EQ(codes, zeros);
      codes.assign(codes.size(), 0xFF);
      EXPECT_EQ(recode(code, tail_vector(A, 3), 0.0f, codes), 0.0f);
      EXPECT_EQ(codes, zeros);
    }
  }
}

TEST(TurboquantRecode, ExtremeVectorsAreTheCodersToo) {
  for (const Code code : kCodes) {
    for (const std::size_t A : kDims) {
      std::vector<std::int8_t> high(A, 127), low(A, -127), alternating(A, 127), one_hot(A, 0), faint(A, 0);
      for (std::size_t i = 0; i < A; i += 2) alternating[i] = -127;
      one_hot[A / 2] = -127;
      faint[A - 1] = 1;
      for (const auto& values : {high, low, alternating, one_hot, faint}) {
        EXPECT_TRUE(compare(code, values, 0.5f).same_codes) << static_cast<int>(code) << " at head_dim " << A;
      }
    }
  }
}

TEST(TurboquantRecode, TheFactorScalesAndNothingElse) {
  const std::vector<std::int8_t> values = tail_vector(kDim, 5);
  for (const Code code : kCodes) {
    std::vector<std::uint8_t> codes(code_bytes(code, kDim)), first(codes.size());
    const float one = recode(code, values, 1.0f, first);
    for (const int octave : {-149, -126, -24, -1, 1, 15, 100}) {
      const float factor = std::ldexp(1.0f, octave);
      EXPECT_EQ(recode(code, values, factor, codes), std::ldexp(one, octave)) << "factor 2^" << octave;
      EXPECT_EQ(codes, first);
    }
    const float largest = std::numeric_limits<float>::max();
    EXPECT_EQ(recode(code, values, largest, codes), largest);  // what passes float32 stays finite
  }
}

// Products that end in a half, and those beside one: 0.49999997 + 0.5 would round to 1.
TEST(TurboquantRecode, InputsRoundHalvesAwayFromZero) {
  const std::vector<std::int8_t> values = {1, -1, 3, -3, 5, -5, 127, -127, 0};
  std::vector<std::int16_t> x(values.size());
  const auto inputs = [&](float unit) {
    recode_input(values, unit, x);
    return x;
  };
  EXPECT_EQ(inputs(0.5f), (std::vector<std::int16_t>{1, -1, 2, -2, 3, -3, 64, -64, 0}));
  EXPECT_EQ(inputs(std::nextafter(0.5f, 0.0f)), (std::vector<std::int16_t>{0, 0, 1, -1, 2, -2, 63, -63, 0}));
  EXPECT_EQ(inputs(100.5f), (std::vector<std::int16_t>{101, -101, 302, -302, 503, -503, 12764, -12764, 0}));
  EXPECT_EQ(inputs(131072.0f),
            (std::vector<std::int16_t>{16383, -16383, 16383, -16383, 16383, -16383, 16383, -16383, 0}));
}

// Codes that point away from the vector, or are all zero.
TEST(TurboquantRecode, ScalesOfCodesThatDoNotFitAreBounded) {
  for (const Code code : kCodes) {
    const double step = static_cast<double>(codebook(code).step);
    const auto limit = static_cast<float>(1.5 * std::sqrt(100.0 / 50) / step * 2);
    EXPECT_EQ(recode_scale(code, {100, 0, 50}, 2.0f), limit);
    EXPECT_EQ(recode_scale(code, {100, -5, 50}, 2.0f), limit);
    EXPECT_EQ(recode_scale(code, {100, 1, 50}, 2.0f), limit);
    EXPECT_EQ(recode_scale(code, {100, 60, 50}, 2.0f), static_cast<float>(100.0 / 60 / step * 2));
    EXPECT_EQ(recode_scale(code, {100, 0, 0}, 2.0f), 0.0f);
    EXPECT_EQ(recode_scale(code, {0, 0, 50}, 2.0f), 0.0f);
  }
}

// Fixed bytes and scales: on any CPU and compiler these are the ones.
TEST(TurboquantRecode, BytesAndScalesAreThese) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&](std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t b : bytes) hash = (hash ^ b) * 1099511628211u;
  };
  std::uint32_t state = 7;
  for (const Code code : kCodes) {
    for (int n = 0; n < 20; ++n) {
      std::vector<std::int8_t> values(kDim);
      for (auto& v : values) {
        state = state * 1664525u + 1013904223u;
        v = static_cast<std::int8_t>(static_cast<int>((state >> 9) % 255u) - 127);
      }
      std::vector<std::uint8_t> codes(code_bytes(code, kDim));
      const float scale = recode(code, values, 0.03f, codes);
      std::uint8_t bytes[4];
      std::memcpy(bytes, &scale, 4);
      add(codes);
      add(bytes);
    }
  }
  EXPECT_EQ(hash, 18169998556430469043u);
}

}  // namespace
}  // namespace axon::turboquant
