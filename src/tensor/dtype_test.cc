#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"

namespace axon {
namespace {

// IEEE binary16 and bfloat16 by their definition, in double: sign, exponent bits, fraction bits.
double decode(std::uint32_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits >> (exponent_bits + fraction_bits)) & 1 ? -1.0 : 1.0;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1)) * std::ldexp(1.0, -fraction_bits);
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1.0 + fraction, exponent - bias);
}

// The nearest value to |v| in the grid of the format, ties to even, as bits; beyond the grid, infinity.
std::uint32_t encode(double v, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t sign = std::signbit(v) ? 1u << (exponent_bits + fraction_bits) : 0u;
  const std::uint32_t infinity = ((1u << exponent_bits) - 1u) << fraction_bits;
  v = std::fabs(v);
  if (std::isinf(v)) return sign | infinity;
  const int exponent = v == 0 ? 1 - bias : std::max(std::ilogb(v), 1 - bias);
  const double steps = std::nearbyint(std::ldexp(v, fraction_bits - exponent));  // exact scaling, then ties to even
  // Counting codes upwards from zero: below 2^fraction_bits steps the number is subnormal.
  const auto code =
      static_cast<std::uint64_t>(steps) + (static_cast<std::uint64_t>(exponent + bias - 1) << fraction_bits);
  return sign | static_cast<std::uint32_t>(std::min<std::uint64_t>(code, infinity));
}

constexpr std::array kAll = {DType::kF32,    DType::kF16,        DType::kBF16,       DType::kU8,     DType::kI8,
                             DType::kU16,    DType::kI16,        DType::kU32,        DType::kI32,    DType::kU64,
                             DType::kI64,    DType::kF64,        DType::kBool,       DType::kF8E4M3, DType::kF8E5M2,
                             DType::kF8E8M0, DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz, DType::kF6E2M3, DType::kF6E3M2,
                             DType::kF4,     DType::kC64};

TEST(DType, NamesAndSizes) {
  std::size_t bytes = 0, bits = 0;
  for (const DType t : kAll) {
    EXPECT_EQ(dtype_from_name(name_of(t)), t);
    bytes += size_of(t);
    bits += bits_of(t);
  }
  EXPECT_EQ(bytes, 4u + 2 + 2 + 1 + 1 + 2 + 2 + 4 + 4 + 8 + 8 + 8 + 1 + 5 + 8);
  EXPECT_EQ(bits, bytes * 8 + 6 + 6 + 4);
  EXPECT_EQ(size_of(DType::kBF16), 2u);
  EXPECT_EQ(size_of(DType::kBool), 1u);
  EXPECT_EQ(dtype_from_name("F8_E5M2"), DType::kF8E5M2);
  EXPECT_EQ(dtype_from_name("F4"), DType::kF4);
  for (const char* name : {"", "?", "f32", "F8_E4M4", "F3", "F322"}) EXPECT_FALSE(dtype_from_name(name)) << name;
  for (const DType t : kAll) EXPECT_EQ(is_float(t), t == DType::kF32 || t == DType::kF16 || t == DType::kBF16);
}

TEST(DType, PackedBytes) {
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  EXPECT_EQ(packed_bytes(DType::kF32, 3), 12u);
  EXPECT_EQ(packed_bytes(DType::kF4, 6), 3u);
  EXPECT_EQ(packed_bytes(DType::kF4, 7), std::nullopt);
  EXPECT_EQ(packed_bytes(DType::kF4, 0), 0u);
  EXPECT_EQ(packed_bytes(DType::kF4, kMost - 1), kMost / 2);
  EXPECT_EQ(packed_bytes(DType::kF6E2M3, 4), 3u);
  EXPECT_EQ(packed_bytes(DType::kF6E3M2, 6), std::nullopt);
  EXPECT_EQ(packed_bytes(DType::kF6E3M2, 12), 9u);
  EXPECT_EQ(packed_bytes(DType::kU8, kMost), kMost);
  EXPECT_EQ(packed_bytes(DType::kBF16, kMost / 2), kMost - 1);
  EXPECT_EQ(packed_bytes(DType::kBF16, kMost / 2 + 1), std::nullopt);
  EXPECT_EQ(packed_bytes(DType::kC64, std::uint64_t{1} << 61), std::nullopt);
}

