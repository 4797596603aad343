#include "quant/turboquant_trellis.h"

#include <algorithm>
#include <array>
#include <limits>

#include <gtest/gtest.h>

#include "quant/turboquant_scalar.h"
#include "quant/turboquant_test_data.h"

namespace axon::turboquant {
namespace {

class EachRate : public testing::TestWithParam<Code> {};
INSTANTIATE_TEST_SUITE_P(TurboquantTrellis, EachRate,
                         testing::Values(Code::kTrellis2, Code::kTrellis2p5, Code::kTrellis3, Code::kTrellis3p5,
                                         Code::kTrellis4));

std::vector<std::int16_t> input_of(std::span<const float> x) {
  std::vector<std::int16_t> out(x.size());
  to_trellis_input(x, std::sqrt(dot(x, x)), out);
  return out;
}

TEST_P(EachRate, WindowsOverlapAndTheLastWrapsToTheFirst) {
  const Code code = GetParam();
  const std::vector<float> rows = gaussian(4000, 2);
  std::vector<std::uint8_t> stream(code_bytes(code, kDim)), read(kDim), best(kDim);
  std::size_t violations = 0;
  for (std::size_t n = 0; n < 4000; ++n) {
    const auto x = input_of(row(rows, n));
    encode_trellis(code, x, stream);
    read_windows(code, stream, read);
    best_windows(code, x, boundary_state(code, x), best);
    for (std::size_t t = 0; t < kDim; ++t) {
      const std::size_t next = (t + 1) % kDim;
      const unsigned k = symbol_bits(code, next), mask = (1u << (8 - k)) - 1;
      violations += ((static_cast<unsigned>(best[next]) >> k) & mask) != (best[t] & mask);
      violations += read[t] != reverse_bits(best[t]);
    }
  }
  EXPECT_EQ(violations, 0u);
}

// Viterbi in double over the float table, written apart from the encoder: same boundary rule.
class FloatViterbi {
 public:
  explicit FloatViterbi(Code code) : code_(code) {
    for (std::size_t w = 0; w < 256; ++w) {
      values_[w] = static_cast<double>(codebook(code).exact[reverse_bits(static_cast<std::uint8_t>(w))]);
    }
  }
  double distortion(std::span<const double> x) const {
    std::vector<double> around(x.end() - 16, x.end());
    around.insert(around.end(), x.begin(), x.begin() + 16);
    const auto [windows, cost] = run(around, -1);
    const std::size_t state = windows[16] >> symbol_bits(code_, 0);
    return run(x, static_cast<int>(state)).second / static_cast<double>(x.size());
  }

 private:
  // From `state` back to it, or freely for -1.
  std::pair<std::vector<std::size_t>, double> run(std::span<const double> x, int state) const {
    constexpr double kNever = 1e30;
    std::vector<double> metric(256, state < 0 ? 0 : kNever), next(256);
    if (state >= 0) metric[static_cast<std::size_t>(state)] = 0;
    std::vector<std::array<std::uint8_t, 256>> from(x.size());
    for (std::size_t t = 0; t < x.size(); ++t) {
      const unsigned k = symbol_bits(code_, t);
      for (std::size_t w = 0; w < 256; ++w) {
        next[w] = kNever;
        for (std::size_t before = w >> k; before < 256; before += 256u >> k) {
          const double m = metric[before] + (x[t] - values_[w]) * (x[t] - values_[w]);
          if (m < next[w]) {
            next[w] = m;
            from[t][w] = static_cast<std::uint8_t>(before);
          }
        }
      }
      metric = next;
    }
    const std::size_t mask = (256u >> symbol_bits(code_, 0)) - 1;
    std::size_t end = 256;
    for (std::size_t w = 0; w < 256; ++w) {
      if (state >= 0 && (w & mask) != static_cast<std::size_t>(state)) continue;
      if (end == 256 || metric[w] < metric[end]) end = w;
    }
    std::vector<std::size_t> windows(x.size());
    const double cost = metric[end];
    for (std::size_t t = x.size(); t-- > 0; end = from[t][end]) windows[t] = end;
    return {windows, cost};
  }

