#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "kernels/cpu/coded_keys.h"
#include "kernels/cpu/coded_values.h"
#include "kernels/cpu/level.h"
#include "tensor/dtype.h"

namespace axon::cpu {
namespace {

using turboquant::Code;
using turboquant::CodedVectors;
using turboquant::kCodes;
using turboquant::kTileTokens;
using turboquant::Layout;
using turboquant::TileView;

constexpr std::size_t kHeadDims[] = {16, 32, 48, 64, 80, 96, 112, 128, 1024};

class CodedTest : public ::testing::TestWithParam<Level> {
 protected:
  CodedTest() : before_(level()) { EXPECT_TRUE(force(name_of(GetParam())).ok()); }
  ~CodedTest() override { EXPECT_TRUE(force(name_of(before_)).ok()); }

 private:
  Level before_;
};
INSTANTIATE_TEST_SUITE_P(Levels, CodedTest, ::testing::ValuesIn(supported_levels()),
                         [](const auto& p) { return std::string(name_of(p.param)); });

std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint64_t stream) {
  const CounterRng rng(4, stream);
  std::vector<std::uint8_t> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::uint8_t>(rng.bits(i));
  return out;
}

// Any bytes are codes, at an address of no alignment; vectors with random factors. Nothing but the slack follows them.
struct Region {
  std::vector<std::uint8_t> bytes;
  std::vector<float> factors;
  CodedRegion region;
  CodedVectors reference;

