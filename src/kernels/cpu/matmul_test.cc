#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/matmul_reference.h"
#include "kernels/cpu/matmul_testing.h"
#include "quant/affine.h"

namespace axon::cpu {
namespace {

// What float32 sums of n terms of magnitude `most` may be off: n roundings of the running sum at worst, a few standard
// deviations of sqrt(n) in practice.
float tolerance(const Product& p) {
  const auto n = static_cast<float>(p.weight.cols);
  float most = 0.0f;
  for (std::size_t t = 0; t < p.x.rows; ++t) {
    for (const float v : p.x.row(t)) most = std::max(most, std::fabs(v));
  }
  // |w| <= 0.3 or so. A decoded weight is a difference of code * scale and bias, each up to twice as large as it.
  return 1e-6f + std::sqrt(n) * 8.0f * std::numeric_limits<float>::epsilon() * most * 0.6f;
}

bool meets_bf16(const Product& p, Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kFast && bf16::takes(p.weight) && has_bf16_dot(level());
}

// x, [any, cols] without gaps, with every value rounded to bf16.
std::vector<float> rounded(Mat<const float> x) {
  std::vector<float> out;
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (const float v : x.row(t)) out.push_back(bf16_to_float(float_to_bf16(v)));
  }
  return out;
}

void expect_equal_to_reference(const Product& p, Arithmetic arithmetic, const std::vector<float>& before,
                               const std::string& what) {
  std::vector<float> wanted = before;
  Product twin = p;
  twin.y.data = wanted.data();
  std::vector<float> x;
  if (meets_bf16(p, arithmetic)) {
    x = rounded(p.x);
    twin.x = {x.data(), p.x.rows, p.x.cols};
  }
  reference::matmul(twin, arithmetic);
  const float allowed = tolerance(p);
  for (std::size_t t = 0; t < p.y.rows; ++t) {
    for (std::size_t r = 0; r < p.y.stride; ++r) {
      if (t + 1 == p.y.rows && r == p.y.cols) break;  // the gap of the last row belongs to nobody
      const float got = p.y.data[t * p.y.stride + r];
      const float want = wanted[t * p.y.stride + r];
      // Between the rows nothing may be written at all.
      ASSERT_NEAR(got, want, r < p.y.cols ? allowed : 0.0f) << what << " token " << t << " row " << r;
    }
  }
}

std::vector<float> contents(const Product& p) { return {p.y.data, p.y.data + (p.y.rows - 1) * p.y.stride + p.y.cols}; }

std::size_t tokens_of(const Product& p) { return p.x_rows.empty() ? p.x.rows : p.x_rows.size(); }

MatmulLimits limits_of(std::span<const Product> products) {
  MatmulLimits limits;
  for (const Product& p : products) {
    limits.x_elements_max = std::max(limits.x_elements_max, tokens_of(p) * p.weight.cols);
    limits.cols_max = std::max(limits.cols_max, p.weight.cols);
    limits.rows_of_x_max = std::max(limits.rows_of_x_max, tokens_of(p));
    if (bf16::takes(p.weight)) limits.bf16_cols_max = std::max(limits.bf16_cols_max, p.weight.cols);
  }
  return limits;
}

// Runs on every level that this machine has, and puts the best one back.
class EachLevel : public testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(force(name_of(supported_levels().back())).ok()); }

  void check(std::span<const Product> products, const std::string& what, std::size_t threads = 1) {
    for (const Arithmetic arithmetic : {Arithmetic::kFast, Arithmetic::kExact}) {
      for (const Level level : supported_levels()) {
        ASSERT_TRUE(force(name_of(level)).ok());
        std::vector<std::vector<float>> before;
        for (const Product& p : products) before.push_back(tokens_of(p) == 0 ? std::vector<float>{} : contents(p));
        Machine machine(limits_of(products), arithmetic, threads);
        (*machine).run(products);
        for (std::size_t i = 0; i < products.size(); ++i) {
          if (tokens_of(products[i]) == 0) continue;
          const auto name = fmt::format("{} {} {} product {}", what, name_of(level),
                                        arithmetic == Arithmetic::kFast ? "fast" : "exact", i);
          expect_equal_to_reference(products[i], arithmetic, before[i], name);
        }
        if (HasFatalFailure()) return;
      }
    }
  }
};