TEST(F16, EveryValueDecodesAndComesBack) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const float value = f16_to_float(half);
    const double expected = decode(h, 5, 10);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << h;
      ASSERT_TRUE(std::isnan(f16_to_float(float_to_f16(value)))) << h;
      ASSERT_EQ(float_to_f16(value) & 0x8000u, h & 0x8000u) << h;
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), expected) << h;
    ASSERT_EQ(std::signbit(value), h >= 32768) << h;
    ASSERT_EQ(float_to_f16(value), half) << h;
  }
}

TEST(BF16, EveryValueDecodesAndComesBack) {
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const float value = bf16_to_float(half);
    const double expected = decode(h, 8, 7);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << h;
      ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << h;
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), expected) << h;
    ASSERT_EQ(float_to_bf16(value), half) << h;
  }
}

// What lies between two neighbours of the short format is where rounding goes wrong: the middle, and one ulp of float
// to either side of it and of both ends.
void check_between(int exponent_bits, int fraction_bits, std::uint16_t (*convert)(float)) {
  const std::uint32_t infinity = ((1u << exponent_bits) - 1u) << fraction_bits;
  const std::uint32_t sign = 1u << (exponent_bits + fraction_bits);
  for (std::uint32_t h = 0; h < infinity; ++h) {
    const double low = decode(h, exponent_bits, fraction_bits);
    const double step = decode(h | 1u, exponent_bits, fraction_bits) - decode(h & ~1u, exponent_bits, fraction_bits);
    const auto middle = static_cast<float>(low + step / 2);  // the last one is halfway to what would follow
    for (const float at : {static_cast<float>(low), middle}) {
      for (const float v : {std::nextafter(at, 0.0f), at, std::nextafter(at, INFINITY)}) {
        const std::uint32_t expected = encode(static_cast<double>(v), exponent_bits, fraction_bits);
        ASSERT_EQ(convert(v), expected) << v;
        ASSERT_EQ(convert(-v), expected ^ sign) << v;
      }
    }
  }
}

TEST(F16, RoundsToNearestEven) { check_between(5, 10, float_to_f16); }
TEST(BF16, RoundsToNearestEven) { check_between(8, 7, float_to_bf16); }

TEST(F16, AnyFloatRoundsAsDefined) {
  const CounterRng rng(1);
  for (std::uint64_t i = 0; i < 2'000'000; ++i) {
    const auto v = std::bit_cast<float>(static_cast<std::uint32_t>(rng.bits(i)));
    if (std::isnan(v)) {
      ASSERT_TRUE(std::isnan(f16_to_float(float_to_f16(v))) && std::isnan(bf16_to_float(float_to_bf16(v))));
      continue;
    }
    ASSERT_EQ(float_to_f16(v), encode(static_cast<double>(v), 5, 10)) << v;
    ASSERT_EQ(float_to_bf16(v), encode(static_cast<double>(v), 8, 7)) << v;
  }
}

TEST(F16, KnownValues) {
  EXPECT_EQ(float_to_f16(1.0f), 0x3C00);
  EXPECT_EQ(float_to_f16(-2.0f), 0xC000);
  EXPECT_EQ(float_to_f16(65504.0f), 0x7BFF);
  EXPECT_EQ(float_to_f16(65519.996f), 0x7BFF);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(float_to_f16(0x1p-24f), 0x0001);
  EXPECT_EQ(float_to_f16(0x1p-25f), 0x0000);
  EXPECT_EQ(float_to_bf16(3.1415927f), 0x4049);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
}

TEST(LoadStore, AnyAlignment) {
  for (const DType t : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<unsigned char> bytes(4 * 4 + 1, 0xAA);
    for (std::size_t i = 0; i < 4; ++i) store_float(t, bytes.data() + 1, i, static_cast<float>(i) - 1.5f);
    EXPECT_EQ(bytes[0], 0xAA);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(load_float(t, bytes.data() + 1, i), static_cast<float>(i) - 1.5f);
    for (std::size_t i = 4 * size_of(t) + 1; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0xAA);
  }
}

}  // namespace
}  // namespace axon