  Region(std::optional<Code> code, std::size_t A, std::size_t T, std::uint64_t seed) : factors(T) {
    region = {code, A, nullptr, factors, nullptr};
    const std::size_t size = region.vector_bytes();
    bytes = random_bytes(1 + T * size + kCodesSlack, seed);
    region.codes = bytes.data() + 1;
    const CounterRng rng(5, seed);
    for (std::size_t t = 0; t < T; ++t) factors[t] = t % 7 == 3 ? 0.0f : std::fabs(rng.normal(t)) + 0.01f;
    reference = {std::vector<std::int8_t>(T * A), factors};
    for (std::size_t t = 0; t < T; ++t) {
      const std::span<std::int8_t> values(reference.values.data() + t * A, A);
      if (code) {
        decode_codes(*code, {bytes.data() + 1 + t * size, size}, values);
      } else {
        for (std::size_t i = 0; i < A; ++i) {  // -128 is no value of the tail's
          std::uint8_t& b = bytes[1 + t * A + i];
          if (b == 0x80) b = 0x81;
          values[i] = static_cast<std::int8_t>(b);
        }
      }
    }
  }
};

std::vector<std::optional<Code>> all_kinds() {
  std::vector<std::optional<Code>> kinds{std::nullopt};
  kinds.insert(kinds.end(), std::begin(kCodes), std::end(kCodes));
  return kinds;
}
std::string what(const std::optional<Code>& code, std::size_t A, std::size_t T, std::size_t R = 0) {
  return fmt::format("code {} head_dim {} tokens {} rows {}", code ? static_cast<int>(*code) : 0, A, T, R);
}

// Test 9 of the acceptance list: one table, the same int8 on every level.
TEST_P(CodedTest, DecodesToTheBit) {
  for (const auto& code : all_kinds()) {
    for (const std::size_t A : kHeadDims) {
      for (const std::size_t T : {1u, 3u, 8u, 13u, 24u, 63u, 64u}) {
        const Region r(code, A, T, A * 100 + T);
        const std::size_t stride = A + 5;
        std::vector<std::int8_t> out(T * stride, 99);
        decode(r.region, {out.data(), T, A, stride});
        for (std::size_t t = 0; t < T; ++t) {
          for (std::size_t i = 0; i < stride; ++i) {
            const int expected = i < A ? r.reference.values[t * A + i] : 99;
            ASSERT_EQ(out[t * stride + i], expected) << what(code, A, T) << " at " << t << ", " << i;
          }
        }
      }
    }
  }
}

// The sums are integers and the factors are applied in one order: equality, on every level.
TEST_P(CodedTest, ScoresEqualTheReference) {
  constexpr float kGap = 12345.5f;
  for (const auto& code : all_kinds()) {
    for (const std::size_t A : kHeadDims) {
      for (const auto& [T, R] :
           {std::pair{64u, 1u}, {56u, 2u}, {8u, 5u}, {13u, 16u}, {40u, 9u}, {1u, 33u}, {24u, 4u}}) {
        const Region region(code, A, T, A + T + R);
        const std::size_t q_stride = A + 3, stride = T + 3;
        std::vector<std::int8_t> q(R * q_stride);
        std::vector<float> scales(R), scores(1 + R * stride, kGap);
        const CounterRng rng(6, A * T);
        for (std::size_t i = 0; i < q.size(); ++i)
          q[i] = static_cast<std::int8_t>(static_cast<int>(rng.bits(i) % 255) - 127);
        for (std::size_t r = 0; r < R; ++r) scales[r] = std::fabs(rng.normal(q.size() + r));
        std::vector<std::byte> scratch(coded_scratch_bytes(A));
        score(region.region, {{q.data(), R, A, q_stride}, scales}, scratch, {scores.data() + 1, R, T, stride});
        for (std::size_t r = 0; r < R; ++r) {
          const turboquant::Int8Query query{{q.begin() + static_cast<std::ptrdiff_t>(r * q_stride),
                                             q.begin() + static_cast<std::ptrdiff_t>(r * q_stride + A)},
                                            scales[r]};
          std::vector<float> expected(T);
          turboquant::score(region.reference, query, expected);
          for (std::size_t t = 0; t < stride; ++t) {
            ASSERT_EQ(scores[1 + r * stride + t], t < T ? expected[t] : kGap)
                << what(code, A, T, R) << " at " << r << ", " << t;
          }
        }
        ASSERT_EQ(scores[0], kGap);
      }
    }
  }
}

// The largest sums that there are: 127 * 127 in every position, of both signs.
TEST_P(CodedTest, LargestSumsAreExact) {
  const std::size_t A = turboquant::kMaxHeadDim, T = 8;
  Region region(std::nullopt, A, T, 1);
  std::fill(region.factors.begin(), region.factors.end(), 1.0f);
  for (std::size_t i = 0; i < T * A; ++i) region.bytes[1 + i] = (i / A) % 2 == 0 ? 127 : 0x81;
  const std::vector<std::int8_t> q(A, 127);
  const std::vector<float> one(1, 1.0f), weights(T, 1.0f);
  std::vector<float> scores(T), out(A);
  std::vector<std::byte> scratch(coded_scratch_bytes(A));
  score(region.region, {{q.data(), 1, A}, one}, scratch, {scores.data(), 1, T});
  for (std::size_t t = 0; t < T; ++t) EXPECT_EQ(scores[t], (t % 2 == 0 ? 1.0f : -1.0f) * 127 * 127 * 1024);
  for (std::size_t i = 0; i < T * A; ++i) region.bytes[1 + i] = 0x81;
  add_values(region.region, {weights.data(), 1, T}, scratch, {out.data(), 1, A});
  for (const float y : out) EXPECT_EQ(y, static_cast<float>(-127 * 255 * 8) * (1.0f / 255.0f));
}

// 255ths rounded as the reference rounds, integer sums, then y + (sum * unit). On x86-64 the reference is compiled
// without fused instructions: equality. Elsewhere a compiler may fuse its last line: then one rounding of the product
// is missing there, half a unit in its last place.
void expect_sum(float got, float expected, float added, const std::string& where) {
#if defined(__x86_64__)
  static_cast<void>(added);
  ASSERT_EQ(got, expected) << where;
#else
  const float allowed = 0x1p-24f * (std::fabs(added) + 2 * std::fabs(expected));
  ASSERT_NEAR(got, expected, allowed) << where;
#endif
}

TEST_P(CodedTest, ValueSumsEqualTheReference) {
  constexpr float kGap = 12345.5f;
  for (const auto& code : all_kinds()) {
    for (const std::size_t A : kHeadDims) {
      for (const auto& [T, R] :
           {std::pair{64u, 1u}, {56u, 2u}, {8u, 5u}, {13u, 16u}, {40u, 9u}, {1u, 33u}, {24u, 4u}}) {
        const Region region(code, A, T, A + T + R);
        const std::size_t w_stride = T + 2, stride = A + 3;
        std::vector<float> weights(R * w_stride), out(1 + R * stride, kGap), start(R * stride);
        const CounterRng rng(7, A * T);
        for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::exp(3 * rng.normal(i));
        for (std::size_t t = 0; t < T && R > 1; ++t) weights[w_stride + t] = 0;  // a row that sees nothing
        for (std::size_t i = 0; i < R * stride; ++i) start[i] = rng.normal(1000 + i);
        for (std::size_t r = 0; r < R; ++r) {
          for (std::size_t i = 0; i < A; ++i) out[1 + r * stride + i] = start[r * stride + i];
        }
        std::vector<std::byte> scratch(coded_scratch_bytes(A));
        add_values(region.region, {weights.data(), R, T, w_stride}, scratch, {out.data() + 1, R, A, stride});
        for (std::size_t r = 0; r < R; ++r) {
          std::vector<float> expected(start.begin() + static_cast<std::ptrdiff_t>(r * stride),
                                      start.begin() + static_cast<std::ptrdiff_t>(r * stride + A));
          turboquant::add_values_u8(region.reference, {weights.data() + r * w_stride, T}, expected);
          for (std::size_t i = 0; i < stride; ++i) {
            const float wanted = i < A ? expected[i] : kGap;
            const std::string where = what(code, A, T, R) + fmt::format(" at {}, {}", r, i);
            expect_sum(out[1 + r * stride + i], wanted, i < A ? wanted - start[r * stride + i] : 0.0f, where);
            if (HasFatalFailure()) return;
          }
        }
        ASSERT_EQ(out[0], kGap);
      }
    }
  }
}

// Regions of every kind, long and short, in one call: the same as one after the other.
TEST_P(CodedTest, RegionsFollowOneAnother) {
  constexpr std::size_t A = 80, R = 3;
  std::vector<Region> parts;
  const std::pair<std::optional<Code>, std::size_t> kinds[] = {
      {Code::kTrellis3, 64}, {Code::kTrellis3, 64}, {Code::kTrellis3, 0},  {Code::kTrellis3, 24}, {Code::kTrellis3, 13},
      {std::nullopt, 7},     {std::nullopt, 64},    {Code::kScalar2, 64},  {Code::kScalar2, 8},   {Code::kTrellis4, 40},
      {Code::kTrellis2, 64}, {Code::kTrellis2, 64}, {Code::kTrellis2, 64}, {Code::kTrellis2, 5},  {Code::kScalar3, 64}};
  for (const auto& [code, T] : kinds) parts.emplace_back(code, A, T, parts.size() + 50);
  std::vector<CodedRegion> regions;
  for (Region& part : parts) {
    part.region.factors = part.factors;  // moved with the vector
    part.region.next = part.bytes.data();
    regions.push_back(part.region);
  }
  const std::size_t T = tokens_of(regions);
  std::vector<std::byte> scratch(coded_scratch_bytes(A));
  const CounterRng rng(12);
  std::vector<std::int8_t> q8(R * A);
  for (std::size_t i = 0; i < q8.size(); ++i)
    q8[i] = static_cast<std::int8_t>(static_cast<int>(rng.bits(i) % 255) - 127);
  const std::vector<float> scales{0.5f, 0.0f, 1.25f};
  std::vector<float> weights(R * T);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::exp(2 * rng.normal(i));
  for (const std::size_t rows : {std::size_t{1}, R}) {
    std::vector<float> scores(rows * T), out(rows * A, 1.5f), one_scores(rows * T), one_out(rows * A, 1.5f);
    const Int8Queries q{{q8.data(), rows, A}, std::span(scales).first(rows)};
    score(regions, q, scratch, {scores.data(), rows, T});
    add_values(regions, {weights.data(), rows, T}, scratch, {out.data(), rows, A});
    std::size_t first = 0;
    for (const CodedRegion& region : regions) {
      const std::size_t n = region.tokens();
      score(region, q, scratch, Mat<float>(one_scores.data(), rows, T).cols_from(first, n));
      add_values(region, Mat<const float>(weights.data(), rows, T).cols_from(first, n), scratch,
                 {one_out.data(), rows, A});
      first += n;
    }
    EXPECT_EQ(scores, one_scores);
    EXPECT_EQ(out, one_out);
  }
}

// Quotients next to halves, where a division that is not rounded to the bit gives another byte; and units so small or
// so large that their reciprocals are no help. int8 of 1 in one token at a time show each byte.
TEST_P(CodedTest, WeightsAreRoundedAsTheReferenceRounds) {
  constexpr std::size_t A = 16, T = kTileTokens;
  Region region(std::nullopt, A, T, 3);
  std::fill(region.factors.begin(), region.factors.end(), 1.0f);
  for (std::size_t t = 0; t < T; ++t) {
    for (std::size_t i = 0; i < A; ++i)
      region.bytes[1 + t * A + i] = t / 4 == i ? static_cast<std::uint8_t>(1 << t % 4) : 0;
  }
  region.reference.factors = region.factors;
  for (std::size_t i = 0; i < T * A; ++i) region.reference.values[i] = static_cast<std::int8_t>(region.bytes[1 + i]);
  std::vector<std::byte> scratch(coded_scratch_bytes(A));
  const CounterRng rng(13);
  for (std::size_t n = 0; n < 4000; ++n) {
    const int exponents[] = {0, 0, -60, -75, -120, -140, 60, 80, 120};
    const float largest = std::ldexp(1.0f + std::fabs(rng.symmetric(n, 1.0f)), exponents[n % std::size(exponents)]);
    std::vector<float> weights(T, largest);
    for (std::size_t t = 1; t < T; ++t) {
      const float half = static_cast<float>(rng.bits(1'000'000 + n * T + t) % 255) + 0.5f;
      weights[t] = half * (largest / 255.0f);
      if (t % 3 != 0) weights[t] = std::nextafter(weights[t], t % 3 == 1 ? 0.0f : largest);
    }
    std::vector<float> out(A), expected(A);
    add_values(region.region, {weights.data(), 1, T}, scratch, {out.data(), 1, A});
    turboquant::add_values_u8(region.reference, weights, expected);
    for (std::size_t i = 0; i < A; ++i) ASSERT_EQ(out[i], expected[i]) << n << ", " << i;
  }
}

// A tile as the encoder writes it; the exponents are any that a header may hold.
struct Tile {
  std::vector<std::uint8_t> bytes;
  TileView view;
  Tile(const Layout& layout, std::size_t A, std::size_t tokens, std::int32_t key_exponent, std::int32_t value_exponent)
      : bytes(turboquant::tile_offsets(layout, A, tokens).bytes + kCodesSlack), view{layout,       A,
                                                                                     tokens,       bytes,
                                                                                     key_exponent, value_exponent} {
    const turboquant::Rotation rotation(A);
    const CounterRng rng(8, A + tokens);
    std::vector<float> x(A);
    std::vector<std::uint8_t> key(code_bytes(layout.key, A)), value(code_bytes(layout.value, A));
    for (std::size_t t = 0; t < tokens; ++t) {
      const auto encoded = [&](Code code, std::uint64_t seed, std::vector<std::uint8_t>& codes) {
        for (std::size_t i = 0; i < A; ++i) x[i] = rng.normal((2 * t + seed) * A + i);
        const float s = turboquant::Coder{.code = code, .rotation = &rotation}.encode(x, codes).value();
        return turboquant::store_scale(layout.scale, t == 5 ? 0.0f : s, 0);
      };
      const auto key_scale = encoded(layout.key, 0, key), value_scale = encoded(layout.value, 1, value);
      turboquant::write_pair(layout, A, tokens, t, {key, value, key_scale, value_scale}, bytes);
    }
  }
};

TEST_P(CodedTest, TilesOfEveryLayout) {
  for (const Layout& layout : turboquant::layouts()) {
    for (const std::size_t A : {16u, 64u, 80u, 128u}) {
      for (const auto& [tokens, exponent] :
           {std::pair{64u, 0}, {8u, 7}, {40u, -9}, {8u, 127}, {8u, -126}, {16u, -140}}) {
        const Tile tile(layout, A, tokens, exponent, -exponent / 2);
        const CodedVectors keys = turboquant::decode_keys(tile.view), values = turboquant::decode_values(tile.view);
        std::vector<float> key_factors(tokens), value_factors(tokens);
        const CodedRegion k = coded_keys(tile.view, key_factors), v = coded_values(tile.view, value_factors);
        ASSERT_EQ(key_factors, keys.factors) << layout.name << " exponent " << exponent;
        ASSERT_EQ(value_factors, values.factors) << layout.name << " exponent " << exponent;
        std::vector<std::int8_t> out(tokens * A);
        decode(k, {out.data(), tokens, A});
        ASSERT_EQ(out, keys.values) << layout.name << " head_dim " << A;
        decode(v, {out.data(), tokens, A});
        ASSERT_EQ(out, values.values) << layout.name << " head_dim " << A;
        const CodedRegion part = k.tokens_from(3, 5);
        decode(part, {out.data(), 5, A});
        ASSERT_TRUE(std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(5 * A),
                               keys.values.begin() + static_cast<std::ptrdiff_t>(3 * A)));
        ASSERT_EQ(part.factors[0], keys.factors[3]);
      }
    }
  }
}