TEST_F(EachLevel, MeetsTheReferenceForEveryQuantisation) {
  for (const int bits : affine::kBits) {
    for (const int group : affine::kGroupSizes) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        // A whole number of vectors, and every way to fall short of one; rows past one tile.
        for (const std::size_t groups : {std::size_t{1}, std::size_t{3}, std::size_t{16}, std::size_t{21}}) {
          const OwnedWeight weight(37, groups * static_cast<std::size_t>(group), bits, group, dtype, 7);
          for (const std::size_t tokens : {std::size_t{1}, std::size_t{9}}) {
            OwnedMat x(tokens, weight.view().cols, 3, 8), y(tokens, 37, 2, 9);
            const Product p{weight.view(), x.view(), {}, y.view(), false};
            check({&p, 1},
                  fmt::format("bits {} group {} {} groups {} tokens {}", bits, group, name_of(dtype), groups, tokens));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_F(EachLevel, MeetsTheReferenceForFloatWeightsOfAnyShape) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::size_t cols : {1u, 2u, 15u, 16u, 33u, 64u, 100u, 259u}) {
      for (const std::size_t rows : {1u, 5u, 33u}) {
        const OwnedWeight weight(rows, cols, dtype, 3);
        for (const std::size_t tokens : {1u, 2u, 3u, 7u}) {
          OwnedMat x(tokens, cols, 1, 4), y(tokens, rows, 1, 5);
          const Product p{weight.view(), x.view(), {}, y.view(), true};
          check({&p, 1}, fmt::format("{} rows {} cols {} tokens {}", name_of(dtype), rows, cols, tokens));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_F(EachLevel, MeetsTheReferenceForBf16WeightsOfAnyShape) {
  // One panel and several; columns past the last vector, rows past the last tile and past the last block.
  for (const std::size_t cols : {1u, 31u, 32u, 33u, 64u, 100u, 255u, 2600u, 5201u}) {
    for (const std::size_t rows : {31u, 32u, 33u, 34u, 35u, 63u, 66u, 101u}) {
      if (cols > 1000 && rows != 35) continue;
      const OwnedWeight weight(rows, cols, DType::kBF16, 3);
      for (const std::size_t tokens : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 13u, 29u}) {
        OwnedMat x(tokens, cols, 1, 4), y(tokens, rows, 1, 5);
        const Product p{weight.view(), x.view(), {}, y.view(), tokens % 2 == 1};
        check({&p, 1}, fmt::format("rows {} cols {} tokens {}", rows, cols, tokens), tokens % 3 + 1);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(EachLevel, Bf16ProductsShareAndGatherActivations) {
  const OwnedWeight a(40, 96, DType::kBF16, 1), b(70, 96, DType::kBF16, 2), c(33, 96, 4, 32, DType::kF16, 3),
      d(8, 96, DType::kBF16, 4), e(64, 96, DType::kF16, 5);
  const std::vector<std::uint32_t> few{22, 0, 5, 5}, one{7};
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 0; i < 23; ++i) all.push_back(22 - i);
  OwnedMat x(23, 96, 7, 6), other(23, 96, 0, 7);
  std::vector<OwnedMat> y;
  std::vector<Product> products;
  for (const std::vector<std::uint32_t>& rows : {std::vector<std::uint32_t>{}, all, few, one}) {
    const auto& kept = rows == all ? all : rows == few ? few : one;
    const auto x_rows = rows.empty() ? std::span<const std::uint32_t>{} : std::span<const std::uint32_t>(kept);
    for (const OwnedWeight* w : {&a, &b, &c, &d, &e}) {
      for (OwnedMat* in : {&x, &other}) {
        y.emplace_back(rows.empty() ? 23 : rows.size(), w->view().rows, 1, 8);
        products.push_back({w->view(), in->view(), x_rows, y.back().view(), products.size() % 2 == 1});
      }
    }
  }
  for (const std::size_t threads : {1u, 3u}) {
    check(products, fmt::format("all, threads {}", threads), threads);
    // Alone, few rows of a long x.
    check(std::span(products).last(10), "one row", threads);
    check(std::span(products).subspan(20, 10), "few rows", threads);
    if (HasFatalFailure()) return;
  }
}

// bf16 keeps 8 bits, so rounding to the nearest moves a value by 2^-9 of itself at most, and a sum by that much of the
// sum of its terms' magnitudes.
TEST_F(EachLevel, Bf16ActivationsMoveASumByTheirRoundingAtMost) {
  const std::size_t rows = 50, cols = 300;
  const OwnedWeight weight(rows, cols, DType::kBF16, 1);
  for (const std::size_t tokens : {1u, 9u}) {
    for (const Level level : supported_levels()) {
      ASSERT_TRUE(force(name_of(level)).ok());
      OwnedMat x(tokens, cols, 0, 2), y(tokens, rows, 0, 3), exact(tokens, rows, 0, 4);
      const Product p{weight.view(), x.view(), {}, y.view(), false};
      Machine machine(limits_of({&p, 1}), Arithmetic::kFast, 1);
      (*machine).run({&p, 1});
      reference::matmul({weight.view(), x.view(), {}, exact.view(), false}, Arithmetic::kExact);
      float most = 0.0f;
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t r = 0; r < rows; ++r) {
          float size = 0.0f;
          for (std::size_t k = 0; k < cols; ++k) {
            size += std::fabs(load_float(DType::kBF16, weight.view().data, r * cols + k) * x.view().row(t)[k]);
          }
          const float off = std::fabs(y.view().row(t)[r] - exact.view().row(t)[r]);
          ASSERT_LE(off, size * 0x1p-9f + tolerance(p)) << name_of(level) << " token " << t << " row " << r;
          most = std::max(most, off);
        }
      }
      // Where the processor has the instruction, it is used; elsewhere nothing is rounded.
      EXPECT_EQ(most > tolerance(p), has_bf16_dot(level)) << name_of(level) << " tokens " << tokens;
    }
  }
}

TEST_F(EachLevel, Bf16NotANumberAndInfinityReachTheirResultsAlone) {
  const std::size_t cols = 33;  // the last vector of a row would reach into the next
  const OwnedWeight plain(40, cols, DType::kBF16, 1);
  std::vector<std::uint16_t> values(40 * cols);
  std::memcpy(values.data(), plain.view().data, values.size() * 2);
  for (std::size_t k = 0; k < cols; ++k) values[7 * cols + k] = 0x7F80;  // row 7 is infinite
  Weight weight = plain.view();
  weight.data = values.data();
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(name_of(level)).ok());
    for (const std::size_t tokens : {1u, 3u}) {
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        OwnedMat x(tokens, cols, 0, 2), y(tokens, 40, 0, 3);
        x.view().row(0)[32] = bad;
        const Product p{weight, x.view(), {}, y.view(), false};
        Machine machine(limits_of({&p, 1}), Arithmetic::kFast, 1);
        (*machine).run({&p, 1});
        for (std::size_t r = 0; r < 40; ++r) {
          const float got = y.view().row(0)[r];
          const bool reached = std::isnan(bad) || r == 7 ? !std::isfinite(got) : std::isinf(got);
          EXPECT_TRUE(reached) << name_of(level) << " row " << r << " is " << got;
          EXPECT_EQ(std::isnan(got), std::isnan(bad) || (r == 7 && std::isnan(got))) << name_of(level) << " row " << r;
          for (std::size_t t = 1; t < tokens; ++t) {
            EXPECT_EQ(std::isfinite(y.view().row(t)[r]), r != 7) << name_of(level) << " row " << r;
          }
        }
      }
    }
  }
}

TEST_F(EachLevel, RoundsToBf16AsTheScalarDoes) {
  for (const Level level : supported_levels()) {
    const bf16::Kernels* kernels = bf16::kernels(level);
    EXPECT_EQ(kernels != nullptr, has_bf16_dot(level)) << name_of(level);
    if (kernels == nullptr) continue;
    for (const std::size_t cols : {1u, 15u, 16u, 17u, 32u, 45u, 64u, 100u}) {
      const CounterRng random(cols);
      std::vector<float> x(cols);
      for (std::size_t i = 0; i < cols; ++i) x[i] = random.normal(i);
      // Ties go to even; the largest float32 is nearer to infinity than to the largest bf16.
      const float special[] = {0x1.01p0f,
                               0x1.03p0f,
                               -0x1.01p0f,
                               -0.0f,
                               std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::max()};
      for (std::size_t i = 0; i < std::size(special) && i < cols; ++i) x[cols - 1 - i] = special[i];
      std::vector<std::uint16_t> out(bf16::stride(cols) + 1, 0xABCD);
      kernels->round(x.data(), cols, out.data());
      for (std::size_t i = 0; i < cols; ++i) EXPECT_EQ(out[i], float_to_bf16(x[i])) << x[i];
      for (std::size_t i = cols; i + 1 < out.size(); ++i) EXPECT_EQ(out[i], 0) << i;
      EXPECT_EQ(out.back(), 0xABCD);
      x[0] = std::numeric_limits<float>::quiet_NaN();
      kernels->round(x.data(), cols, out.data());
      EXPECT_TRUE(std::isnan(bf16_to_float(out[0])));
    }
  }
}

// The answer to a prompt may not turn on how it is cut: a token alone meets the same rounded activations.
TEST_F(EachLevel, ABf16TokenAloneIsTheTokenAmongOthers) {
  const OwnedWeight weight(37, 1000, DType::kBF16, 1);
  OwnedMat x(5, 1000, 0, 2), together(5, 37, 0, 3), alone(5, 37, 0, 4);
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(name_of(level)).ok());
    const Product p{weight.view(), x.view(), {}, together.view(), false};
    Machine machine(limits_of({&p, 1}), Arithmetic::kFast, 1);
    (*machine).run({&p, 1});
    for (std::size_t t = 0; t < 5; ++t) {
      const Product one{
          weight.view(), Mat<const float>(x.view()).rows_from(t, 1), {}, alone.view().rows_from(t, 1), false};
      (*machine).run({&one, 1});
      for (std::size_t r = 0; r < 37; ++r) {
        ASSERT_NEAR(alone.view().row(t)[r], together.view().row(t)[r], tolerance(p)) << name_of(level);
      }
    }
  }
}

TEST_F(EachLevel, AnyNumberOfTokensAndRows) {
  for (const std::size_t rows : {1u, 15u, 16u, 17u, 31u, 32u, 65u}) {
    const OwnedWeight weight(rows, 192, 4, 64, DType::kF16, 3);
    for (const std::size_t tokens : {2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 13u, 64u}) {
      OwnedMat x(tokens, 192, 0, 4), y(tokens, rows, 0, 5);
      const Product p{weight.view(), x.view(), {}, y.view(), true};
      check({&p, 1}, fmt::format("rows {} tokens {}", rows, tokens));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(EachLevel, TheLargestCodesMeetTheLargestActivations) {
  // Activations of 127 have a scale of 1, so all sums are whole, below 2^24, and the same on every level: sums of too
  // many products for their width, or one that saturates, would show.
  for (const int bits : affine::kBits) {
    for (const int group : affine::kGroupSizes) {
      const std::size_t rows = 19, groups = 3, cols = groups * static_cast<std::size_t>(group);
      const std::vector<std::byte> codes(rows * cols * static_cast<std::size_t>(bits) / 8, std::byte{0xFF});
      const std::vector<float> scales(rows * groups, 1.0f), biases(rows * groups, 0.0f);
      Weight weight;
      weight.rows = rows;
      weight.cols = cols;
      weight.dtype = DType::kU32;
      weight.data = codes.data();
      weight.affine = {bits, group, DType::kF32, scales.data(), biases.data()};
      for (std::size_t tokens = 1; tokens <= 9; ++tokens) {
        OwnedMat x(tokens, cols, 0, 1), y(tokens, rows, 0, 2);
        for (std::size_t t = 0; t < tokens; ++t) std::ranges::fill(x.view().row(t), t % 2 == 0 ? 127.0f : -127.0f);
        for (const Level level : supported_levels()) {
          ASSERT_TRUE(force(name_of(level)).ok());
          const Product p{weight, x.view(), {}, y.view(), false};
          Machine machine(limits_of({&p, 1}), Arithmetic::kFast, 1);
          (*machine).run({&p, 1});
          const float sum = 127.0f * static_cast<float>(((1u << bits) - 1u) * cols);
          for (std::size_t t = 0; t < tokens; ++t) {
            for (const float got : y.view().row(t)) {
              ASSERT_EQ(got, t % 2 == 0 ? sum : -sum)
                  << fmt::format("bits {} group {} tokens {} token {} {}", bits, group, tokens, t, name_of(level));
            }
          }
        }
      }
    }
  }
}

TEST_F(EachLevel, ReadsNothingPastTheEndOfAWeight) {
  // As in a file whose last tensor ends with its last page. 37 rows: past one tile; odd groups: past whole vectors.
  for (const int bits : affine::kBits) {
    for (const int group : affine::kGroupSizes) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        for (const std::size_t groups : {std::size_t{1}, std::size_t{11}}) {
          const OwnedWeight owned(37, groups * static_cast<std::size_t>(group), bits, group, dtype, 7);
          Weight weight = owned.view();
          const std::size_t scale_bytes = weight.rows * groups * size_of(dtype);
          const GuardedBytes data(weight.data, weight.rows * weight.row_bytes());
          const GuardedBytes scales(weight.affine.scales, scale_bytes), biases(weight.affine.biases, scale_bytes);
          weight.data = data.data();
          weight.affine.scales = scales.data();
          weight.affine.biases = biases.data();
          for (const std::size_t tokens : {std::size_t{1}, std::size_t{3}}) {
            OwnedMat x(tokens, weight.cols, 0, 8), y(tokens, weight.rows, 0, 9);
            const Product p{weight, x.view(), {}, y.view(), false};
            check({&p, 1},
                  fmt::format("bits {} group {} {} groups {} tokens {}", bits, group, name_of(dtype), groups, tokens));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_F(EachLevel, AThousandTokens) {
  const OwnedWeight weight(3, 64, 4, 64, DType::kBF16, 3);
  OwnedMat x(1000, 64, 0, 4), y(1000, 3, 0, 5);
  const Product p{weight.view(), x.view(), {}, y.view(), false};
  check({&p, 1}, "1000 tokens", 2);
}

// Threads take what is left when they are done, so who takes a row differs from run to run; what it becomes must not.
TEST_F(EachLevel, SumsDoNotDependOnTheThreads) {
  const std::size_t rows = 1003, cols = 4160;  // beyond what one thread does alone, and where rows share a long x
  std::vector<OwnedWeight> weights;
  for (const int bits : {2, 3, 4, 5, 6, 8}) weights.emplace_back(rows, cols, bits, 64, DType::kF16, 1);
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) weights.emplace_back(rows, cols, dtype, 2);
  OwnedMat x(1, cols, 0, 3), y(1, rows, 0, 4), first(1, rows, 0, 5);
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(name_of(level)).ok());
    for (const OwnedWeight& weight : weights) {
      const Product p{weight.view(), x.view(), {}, y.view(), false};
      for (const std::size_t threads : {1u, 2u, 3u}) {
        Machine machine(limits_of({&p, 1}), Arithmetic::kFast, threads);
        for (int repeat = 0; repeat < 3; ++repeat) {
          (*machine).run({&p, 1});
          if (threads == 1) std::copy_n(y.view().data, rows, first.view().data);
          for (std::size_t r = 0; r < rows; ++r) {
            ASSERT_EQ(y.view().data[r], first.view().data[r])
                << name_of(level) << " bits " << weight.view().affine.bits << " threads " << threads << " row " << r;
          }
        }
      }
    }
  }
}

TEST_F(EachLevel, ManyProductsShareActivationsOnSeveralThreads) {
  const OwnedWeight a(40, 256, 4, 64, DType::kF16, 1), b(70, 256, 4, 32, DType::kF16, 2),
      c(33, 256, 8, 64, DType::kBF16, 3), d(9, 256, DType::kBF16, 4), e(1, 256, 3, 64, DType::kF32, 5);
  for (const std::size_t tokens : {1u, 20u}) {
    OwnedMat x(tokens, 256, 5, 6), other(tokens, 256, 0, 7);
    std::vector<OwnedMat> y;
    std::vector<Product> products;
    for (const OwnedWeight* w : {&a, &b, &c, &d, &e}) {
      for (OwnedMat* in : {&x, &other}) {
        y.emplace_back(tokens, w->view().rows, 1, 8);
        products.push_back({w->view(), in->view(), {}, y.back().view(), products.size() % 2 == 1});
      }
    }
    for (const std::size_t threads : {1u, 2u, 3u}) {
      check(products, fmt::format("tokens {} threads {}", tokens, threads), threads);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(EachLevel, ExpertsTakeTheirRowsOfX) {
  const std::size_t tokens = 23;
  OwnedMat x(tokens, 128, 7, 1);
  std::vector<OwnedWeight> weights;
  std::vector<OwnedMat> y;
  std::vector<std::vector<std::uint32_t>> rows{{22, 0, 5, 5}, {}, {7}, {}, {1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13}};
  for (std::uint32_t i = 0; i < tokens; ++i) rows[3].push_back(tokens - 1 - i);
  std::vector<Product> products;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    weights.emplace_back(50, 128, 4, 64, DType::kF16, i);
    y.emplace_back(rows[i].size(), 50, 0, 9);
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    // Without rows, a product of no tokens: x is empty too.
    const Mat<const float> in = rows[i].empty() ? Mat<const float>(x.view()).rows_from(0, 0) : x.view();
    products.push_back({weights[i].view(), in, rows[i], y[i].view(), i == 4});
  }
  for (const std::size_t threads : {1u, 2u}) check(products, "experts", threads);
  // Alone, few rows of a long x: x need not fit the scratch.
  check(std::span(products).subspan(0, 1), "one expert");
  check(std::span(products).subspan(2, 1), "one token of an expert");
}

TEST_F(EachLevel, RunsInRoundsWhenTheScratchIsFull) {
  // The scratch holds the largest product only; each x is another one. 70 products are more than one round takes, too.
  const OwnedWeight weight(17, 128, 4, 32, DType::kF16, 1), plain(5, 33, DType::kF32, 2);
  std::vector<OwnedMat> x, y;
  std::vector<Product> products;
  for (std::size_t i = 0; i < 70; ++i) {
    const Weight& w = i % 7 == 3 ? plain.view() : weight.view();
    x.emplace_back(3 + i % 2, w.cols, 0, i);
    y.emplace_back(3 + i % 2, w.rows, 0, i);
  }
  for (std::size_t i = 0; i < 70; ++i) {
    products.push_back({i % 7 == 3 ? plain.view() : weight.view(), x[i].view(), {}, y[i].view(), false});
  }
  check(products, "rounds", 2);
}

TEST_F(EachLevel, LevelsAgreeAndZeroGroupsVanish) {
  // With one group the float32 sums have one term each, so equal integers mean equal results up to two roundings.
  const OwnedWeight weight(20, 64, 8, 64, DType::kF32, 1);
  OwnedMat x(4, 64, 0, 2), y(4, 20, 0, 3);
  std::ranges::fill(x.view().row(1), 0.0f);
  std::ranges::fill(x.view().row(2), 1e-38f);  // too small for a scale
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(name_of(level)).ok());
    const Product p{weight.view(), x.view(), {}, y.view(), false};
    Machine machine(limits_of({&p, 1}), Arithmetic::kFast, 1);
    (*machine).run({&p, 1});
    for (std::size_t r = 0; r < 20; ++r) {
      EXPECT_EQ(y.view().row(1)[r], 0.0f) << name_of(level);
      EXPECT_EQ(y.view().row(2)[r], 0.0f) << name_of(level);
      EXPECT_NE(y.view().row(3)[r], 0.0f) << name_of(level);
    }
  }
}

TEST_F(EachLevel, QuantisesAlike) {
  const std::size_t cols = 32 * 7;
  std::vector<float> x(cols);
  const CounterRng random(5);
  for (std::size_t i = 0; i < cols; ++i) x[i] = random.normal(i);
  // Halves: max is 127, so the products are exact and the ties go to even.
  for (std::size_t i = 0; i < 32; ++i) x[i] = i == 0 ? 127.0f : static_cast<float>(i) + 0.5f;
  std::vector<std::int8_t> first;
  for (const Level level : supported_levels()) {
    std::vector<std::int8_t> q(256, 99);
    std::vector<float> scale(16, 9.0f), sum(16, 9.0f);
    int8::kernels(level).quantise(x.data(), cols, 32, 0, q.data(), scale.data(), sum.data());
    EXPECT_EQ(q[1], 2) << name_of(level);
    EXPECT_EQ(q[2], 2) << name_of(level);
    EXPECT_EQ(scale[0], 1.0f) << name_of(level);
    int total = 0;
    for (std::size_t i = 32; i < 64; ++i) total += q[i];
    EXPECT_EQ(sum[1], scale[1] * static_cast<float>(total)) << name_of(level);
    for (std::size_t i = cols; i < 256; ++i) EXPECT_EQ(q[i], 0) << name_of(level);
    for (std::size_t g = 7; g < 16; ++g) EXPECT_EQ(scale[g] + sum[g], 0.0f) << name_of(level);
    if (first.empty()) first = q;
    EXPECT_EQ(q, first) << name_of(level);
  }
}

TEST_F(EachLevel, ANotANumberReachesTheResult) {
  const OwnedWeight weight(20, 128, 4, 64, DType::kF16, 1);
  OwnedMat x(2, 128, 0, 2), y(2, 20, 0, 3);
  x.view().row(1)[77] = std::numeric_limits<float>::quiet_NaN();
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(name_of(level)).ok());
    const Product p{weight.view(), x.view(), {}, y.view(), false};
    Machine machine(limits_of({&p, 1}), Arithmetic::kFast, 1);
    (*machine).run({&p, 1});
    EXPECT_FALSE(std::isnan(y.view().row(0)[3])) << name_of(level);
    EXPECT_TRUE(std::isnan(y.view().row(1)[3])) << name_of(level);
  }
}

TEST(Levels, AreForcedByName) {
  const std::vector<Level> levels = supported_levels();
  ASSERT_FALSE(levels.empty());
  EXPECT_EQ(level(), levels.back());
  for (const Level wanted : levels) {
    ASSERT_TRUE(force(name_of(wanted)).ok());
    EXPECT_EQ(level(), wanted);
  }
  EXPECT_EQ(force("pentium").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(force("").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(level(), levels.back());
}

TEST(Levels, OnlyTheWidestOnesHaveBf16Dots) {
  for (const Level level : supported_levels()) {
    EXPECT_TRUE(level == Level::kAvx512Vnni || !has_bf16_dot(level)) << name_of(level);
  }
}

TEST(Levels, TheEnvironmentDecidesWhenItSpeaks) {
  ASSERT_EQ(unsetenv("BIT_AXON_CPU"), 0);
  EXPECT_TRUE(force_from_environment().ok());
  ASSERT_EQ(setenv("BIT_AXON_CPU", "scalar", 1), 0);
  EXPECT_TRUE(force_from_environment().ok());
  EXPECT_EQ(level(), Level::kScalar);
  ASSERT_EQ(setenv("BIT_AXON_CPU", "z80", 1), 0);
  EXPECT_FALSE(force_from_environment().ok());
  ASSERT_EQ(unsetenv("BIT_AXON_CPU"), 0);
  ASSERT_TRUE(force(name_of(supported_levels().back())).ok());
}

}  // namespace
}  // namespace axon::cpu
