#include "kernels/cpu/coded_encode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "kernels/cpu/level.h"
#include "quant/turboquant_recode.h"
#include "quant/turboquant_trellis.h"

namespace axon::cpu {
namespace {

using turboquant::Code;
using turboquant::code_bytes;
using turboquant::kCodes;

constexpr std::size_t kHeadDims[] = {16, 32, 48, 64, 80, 96, 112, 128, 240, 1008, 1024};

class CodedEncodeTest : public ::testing::TestWithParam<Level> {
 protected:
  CodedEncodeTest() : before_(level()) { EXPECT_TRUE(force(name_of(GetParam())).ok()); }
  ~CodedEncodeTest() override { EXPECT_TRUE(force(name_of(before_)).ok()); }

 private:
  Level before_;
};
INSTANTIATE_TEST_SUITE_P(Levels, CodedEncodeTest, ::testing::ValuesIn(supported_levels()),
                         [](const auto& p) { return std::string(name_of(p.param)); });

// Rows of values at an address of no alignment; what lies between rows is never read as theirs.
struct Rows {
  std::vector<std::int8_t> values;
  std::vector<float> factors;
  std::size_t A, stride;

  Rows(std::size_t T, std::size_t head_dim, std::size_t gap = 0)
      : values(1 + T * (head_dim + gap), 101), factors(T, 0.02f), A(head_dim), stride(head_dim + gap) {}
  std::span<std::int8_t> row(std::size_t t) { return {values.data() + 1 + t * stride, A}; }
  Mat<const std::int8_t> mat() const { return {values.data() + 1, factors.size(), A, stride}; }