TEST_P(CodedTest, TailIsReadWhereTheLayoutPutsIt) {
  constexpr std::size_t A = 80, kRoom = 24;
  const auto at = turboquant::tail_offsets(A, kRoom);
  std::vector<std::uint8_t> tail(at.bytes + kCodesSlack);
  const CounterRng rng(9);
  std::vector<float> x(A);
  std::vector<std::int8_t> expected[2];
  std::vector<float> expected_factors[2];
  for (std::size_t slot = 0; slot < kRoom; ++slot) {
    for (std::size_t side = 0; side < 2; ++side) {
      for (std::size_t i = 0; i < A; ++i) x[i] = rng.normal((2 * slot + side) * A + i);
      std::vector<std::int8_t> values(A);
      std::uint16_t half = 0;
      ASSERT_TRUE(turboquant::encode_tail(x, values, half));
      std::memcpy(tail.data() + (side == 0 ? at.key_codes : at.value_codes) + slot * A, values.data(), A);
      std::memcpy(tail.data() + (side == 0 ? at.key_scales : at.value_scales) + 2 * slot, &half, 2);
      if (slot < 7) continue;
      expected[side].insert(expected[side].end(), values.begin(), values.end());
      expected_factors[side].push_back(f16_to_float(half));
    }
  }
  for (std::size_t side = 0; side < 2; ++side) {
    std::vector<float> factors(kRoom - 7);
    const CodedRegion region =
        side == 0 ? tail_keys(tail, A, kRoom, 7, factors) : tail_values(tail, A, kRoom, 7, factors);
    EXPECT_EQ(factors, expected_factors[side]);
    std::vector<std::int8_t> out(factors.size() * A);
    decode(region, {out.data(), factors.size(), A});
    EXPECT_EQ(out, expected[side]);
  }
}

