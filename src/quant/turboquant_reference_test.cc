#include "quant/turboquant_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "quant/turboquant_test_data.h"
#include "tensor/dtype.h"

namespace axon::turboquant {
namespace {

// Codes one vector after another into tiles of a head's layout.
std::vector<std::vector<std::uint8_t>> tiles_of(const Layout& layout, const std::vector<float>& keys,
                                                const std::vector<float>& values) {
  const std::size_t count = keys.size() / kDim;
  std::vector<std::vector<std::uint8_t>> tiles;
  std::vector<std::uint8_t> key(code_bytes(layout.key, kDim)), value(code_bytes(layout.value, kDim));
  for (std::size_t t = 0; t < count; ++t) {
    if (t % kTileTokens == 0) tiles.emplace_back(tile_offsets(layout, kDim).bytes);
    const float k = Coder{layout.key}.encode(row(keys, t), key).value();
    const float v = Coder{layout.value}.encode(row(values, t), value).value();
    write_pair(layout, kDim, kTileTokens, t % kTileTokens,
               {key, value, store_scale(layout.scale, k, 0), store_scale(layout.scale, v, 0)}, tiles.back());
  }
  return tiles;
}
TileView view(const Layout& layout, const std::vector<std::uint8_t>& tile, std::size_t tokens = kTileTokens) {
  return {layout, kDim, tokens, tile, 0, 0};
}

TEST(TurboquantReference, ATileGivesBackWhatWasWritten) {
  for (const Layout& layout : layouts()) {
    for (const std::size_t tokens : {std::size_t{8}, std::size_t{32}, kTileTokens}) {
      const std::vector<float> keys = gaussian(tokens, 41), values = gaussian(tokens, 42);
      std::vector<std::uint8_t> tile(tile_offsets(layout, kDim, tokens).bytes);
      std::vector<std::vector<float>> want_k, want_v;
      for (std::size_t t = 0; t < tokens; ++t) {
        std::vector<std::uint8_t> key(code_bytes(layout.key, kDim)), value(code_bytes(layout.value, kDim));
        const auto k = store_scale(layout.scale, Coder{layout.key}.encode(row(keys, t), key).value(), 1);
        const auto v = store_scale(layout.scale, Coder{layout.value}.encode(row(values, t), value).value(), -1);
        write_pair(layout, kDim, tokens, t, {key, value, k, v}, tile);
        Coder{layout.key}.decode(key, load_scale(layout.scale, k.bits, 1), want_k.emplace_back(kDim));
        Coder{layout.value}.decode(value, load_scale(layout.scale, v.bits, -1), want_v.emplace_back(kDim));
      }
      const TileView at{layout, kDim, tokens, tile, 1, -1};
      const CodedVectors k = decode_keys(at), v = decode_values(at);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t i = 0; i < kDim; ++i) {
          ASSERT_EQ(k.factors[t] * static_cast<float>(k.values[t * kDim + i]), want_k[t][i]);
          ASSERT_EQ(v.factors[t] * static_cast<float>(v.values[t * kDim + i]), want_v[t][i]);
        }
      }
    }
  }
}

// A few decoded values, written down: a kernel or compiler that decodes otherwise is wrong.
TEST(TurboquantReference, DecodedCodesAreFixed) {
  std::vector<std::uint8_t> bytes(40);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(mix64(i));
  std::string got;
  for (const Code code : kCodes) {
    std::vector<std::int8_t> values(kDim);
    decode_codes(code, {bytes.data(), code_bytes(code, kDim)}, values);
    std::uint64_t hash = 0;
    for (const std::int8_t v : values) hash = mix64(hash ^ static_cast<std::uint8_t>(v));
    got += fmt::format("{} {} {} {} {:016X}\n", static_cast<int>(code), values[0], values[1], values[79], hash);
  }
  EXPECT_EQ(got,
            "1 -127 -127 127 D7F176290F57A65B\n"
            "2 -127 -127 -38 D0CEDC6113C3B761\n"
            "3 -127 15 -80 2DAF4AE79ED81104\n"
            "4 -127 -127 6 8587610F1AD013AF\n"
            "20 -49 -42 -65 7AF68D473C62C77A\n"
            "25 18 -45 4 432378E9588E4731\n"
            "30 -19 54 -16 21EF8B248C4D1C01\n"
            "35 29 -108 -54 1F035410BA021634\n"
            "40 36 0 50 B59092C3374243DC\n");
}

struct Spread {
  double exact = 0, integer = 0;
};