  Code code_;
  std::array<double, 256> values_{};
};

TEST_P(EachRate, DistortionIsWithinTheBoundAndNearTheFloatEncoders) {
  const Code code = GetParam();
  const double bounds[] = {0.0800, 0.0426, 0.0219, 0.0121, 0.0062};
  const std::vector<float> rows = gaussian(4000, 3);
  const double measured = distortion(code, rows);
  EXPECT_LE(measured, bounds[bits_x2(code) - 4]);
  EXPECT_GE(measured, std::pow(2, -static_cast<double>(bits_x2(code))));  // no code is better

  const FloatViterbi viterbi(code);
  double ours = 0, exact = 0;
  for (std::size_t n = 0; n < 1000; ++n) {
    const auto x = row(rows, n);
    const double unit = std::sqrt(static_cast<double>(kDim) / dot(x, x));
    std::vector<double> scaled(kDim);
    for (std::size_t i = 0; i < kDim; ++i) scaled[i] = static_cast<double>(x[i]) * unit;
    exact += viterbi.distortion(scaled);
    ours += distortion(code, {x.begin(), x.end()});
  }
  RecordProperty("distortion", std::to_string(measured));
  RecordProperty("int16_over_float", std::to_string(ours / exact));
  EXPECT_LE(ours, 1.025 * exact);
}

// A trellis in which every state allows every value encodes like a scalar code: this one must not. Against half a bit
// stand scalar codes of one bit less and more, half the positions each.
TEST_P(EachRate, BeatsTheScalarCodeOfEqualBits) {
  const Code code = GetParam();
  const std::vector<float> rows = gaussian(4000, 4);
  const double below = distortion(static_cast<Code>(bits_x2(code) / 2), rows);
  const double above = distortion(static_cast<Code>((bits_x2(code) + 1) / 2), rows);
  EXPECT_LE(distortion(code, rows), 0.75 * (below + above) / 2);
}

// Cheapest cyclic path through `boundary` by trying every string of symbols, depth first.
int brute_force(Code code, const std::vector<std::array<std::int16_t, 256>>& costs, std::size_t t, unsigned window,
                unsigned boundary) {
  if (t == costs.size()) {
    const unsigned mask = (256u >> symbol_bits(code, 0)) - 1;
    return (window & mask) == boundary ? 0 : std::numeric_limits<int>::max() / 2;
  }
  int best = std::numeric_limits<int>::max() / 2;
  for (unsigned symbol = 0; symbol < 1u << symbol_bits(code, t); ++symbol) {
    const unsigned next = ((window << symbol_bits(code, t)) | symbol) & 255u;
    best = std::min(best, costs[t][next] + brute_force(code, costs, t + 1, next, boundary));
  }
  return best;
}

TEST_P(EachRate, FindsTheCheapestPathOfSixSymbols) {
  const Code code = GetParam();
  constexpr std::size_t kSymbols = 6;
  const int blocks = bits_x2(code) > 6 ? 2 : 20;
  for (int n = 0; n < blocks; ++n) {
    const CounterRng rng(5, static_cast<std::uint64_t>(n));
    std::array<std::int16_t, kSymbols> x{};
    std::vector<std::array<std::int16_t, 256>> costs(kSymbols);
    for (std::size_t t = 0; t < kSymbols; ++t) {
      // Every other block beyond the table's ends, where costs reach their limit.
      const float wide = n % 2 == 0 ? 4096.0f : 16000.0f;
      x[t] = static_cast<std::int16_t>(std::clamp(wide * rng.normal(t), -16383.0f, 16383.0f));
      branch_costs(code, x[t], costs[t]);
    }
    std::array<std::uint8_t, kSymbols> windows{};
    const auto boundary = static_cast<std::uint8_t>(rng.bits(99) % (256u >> symbol_bits(code, 0)));
    best_windows(code, x, boundary, windows);
    int cost = 0;
    for (std::size_t t = 0; t < kSymbols; ++t) cost += costs[t][windows[t]];
    EXPECT_EQ(cost, brute_force(code, costs, 0, boundary, boundary));
    EXPECT_EQ(windows[kSymbols - 1] & ((256u >> symbol_bits(code, 0)) - 1), boundary);
  }
}

TEST_P(EachRate, EveryBoundaryIsKeptWhateverTheInput) {
  const Code code = GetParam();
  const unsigned states = 256u >> symbol_bits(code, 0);
  const CounterRng rng(6);
  std::vector<std::int16_t> x(kDim);
  std::vector<std::uint8_t> windows(kDim);
  for (unsigned n = 0; n < 4 * states; ++n) {
    for (std::size_t i = 0; i < kDim; ++i) x[i] = (rng.bits(n * kDim + i) & 1) != 0 ? kMaxInput : -kMaxInput;
    best_windows(code, x, static_cast<std::uint8_t>(n % states), windows);
    EXPECT_EQ(windows[kDim - 1] & (states - 1), n % states);
    EXPECT_EQ(static_cast<unsigned>(windows[0]) >> symbol_bits(code, 0), n % states);
  }
}

TEST(TurboquantScalar, IndicesComeBackFromTheirPlanes) {
  for (const Code code : {Code::kScalar1, Code::kScalar2, Code::kScalar3, Code::kScalar4}) {
    const auto& exact = codebook(code).exact;
    const CounterRng rng(7);
    std::vector<float> x(kDim);
    std::vector<std::uint8_t> planes(code_bytes(code, kDim)), want(kDim), got(kDim);
    for (std::uint64_t n = 0; n < 200; ++n) {
      for (std::size_t i = 0; i < kDim; ++i) {
        want[i] = static_cast<std::uint8_t>(rng.bits(n * kDim + i) % exact.size());
        x[i] = exact[want[i]];
      }
      encode_scalar(code, x, planes);
      read_indices(code, planes, got);
      ASSERT_EQ(got, want);
    }
  }
}

TEST(TurboquantScalar, ThreeBitsAreAPlaneOfTwoAndAPlaneOfOne) {
  std::vector<float> x(kDim, codebook(Code::kScalar3).exact[0]);
  x[5] = codebook(Code::kScalar3).exact[6];  // 110
  std::vector<std::uint8_t> planes(30);
  encode_scalar(Code::kScalar3, x, planes);
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(planes[i], i == 1 ? 2 << 2 : i == 20 ? 1 << 5 : 0);
}

}  // namespace
}  // namespace axon::turboquant