TEST_P(CodedTest, QueriesAreRoundedAsTheReferenceRounds) {
  constexpr std::size_t A = 80, R = 50;
  const CounterRng rng(10);
  std::vector<float> q(R * A);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = rng.normal(i) * std::exp(5 * rng.normal(i / A + 100000));
  for (std::size_t i = 0; i < A; ++i) {
    q[i] = 0;                                                      // a zero vector
    q[A + i] = i == 0 ? 127.0f : static_cast<float>(i) - 40.5f;    // halves
    q[2 * A + i] = i == 0 ? -127.0f : std::nextafter(0.5f, 0.0f);  // + 0.5 rounds to 1
    q[3 * A + i] = std::ldexp(rng.normal(i), -140);                // subnormal
  }
  std::vector<std::int8_t> values(R * A);
  std::vector<float> scales(R);
  quantise_queries({q.data(), R, A}, {values.data(), R, A}, scales);
  for (std::size_t r = 0; r < R; ++r) {
    const auto expected = turboquant::quantise_query({q.data() + r * A, A});
    EXPECT_EQ(scales[r], expected.scale);
    for (std::size_t i = 0; i < A; ++i) ASSERT_EQ(values[r * A + i], expected.values[i]) << r << ", " << i;
  }
}

// Test 10 of the acceptance list, on the kernels: int8 queries raise the error of scores by at most 3 %, 8-bit weights
// cost at most 1e-4 of the output's energy. Keys, values and queries are normal; the logits' deviation is 2.
TEST_P(CodedTest, IntegersCostWhatTheyMay) {
  constexpr std::size_t A = 80, kTiles = 24;
  const turboquant::Rotation rotation(A);
  const CounterRng rng(11);
  for (const Layout& layout : turboquant::layouts()) {
    double exact_error = 0, int_error = 0, out_error = 0, out_energy = 0;
    for (std::size_t n = 0; n < kTiles; ++n) {
      std::vector<float> x(kTileTokens * A), q(A), weights(kTileTokens);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = rng.normal(n * x.size() + i);
      for (std::size_t i = 0; i < A; ++i) q[i] = rng.normal((std::uint64_t{1} << 32) + n * A + i);
      const std::size_t size = code_bytes(layout.key, A), value_size = code_bytes(layout.value, A);
      std::vector<std::uint8_t> codes(kTileTokens * size + kCodesSlack),
          value_codes(kTileTokens * value_size + kCodesSlack);
      std::vector<float> factors(kTileTokens), value_factors(kTileTokens);
      for (std::size_t t = 0; t < kTileTokens; ++t) {
        const std::span<const float> row(x.data() + t * A, A);
        factors[t] = turboquant::Coder{.code = layout.key}.encode(row, {codes.data() + t * size, size}).value() *
                     turboquant::codebook(layout.key).step;
        value_factors[t] = turboquant::Coder{.code = layout.value}
                               .encode(row, {value_codes.data() + t * value_size, value_size})
                               .value() *
                           turboquant::codebook(layout.value).step;
      }
      std::vector<std::int8_t> q8(A), k8(kTileTokens * A);
      std::vector<float> q_scale(1), scores(kTileTokens), out(A);
      std::vector<std::byte> scratch(coded_scratch_bytes(A));
      const CodedRegion keys{layout.key, A, codes.data(), factors, nullptr},
          values{layout.value, A, value_codes.data(), value_factors, nullptr};
      quantise_queries({q.data(), 1, A}, {q8.data(), 1, A}, q_scale);
      score(keys, {{q8.data(), 1, A}, q_scale}, scratch, {scores.data(), 1, kTileTokens});
      decode(keys, {k8.data(), kTileTokens, A});
      for (std::size_t t = 0; t < kTileTokens; ++t) {
        double truth = 0, coded = 0;
        for (std::size_t i = 0; i < A; ++i) {
          truth += double{q[i]} * double{x[t * A + i]};
          coded += double{q[i]} * k8[t * A + i] * double{factors[t]};
        }
        exact_error += (coded - truth) * (coded - truth);
        int_error += (double{scores[t]} - truth) * (double{scores[t]} - truth);
        weights[t] = static_cast<float>(std::exp(2 * coded / std::sqrt(double{A})));
      }
      add_values(values, {weights.data(), 1, kTileTokens}, scratch, {out.data(), 1, A});
      decode(values, {k8.data(), kTileTokens, A});
      for (std::size_t i = 0; i < A; ++i) {
        double sum = 0;
        for (std::size_t t = 0; t < kTileTokens; ++t)
          sum += double{weights[t]} * double{value_factors[t]} * k8[t * A + i];
        out_error += (double{out[i]} - sum) * (double{out[i]} - sum);
        out_energy += sum * sum;
      }
    }
    EXPECT_LE(int_error, 1.03 * exact_error) << layout.name;
    EXPECT_GT(int_error, 0.0);
    EXPECT_LE(out_error, 1e-4 * out_energy) << layout.name;
    EXPECT_GT(out_error, 0.0);  // else the bound tests nothing
  }
}

// What the kernels of 128 entries and a sign rest on.
TEST(CodedTables, TrellisTablesAreOdd) {
  for (const Code code : kCodes) {
    if (!is_trellis(code)) continue;
    const auto values = turboquant::codebook(code).values;
    for (std::size_t w = 0; w < 256; ++w) {
      EXPECT_EQ(values[w], -values[255 - w]);
      EXPECT_NE(values[w], -128);
    }
  }
}

}  // namespace
}  // namespace axon::cpu