  // Normal with a spread of 45 and cut at 127, as int8 of the tail are.
  Rows& fill_normal(std::uint64_t seed) {
    const CounterRng rng(82, seed);
    for (std::size_t t = 0; t < factors.size(); ++t) {
      factors[t] = std::exp(rng.normal(t));
      for (std::size_t i = 0; i < A; ++i) {
        const float x = 45 * rng.normal(1000 + t * A + i);
        row(t)[i] = static_cast<std::int8_t>(std::lround(std::clamp(x, -127.0f, 127.0f)));
      }
    }
    return *this;
  }
};

// Both ways; the bytes around the codes stay.
void expect_equal(Code code, Rows& rows, const std::string& what) {
  constexpr std::uint8_t kGap = 0xA5;
  const std::size_t T = rows.factors.size(), size = code_bytes(code, rows.A);
  std::vector<std::uint8_t> codes(1 + T * size + 64, kGap), expected(size);
  std::vector<float> scales(T, -1.0f);
  encode(code, rows.mat(), rows.factors, codes.data() + 1, scales);
  for (std::size_t t = 0; t < T; ++t) {
    ASSERT_EQ(scales[t], turboquant::recode(code, rows.row(t), rows.factors[t], expected)) << what << " row " << t;
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(codes[1 + t * size + i], expected[i]) << what << " row " << t;
  }
  ASSERT_EQ(codes[0], kGap) << what;
  for (std::size_t i = 1 + T * size; i < codes.size(); ++i) ASSERT_EQ(codes[i], kGap) << what;
}
std::string what(Code code, std::size_t A, std::size_t T) {
  return fmt::format("code {} head_dim {} rows {}", static_cast<int>(code), A, T);
}

TEST_P(CodedEncodeTest, IsTheSlowTwinToTheBit) {
  for (const Code code : kCodes) {
    for (const std::size_t A : kHeadDims) {
      for (const std::size_t T : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 17u}) {
        if (A > 200 && T > 3) continue;
        Rows rows(T, A, T % 3 * 7);
        expect_equal(code, rows.fill_normal(A + T), what(code, A, T));
      }
    }
  }
  for (const Code code : kCodes) {  // enough for rare ties and costs at their limit
    Rows rows(400, 80);
    expect_equal(code, rows.fill_normal(7), what(code, 80, 400));
  }
}

// Few different values: costs and whole paths tie often.
TEST_P(CodedEncodeTest, TiesAreDecidedAsTheTwinDecides) {
  const CounterRng rng(83);
  for (const Code code : kCodes) {
    for (const std::size_t A : {std::size_t{16}, std::size_t{80}}) {
      Rows rows(120, A);
      for (std::size_t t = 0; t < rows.factors.size(); ++t) {
        const std::uint64_t kinds = 1 + t % 4;
        for (std::size_t i = 0; i < A; ++i) {
          const auto step = static_cast<int>(rng.bits(t * A + i) % (2 * kinds + 1));
          rows.row(t)[i] = static_cast<std::int8_t>((step - static_cast<int>(kinds)) * 9);
        }
      }
      expect_equal(code, rows, what(code, A, rows.factors.size()));
    }
  }
}

TEST_P(CodedEncodeTest, ExtremeVectorsToo) {
  for (const Code code : kCodes) {
    for (const std::size_t A : kHeadDims) {
      Rows rows(9, A, 5);
      rows.fill_normal(A);
      for (std::size_t i = 0; i < A; ++i) {
        rows.row(0)[i] = 127;
        rows.row(1)[i] = -127;
        rows.row(2)[i] = i % 2 == 0 ? 127 : -127;
        rows.row(3)[i] = 0;
        rows.row(4)[i] = i == A - 1 ? -127 : 0;
        rows.row(5)[i] = i == 0 ? 1 : 0;
        rows.row(6)[i] = i < A / 2 ? 127 : i < A - 3 ? 0 : -1;
        rows.row(7)[i] = static_cast<std::int8_t>(i % 16 == 3 ? 127 : 1);
      }
      expect_equal(code, rows, what(code, A, 9));
    }
  }
}

TEST_P(CodedEncodeTest, FactorsOfEverySizeToo) {
  constexpr float kLeast = std::numeric_limits<float>::denorm_min(), kLargest = std::numeric_limits<float>::max();
  for (const Code code : kCodes) {
    Rows rows(9, 80);
    rows.fill_normal(3);
    rows.factors = {0.0f, kLeast, 1e-38f, 6e-8f, 65504.0f, 1e30f, kLargest, 1.0f, 0.0f};
    expect_equal(code, rows, what(code, 80, 9));
  }
}

// One large value beside small ones, and runs of large values beside zeros: inputs up to their bound, and costs that
// add up as far as they can.
TEST_P(CodedEncodeTest, InputsFromOneEndToTheOtherToo) {
  const CounterRng rng(84);
  for (const Code code : kCodes) {
    Rows rows(127, 128), runs(64, 512);
    for (std::size_t t = 0; t < rows.factors.size(); ++t) {
      for (std::size_t i = 0; i < rows.A; ++i) rows.row(t)[i] = static_cast<std::int8_t>(i * t % 5);
      rows.row(t)[t] = 127;
      rows.row(t)[(t * 7 + 1) % rows.A] = static_cast<std::int8_t>(-static_cast<int>(t));
    }
    for (std::size_t t = 0; t < runs.factors.size(); ++t) {
      std::fill(runs.row(t).begin(), runs.row(t).end(), std::int8_t{0});
      for (std::size_t i = 0; i < 20; ++i) {
        runs.row(t)[(i + runs.A - t % 16) % runs.A] = rng.bits(t * 20 + i) % 2 == 0 || t % 3 == 0 ? 127 : -127;
      }
    }
    expect_equal(code, rows, what(code, 128, 127));
    expect_equal(code, runs, what(code, 512, 64));
  }
}

TEST_P(CodedEncodeTest, NothingIsDoneForNoRows) {
  const Rows rows(0, 80);
  for (const Code code : kCodes) encode(code, rows.mat(), {}, nullptr, {});
}

TEST_P(CodedEncodeTest, ThreadsDoNotDisturbOneAnother) {
  std::vector<std::thread> threads;
  for (std::uint64_t n = 0; n < 3; ++n) {
    threads.emplace_back([n] {
      Rows rows(8, 80);
      rows.fill_normal(n);
      std::vector<std::uint8_t> codes(8 * code_bytes(Code::kTrellis3, 80)), first(codes.size());
      std::vector<float> scales(8);
      encode(Code::kTrellis3, rows.mat(), rows.factors, first.data(), scales);
      for (int i = 0; i < 1000; ++i) {
        encode(Code::kTrellis3, rows.mat(), rows.factors, codes.data(), scales);
        ASSERT_EQ(codes, first);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace axon::cpu
