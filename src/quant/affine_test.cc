#include "quant/affine.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace axon::affine {
namespace {

// Just enough of safetensors for a file that MLX wrote; io, which reads it properly, lies above quant.
class Golden {
 public:
  Golden() {
    std::ifstream file(AXON_SOURCE_DIR "/tests/golden/mlx-tiny/quantize.safetensors", std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t header = 0;
    if (bytes_.size() < 8) return;
    std::memcpy(&header, bytes_.data(), 8);
    header_ = std::string_view(bytes_.data() + 8, header);
  }
  bool present() const { return !header_.empty(); }
  std::string_view operator[](const std::string& name) const {
    const std::size_t entry = header_.find("\"" + name + "\":");
    if (entry == std::string_view::npos) return {};
    constexpr std::string_view kKey = "\"data_offsets\":[";
    const char* at = header_.data() + header_.find(kKey, entry) + kKey.size();
    char* comma = nullptr;
    const auto begin = std::strtoull(at, &comma, 10);
    const auto end = std::strtoull(comma + 1, nullptr, 10);
    return {bytes_.data() + 8 + header_.size() + begin, end - begin};
  }

 private:
  std::string bytes_;
  std::string_view header_;
};

struct Encoded {
  std::vector<std::byte> codes, scales, biases;
};

Encoded encode(std::span<const float> w, std::size_t cols, int bits, int group, DType dtype) {
  const std::size_t rows = w.size() / cols;
  const std::size_t row_bytes = cols * static_cast<std::size_t>(bits) / 8;
  const std::size_t step = cols / static_cast<std::size_t>(group) * size_of(dtype);
  Encoded out{std::vector<std::byte>(rows * row_bytes), std::vector<std::byte>(rows * step),
              std::vector<std::byte>(rows * step)};
  for (std::size_t r = 0; r < rows; ++r) {
    encode_row(w.subspan(r * cols, cols), bits, group, dtype, out.codes.data() + r * row_bytes,
               out.scales.data() + r * step, out.biases.data() + r * step);
  }
  return out;
}

Weight view(const Encoded& e, std::size_t rows, std::size_t cols, int bits, int group, DType dtype) {
  return {e.codes.data(), rows, cols, DType::kU32, {bits, group, dtype, e.scales.data(), e.biases.data()}};
}

std::string_view text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What MLX wrote for 8 rows made of edge cases.
class GoldenVectors : public testing::TestWithParam<DType> {};

TEST_P(GoldenVectors, AreReproducedWordForWord) {
  const Golden golden;
  ASSERT_TRUE(golden.present());
  const DType dtype = GetParam();
  const std::string prefix = dtype == DType::kF32 ? "f32" : dtype == DType::kF16 ? "f16" : "bf16";
  constexpr std::size_t kRows = 8, kCols = 256;
  const std::string_view stored = golden["w." + prefix];
  ASSERT_EQ(stored.size(), kRows * kCols * size_of(dtype));
  std::vector<float> w(kRows * kCols);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = load_float(dtype, stored.data(), i);
  // `deq` was computed in the scale dtype: the product is rounded there, and then the sum.
  const float ulp = dtype == DType::kF32 ? 0x1p-23f : dtype == DType::kF16 ? 0x1p-10f : 0x1p-7f;
  for (const int bits : kBits) {
    for (const int group : kGroupSizes) {
      const std::string name = fmt::format("{}.b{}.g{}", prefix, bits, group);
      const Encoded mine = encode(w, kCols, bits, group, dtype);
      ASSERT_FALSE(golden[name + ".packed"].empty()) << name;
      EXPECT_TRUE(text(mine.codes) == golden[name + ".packed"]) << name;
      EXPECT_TRUE(text(mine.scales) == golden[name + ".scales"]) << name;
      EXPECT_TRUE(text(mine.biases) == golden[name + ".biases"]) << name;
      const Weight weight = view(mine, kRows, kCols, bits, group, dtype);
      const std::string_view deq = golden[name + ".deq"];
      ASSERT_EQ(deq.size(), stored.size());
      std::vector<float> row(kCols);
      for (std::size_t r = 0; r < kRows; ++r) {
        decode_row(weight, r, 0, row);
        for (std::size_t k = 0; k < kCols; ++k) {
          const std::size_t g = (r * kCols + k) / static_cast<std::size_t>(group);
          const float bias = load_float(dtype, mine.biases.data(), g);
          const float most = std::max(std::fabs(bias), std::fabs(row[k] - bias));
          const float smallest = dtype == DType::kF16 ? 0x1p-24f : 0.0f;  // subnormal steps
          EXPECT_NEAR(row[k], load_float(dtype, deq.data(), r * kCols + k), 1.5f * ulp * most + smallest)
              << name << " row " << r << " column " << k;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EachDtype, GoldenVectors, testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& of) { return std::string(name_of(of.param)); });

// The definition, value by value: what the vectorised encoder must reproduce.
unsigned code_of(float w, Parameters p, int bits) {
  const float q = std::nearbyint((w - p.bias) / p.scale);
  return static_cast<unsigned>(std::min(std::max(q, 0.0f), static_cast<float>((1 << bits) - 1)));
}

TEST(Affine, CodesAreThoseOfTheDefinition) {
  const CounterRng random(3);
  for (const int bits : kBits) {
    for (const int group : kGroupSizes) {
      const auto size = static_cast<std::size_t>(group);
      for (std::uint64_t trial = 0; trial < 200; ++trial) {
        std::vector<float> w(2 * size);
        const float magnitude = std::ldexp(1.0f, static_cast<int>(trial) - 120);
        for (std::size_t i = 0; i < w.size(); ++i) {
          const float noise = random.normal(trial * 1000 + i);
          // Multiples of 1/4 bring ties; some groups keep to one side of zero.
          w[i] = trial % 3 == 0 ? std::nearbyint(noise * 8.0f) * 0.25f : noise * magnitude;
          if (trial % 7 == 1) w[i] = std::fabs(w[i]);
          if (trial % 7 == 2) w[i] = -std::fabs(w[i]);
        }
        const Encoded mine = encode(w, w.size(), bits, group, DType::kF32);
        for (std::size_t i = 0; i < w.size(); ++i) {
          const Parameters p = fit_group(std::span(w).subspan(i / size * size, size), bits);
          ASSERT_EQ(code_at(mine.codes.data(), bits, i), code_of(w[i], p, bits))
              << "bits " << bits << " group " << group << " trial " << trial << " value " << i;
          ASSERT_EQ(load_float(DType::kF32, mine.scales.data(), i / size), p.scale);
          ASSERT_EQ(load_float(DType::kF32, mine.biases.data(), i / size), p.bias);
        }
      }
    }
  }
}

TEST(Affine, DecodingIsOffByHalfAStepAtMost) {
  const CounterRng random(4);
  std::vector<float> w(512), back(512);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = random.normal(i);
  for (const int bits : kBits) {
    const Encoded mine = encode(w, w.size(), bits, 64, DType::kF32);
    const Weight weight = view(mine, 1, w.size(), bits, 64, DType::kF32);
    decode_row(weight, 0, 0, back);
    for (std::size_t i = 0; i < w.size(); ++i) {
      // Anchoring the larger end may shift the other one by half a step, so it can be clipped by that much.
      const float step = std::fabs(load_float(DType::kF32, mine.scales.data(), i / 64));
      EXPECT_LE(std::fabs(back[i] - w[i]), 1.01f * step) << bits;
    }
    std::vector<float> part(100);
    decode_row(weight, 0, 33, part);
    for (std::size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], back[33 + i]);
  }
}

TEST(Affine, ZeroStaysZero) {
  const CounterRng random(5);
  std::vector<float> w(64);
  for (const int bits : kBits) {
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = i == 17 ? 0.0f : random.normal(i);
    const Encoded mine = encode(w, 64, bits, 64, DType::kF32);
    std::vector<float> back(64);
    decode_row(view(mine, 1, 64, bits, 64, DType::kF32), 0, 0, back);
    const float bias = std::fabs(load_float(DType::kF32, mine.biases.data(), 0));
    EXPECT_NEAR(back[17], 0.0f, bias * std::numeric_limits<float>::epsilon()) << bits;
  }
}

TEST(Affine, EdgeGroups) {
  EXPECT_EQ(fit_group(std::vector<float>(64, 0.0f), 4).scale, -1e-7f);
  EXPECT_EQ(fit_group(std::vector<float>(64, 0.0f), 4).bias, 0.0f);
  const Parameters constant = fit_group(std::vector<float>(64, 0.5f), 4);
  EXPECT_EQ(constant.bias, 0.5f);
  EXPECT_LT(constant.scale, 0.0f);
  // Ties between the ends count as positive.
  std::vector<float> tie(32, 0.0f);
  tie[3] = 1.0f;
  tie[4] = -1.0f;
  EXPECT_EQ(fit_group(tie, 4).bias, 1.0f);
  tie[4] = -1.5f;
  EXPECT_EQ(fit_group(tie, 4).bias, -1.5f);
}

}  // namespace
}  // namespace axon::affine