TEST(TurboquantReference, IntegersCostAtMostThreePercentOfTheScoresError) {
  constexpr std::size_t kKeys = 4096, kQueries = 4;
  const std::vector<float> keys = gaussian(kKeys, 43), queries = gaussian(kKeys * kQueries, 44);
  for (const Code code : kCodes) {
    if (code == Code::kScalar1) continue;
    const Codebook& book = codebook(code);
    Spread sum;
    std::vector<std::uint8_t> codes(code_bytes(code, kDim));
    CodedVectors coded{std::vector<std::int8_t>(kDim), {0}};
    std::vector<float> exact(kDim);
    for (std::size_t n = 0; n < kKeys; ++n) {
      const auto k = row(keys, n);
      coded.factors[0] = Coder{code}.encode(k, codes).value() * book.step;
      decode_codes(code, codes, coded.values);
      for (std::size_t i = 0; i < kDim; ++i) {  // the float table's value: any position with this int8 is within a step
        const auto at = std::find(book.values.begin(), book.values.end(), coded.values[i]) - book.values.begin();
        exact[i] = book.exact[static_cast<std::size_t>(at)];
      }
      const double kk = dot(k, k), scale = kk / dot(k, exact);
      for (std::size_t j = 0; j < kQueries; ++j) {
        const auto q = row(queries, n * kQueries + j);
        float score_int = 0;
        score(coded, quantise_query(q), {&score_int, 1});
        const double want = dot(q, k), unit = kk * dot(q, q);
        sum.exact += std::pow(want - scale * dot(q, exact), 2) / unit;
        sum.integer += std::pow(want - static_cast<double>(score_int), 2) / unit;
      }
    }
    RecordProperty(fmt::format("integer_over_float_{}", static_cast<int>(code)),
                   std::to_string(sum.integer / sum.exact));
    EXPECT_LE(sum.integer, 1.03 * sum.exact) << static_cast<int>(code);
  }
}

TEST(TurboquantReference, ScoresAndSumsAreThoseOfTheDecodedVectors) {
  for (const Layout& layout : layouts()) {
    const std::vector<float> keys = gaussian(kTileTokens, 45), values = gaussian(kTileTokens, 46), q = gaussian(1, 47);
    const auto tiles = tiles_of(layout, keys, values);
    const CodedVectors k = decode_keys(view(layout, tiles[0])), v = decode_values(view(layout, tiles[0]));
    std::vector<float> scores(kTileTokens), rough(kTileTokens), weights(kTileTokens), out(kDim, 1.0f);
    score(k, q, scores);
    score(k, quantise_query(q), rough);
    std::vector<double> want(kDim, 1.0);
    for (std::size_t t = 0; t < kTileTokens; ++t) {
      double exact = 0;
      weights[t] = static_cast<float>(t + 1) / 64;
      for (std::size_t i = 0; i < kDim; ++i) {
        exact += static_cast<double>(q[i] * k.factors[t]) * k.values[t * kDim + i];
        want[i] += static_cast<double>(weights[t] * v.factors[t]) * v.values[t * kDim + i];
      }
      EXPECT_NEAR(scores[t], exact, 1e-4);
      EXPECT_NEAR(rough[t], exact, 0.05 * std::sqrt(dot(q, q)));
    }
    add_values(v, weights, out);
    for (std::size_t i = 0; i < kDim; ++i) EXPECT_NEAR(out[i], want[i], 1e-4);
  }
}

TEST(TurboquantReference, WeightsInAByteCostAlmostNothing) {
  const Layout& layout = *find_layout("tq3");
  const std::vector<float> keys = gaussian(1024, 48), values = gaussian(1024, 49), queries = gaussian(32, 50);
  const auto tiles = tiles_of(layout, keys, values);
  for (const float tau : {1.0f, 2.0f, 3.0f}) {
    double sum = 0;
    for (std::size_t n = 0; n < 32; ++n) {
      std::vector<float> exact(kDim), bytes(kDim), scores(kTileTokens);
      const auto to_tau = tau / static_cast<float>(std::sqrt(dot(row(queries, n), row(queries, n))));
      for (const auto& tile : tiles) {
        const CodedVectors v = decode_values(view(layout, tile));
        score(decode_keys(view(layout, tile)), row(queries, n), scores);
        for (float& s : scores) s = std::exp(to_tau * s);
        add_values(v, scores, exact);
        add_values_u8(v, scores, bytes);
      }
      sum += relative_error(exact, bytes) / 32;
    }
    EXPECT_LE(sum, 1e-4) << "tau " << tau;
    EXPECT_GT(sum, 0);
  }
}

TEST(TurboquantReference, TheTailIsInt8) {
  const std::vector<float> rows = gaussian(1000, 51);
  std::vector<std::int8_t> values(kDim);
  std::vector<float> back(kDim);
  std::uint16_t half = 0;
  for (std::size_t n = 0; n < 1000; ++n) {
    ASSERT_TRUE(encode_tail(row(rows, n), values, half));
    for (std::size_t i = 0; i < kDim; ++i) back[i] = f16_to_float(half) * static_cast<float>(values[i]);
    EXPECT_LE(relative_error(row(rows, n), back), 1e-4);
  }
  EXPECT_TRUE(encode_tail(std::vector<float>(kDim, 0.0f), values, half));
  EXPECT_EQ(half, 0);
  for (const std::int8_t v : values) EXPECT_EQ(v, 0);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e20f}) {
    std::vector<float> x = gaussian(1, 52);
    x[40] = bad;
    EXPECT_FALSE(encode_tail(x, values, half));
  }
}

}  // namespace
}  // namespace axon::turboquant
