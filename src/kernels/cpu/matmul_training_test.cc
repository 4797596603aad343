// Matmul in kMixed, W^T x in every arithmetic, and outer products, against their slow twins on every level.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/level.h"
#include "kernels/cpu/matmul_reference.h"
#include "kernels/cpu/matmul_testing.h"
#include "kernels/cpu/outer.h"
#include "kernels/reference_device.h"
#include "memory/no_allocation.h"

namespace axon::cpu {
namespace {

enum class Way { kThere, kBack };

const char* name_of(Way way) { return way == Way::kThere ? "there" : "back"; }
const char* name_of(Arithmetic a) {
  return a == Arithmetic::kFast ? "fast" : a == Arithmetic::kMixed ? "mixed" : "exact";
}

std::size_t tokens_of(const Product& p) { return p.x_rows.empty() ? p.x.rows : p.x_rows.size(); }

bool meets_bf16(const Product& p, Arithmetic arithmetic) {
  const bool taken = p.weight.rows >= bf16::kRowsMin && (p.weight.quantised() || p.weight.dtype == DType::kBF16);
  return arithmetic == Arithmetic::kMixed && taken && has_bf16_dot(level());
}

MatmulLimits limits_of(std::span<const Product> products, Way way, Arithmetic arithmetic) {
  MatmulLimits limits;
  for (const Product& p : products) {
    limits.x_elements_max = std::max(limits.x_elements_max, tokens_of(p) * p.x.cols);
    limits.cols_max = std::max(limits.cols_max, p.weight.cols);
    limits.rows_of_x_max = std::max(limits.rows_of_x_max, tokens_of(p));
    if (way == Way::kBack) limits.transposed_rows_max = std::max(limits.transposed_rows_max, p.weight.rows);
  }
  if (arithmetic == Arithmetic::kMixed) limits.mixed_elements_max = std::max<std::size_t>(limits.x_elements_max, 1);
  return limits;
}

void run(Matmul& matmul, Way way, std::span<const Product> products) {
  const NoAllocation sealed;
  if (way == Way::kThere) {
    matmul.run(products);
  } else {
    matmul.run_transposed(products);
  }
}

void run_reference(const Product& p, Way way) {
  if (way == Way::kThere) {
    reference::matmul(p, Arithmetic::kExact);
  } else {
    reference::matmul_transposed(p);
  }
}

// Element [r, k] as float32: code * scale + bias with one rounding, as the kernels with bf16 compute it.
float value_of(const Weight& w, std::size_t r, std::size_t k) {
  if (!w.quantised()) return load_float(w.dtype, w.data, r * w.cols + k);
  const std::size_t g = r * w.groups() + k / static_cast<std::size_t>(w.affine.group_size);
  const auto* row = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  return std::fma(static_cast<float>(affine::code_at(row, w.affine.bits, k)),
                  load_float(w.affine.scale_dtype, w.affine.scales, g),
                  load_float(w.affine.scale_dtype, w.affine.biases, g));
}

// Weights and x rounded to bf16: what is left to judge then is float32 sums.
struct RoundedProduct {
  RoundedProduct(const Product& p, std::vector<float>& y) : product(p) {
    for (std::size_t r = 0; r < p.weight.rows; ++r) {
      for (std::size_t k = 0; k < p.weight.cols; ++k) weights.push_back(float_to_bf16(value_of(p.weight, r, k)));
    }
    for (std::size_t t = 0; t < p.x.rows; ++t) {
      for (const float v : p.x.row(t)) x.push_back(bf16_to_float(float_to_bf16(v)));
    }
    product.weight = {weights.data(), p.weight.rows, p.weight.cols, DType::kBF16, {}};
    product.x = {x.data(), p.x.rows, p.x.cols};
    product.y.data = y.data();
  }
  std::vector<std::uint16_t> weights;
  std::vector<float> x;
  Product product;
};

float largest(Mat<const float> m) {
  float most = 0.0f;
  for (std::size_t t = 0; t < m.rows; ++t) {
    for (const float v : m.row(t)) most = std::max(most, std::fabs(v));
  }
  return most;
}

// What float32 sums of n terms of magnitude `most` * |w| may be off: n roundings of the running sum at worst, a few
// standard deviations of sqrt(n) in practice. |w| <= 0.3 or so; a decoded weight is a difference of code * scale and
// bias, each up to twice as large as it. A sum that starts from y carries that through its roundings, too.
float tolerance(const Product& p, const std::vector<float>& before = {}) {
  const auto n = static_cast<float>(p.x.cols);
  float y = 0.0f;
  for (const float v : before) y = std::max(y, p.add ? std::fabs(v) : 0.0f);
  return 1e-6f + std::sqrt(n) * std::numeric_limits<float>::epsilon() * (8.0f * largest(p.x) * 0.6f + y);
}

std::vector<float> contents(const Product& p) {
  if (p.y.rows == 0) return {};
  return {p.y.data, p.y.data + (p.y.rows - 1) * p.y.stride + p.y.cols};
}

void expect_equal_to_reference(const Product& p, Way way, Arithmetic arithmetic, const std::vector<float>& before,
                               const std::string& what) {
  std::vector<float> wanted = before;
  if (meets_bf16(p, arithmetic)) {
    run_reference(RoundedProduct(p, wanted).product, way);
  } else {
    Product twin = p;
    twin.y.data = wanted.data();
    run_reference(twin, way);
  }
  const float allowed = tolerance(p, before);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::size_t t = i / p.y.stride, c = i % p.y.stride;
    // Between the rows nothing may be written at all.
    ASSERT_NEAR(p.y.data[i], wanted[i], c < p.y.cols ? allowed : 0.0f) << what << " token " << t << " column " << c;
  }
}

// Runs on every level that this machine has, and puts the best one back.
class Training : public testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(force(cpu::name_of(supported_levels().back())).ok()); }

  void check(std::span<const Product> products, Way way, Arithmetic arithmetic, const std::string& what,
             std::size_t threads = 1) {
    for (const Level level : supported_levels()) {
      ASSERT_TRUE(force(cpu::name_of(level)).ok());
      std::vector<std::vector<float>> before;
      for (const Product& p : products) before.push_back(contents(p));
      Machine machine(limits_of(products, way, arithmetic), arithmetic, threads);
      run(*machine, way, products);
      for (std::size_t i = 0; i < products.size(); ++i) {
        const auto name = fmt::format("{} {} {} {} threads {} product {}", what, cpu::name_of(level), name_of(way),
                                      name_of(arithmetic), threads, i);
        expect_equal_to_reference(products[i], way, arithmetic, before[i], name);
      }
      if (HasFatalFailure()) return;
    }
  }

  // Both ways, y strided.
  void check_both(const Weight& weight, std::size_t tokens, Arithmetic arithmetic, bool add, const std::string& what,
                  std::size_t threads = 1) {
    for (const Way way : {Way::kThere, Way::kBack}) {
      if (way == Way::kThere && arithmetic == Arithmetic::kFast) continue;  // matmul_test.cc
      const std::size_t in = way == Way::kThere ? weight.cols : weight.rows;
      const std::size_t out = way == Way::kThere ? weight.rows : weight.cols;
      OwnedMat x(tokens, in, 3, 8), y(tokens, out, 2, 9);
      const Product p{weight, x.view(), {}, y.view(), add};
      check({&p, 1}, way, arithmetic, fmt::format("{} tokens {}", what, tokens), threads);
      if (HasFatalFailure()) return;
    }
  }
};

TEST_F(Training, MeetsTheReferenceForEveryQuantisation) {
  for (const int bits : affine::kBits) {
    for (const int group : affine::kGroupSizes) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        for (const std::size_t groups : {std::size_t{1}, std::size_t{5}}) {
          const OwnedWeight weight(37, groups * static_cast<std::size_t>(group), bits, group, dtype, 7);
          for (const Arithmetic arithmetic : {Arithmetic::kMixed, Arithmetic::kExact}) {
            check_both(weight.view(), 7, arithmetic, false,
                       fmt::format("bits {} group {} {} groups {}", bits, group, axon::name_of(dtype), groups));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_F(Training, MeetsTheReferenceForAnyNumberOfRowsAndTokens) {
  // Fewer rows than meet bf16, one more, tails of tiles and blocks, odd ones.
  for (const std::size_t rows : {1u, 2u, 5u, 31u, 32u, 33u, 34u, 35u, 63u, 66u, 101u}) {
    const OwnedWeight packed(rows, 96, 4, 32, DType::kF16, 3), half(rows, 70, DType::kBF16, 4);
    for (const std::size_t tokens : {1u, 2u, 5u, 6u, 7u, 13u}) {
      for (const Arithmetic arithmetic : {Arithmetic::kMixed, Arithmetic::kFast}) {
        const std::string what = fmt::format("rows {}", rows);
        check_both(packed.view(), tokens, arithmetic, tokens % 2 == 1, "4 bits " + what);
        check_both(half.view(), tokens, arithmetic, tokens % 2 == 1, "bf16 " + what);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(Training, MeetsTheReferenceForFloatWeightsOfAnyShape) {
  // Columns past the last vector, lane and unit of a thread.
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::size_t cols : {1u, 15u, 16u, 17u, 33u, 63u, 65u, 255u, 257u, 300u}) {
      for (const std::size_t rows : {1u, 16u, 35u, 67u}) {
        const OwnedWeight weight(rows, cols, dtype, 3);
        check_both(weight.view(), 5, Arithmetic::kMixed, true,
                   fmt::format("{} rows {} cols {}", axon::name_of(dtype), rows, cols), 2);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(Training, MeetsTheReferenceInSeveralPanels) {
  // There, columns make panels (2560 of bf16, 1024 of floats); back, rows (1024 and 256).
  const OwnedWeight wide(35, 2624, 4, 64, DType::kF16, 1), wider(35, 5201, DType::kBF16, 2),
      plain(5, 2100, DType::kF32, 3);
  const OwnedWeight tall(2050, 160, 4, 32, DType::kF16, 4), taller(1025, 70, DType::kBF16, 5),
      high(515, 33, DType::kF32, 6), higher(300, 64, 8, 64, DType::kBF16, 7);
  for (const OwnedWeight* w : {&wide, &wider, &plain, &tall, &taller, &high, &higher}) {
    for (const Arithmetic arithmetic : {Arithmetic::kMixed, Arithmetic::kExact}) {
      for (const bool add : {false, true}) {
        check_both(w->view(), 8, arithmetic, add, fmt::format("{}x{}", w->view().rows, w->view().cols), 2);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(Training, FewRowsMeetManyTokens) {
  // The tokens are shared among the threads; so many that the last units are not whole.
  const OwnedWeight factor(16, 1100, DType::kF32, 1), router(8, 96, DType::kBF16, 2),
      packed(20, 96, 4, 32, DType::kF16, 3);
  for (const OwnedWeight* w : {&factor, &router, &packed}) {
    for (const std::size_t tokens : {48u, 49u, 101u}) {
      for (const std::size_t threads : {1u, 3u}) {
        check_both(w->view(), tokens, Arithmetic::kMixed, true, fmt::format("{} columns", w->view().cols), threads);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(Training, ProductsShareAndGatherX) {
  const OwnedWeight a(40, 96, 4, 32, DType::kF16, 1), b(40, 130, DType::kBF16, 2), c(40, 300, DType::kF32, 3),
      d(40, 320, 3, 64, DType::kF32, 4);
  const std::vector<std::uint32_t> few{22, 0, 5, 5}, one{7};
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 0; i < 23; ++i) all.push_back(22 - i);
  const std::span<const std::uint32_t> gathers[] = {{}, all, few, one};
  OwnedMat x(23, 40, 7, 6), other(23, 40, 0, 7);
  std::vector<OwnedMat> y;
  std::vector<Product> products;
  for (const auto x_rows : gathers) {
    for (const OwnedWeight* w : {&a, &b, &c, &d}) {
      for (OwnedMat* in : {&x, &other}) {
        y.emplace_back(x_rows.empty() ? 23 : x_rows.size(), w->view().cols, 1, 8);
        products.push_back({w->view(), in->view(), x_rows, y.back().view(), products.size() % 2 == 1});
      }
    }
  }
  for (const Arithmetic arithmetic : {Arithmetic::kMixed, Arithmetic::kExact}) {
    for (const std::size_t threads : {1u, 3u}) {
      check(products, Way::kBack, arithmetic, "all", threads);
      check(std::span(products).last(8), Way::kBack, arithmetic, "one row", threads);
      check(std::span(products).subspan(16, 8), Way::kBack, arithmetic, "few rows", threads);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(Training, RunsInRoundsWhenTheScratchIsFull) {
  const OwnedWeight weight(34, 128, 4, 32, DType::kF16, 1), plain(5, 33, DType::kF32, 2);
  std::vector<OwnedMat> x, y;
  std::vector<Product> there, back;
  const auto of = [&](std::size_t i) -> const Weight& { return i % 7 == 3 ? plain.view() : weight.view(); };
  x.reserve(140);
  y.reserve(140);
  for (std::size_t i = 0; i < 70; ++i) {
    const Weight& w = of(i);
    x.emplace_back(3 + i % 2, w.cols, 0, i);
    y.emplace_back(3 + i % 2, w.rows, 0, i);
    there.push_back({w, x.back().view(), {}, y.back().view(), false});
    x.emplace_back(3 + i % 2, w.rows, 0, i);
    y.emplace_back(3 + i % 2, w.cols, 0, i);
    back.push_back({w, x.back().view(), {}, y.back().view(), false});
  }
  check(there, Way::kThere, Arithmetic::kMixed, "rounds", 2);
  check(back, Way::kBack, Arithmetic::kMixed, "rounds", 2);
}

// bf16 keeps 8 bits, so rounding to the nearest moves a value by 2^-9 of itself at most, a product of two by 2^-8 and a
// little, and a sum by that much of the sum of its terms' magnitudes.
TEST_F(Training, RoundingMovesASumByThatMuchAtMost) {
  const OwnedWeight weight(70, 320, 4, 64, DType::kF16, 1);
  const Weight& w = weight.view();
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(cpu::name_of(level)).ok());
    for (const Way way : {Way::kThere, Way::kBack}) {
      const std::size_t in = way == Way::kThere ? w.cols : w.rows, out = way == Way::kThere ? w.rows : w.cols;
      OwnedMat x(9, in, 0, 2), y(9, out, 0, 3), exact(9, out, 0, 4);
      const Product p{w, x.view(), {}, y.view(), false};
      Machine machine(limits_of({&p, 1}, way, Arithmetic::kMixed), Arithmetic::kMixed, 1);
      run(*machine, way, {&p, 1});
      run_reference({w, x.view(), {}, exact.view(), false}, way);
      float most = 0.0f;
      for (std::size_t t = 0; t < 9; ++t) {
        for (std::size_t i = 0; i < out; ++i) {
          float size = 0.0f;
          for (std::size_t k = 0; k < in; ++k) {
            const float value = way == Way::kThere ? value_of(w, i, k) : value_of(w, k, i);
            size += std::fabs(value * x.view().row(t)[k]);
          }
          const float off = std::fabs(y.view().row(t)[i] - exact.view().row(t)[i]);
          ASSERT_LE(off, size * 0x1.01p-8f + tolerance(p)) << cpu::name_of(level) << " token " << t << " value " << i;
          most = std::max(most, off);
        }
      }
      // Where the processor has the instruction, it is used; elsewhere nothing is rounded.
      EXPECT_EQ(most > tolerance(p), has_bf16_dot(level)) << cpu::name_of(level) << " " << name_of(way);
    }
  }
}

// Threads take what is left when they are done, so who takes a part differs from run to run; what it becomes must not.
TEST_F(Training, SumsDoNotDependOnTheThreads) {
  std::vector<OwnedWeight> weights;
  for (const int bits : {3, 4, 8}) weights.emplace_back(331, 832, bits, 64, DType::kF16, 1);
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) weights.emplace_back(331, 830, dtype, 2);
  weights.emplace_back(16, 1030, DType::kF32, 3);
  for (const OwnedWeight& weight : weights) {
    const Weight& w = weight.view();
    for (const Way way : {Way::kThere, Way::kBack}) {
      const std::size_t in = way == Way::kThere ? w.cols : w.rows, out = way == Way::kThere ? w.rows : w.cols;
      OwnedMat x(113, in, 0, 3), y(113, out, 0, 4), first(113, out, 0, 5);
      const Product p{w, x.view(), {}, y.view(), false};
      for (const Level level : supported_levels()) {
        ASSERT_TRUE(force(cpu::name_of(level)).ok());
        for (const std::size_t threads : {1u, 2u, 3u}) {
          Machine machine(limits_of({&p, 1}, way, Arithmetic::kMixed), Arithmetic::kMixed, threads);
          run(*machine, way, {&p, 1});
          if (threads == 1) std::copy_n(y.view().data, 113 * out, first.view().data);
          for (std::size_t i = 0; i < 113 * out; ++i) {
            ASSERT_EQ(y.view().data[i], first.view().data[i]) << cpu::name_of(level) << " " << name_of(way) << " "
                                                              << axon::name_of(w.dtype) << " threads " << threads;
          }
        }
      }
    }
  }
}

TEST_F(Training, ReadsNothingPastTheEndOfAWeight) {
  for (const int bits : affine::kBits) {
    for (const int group : affine::kGroupSizes) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        const OwnedWeight owned(37, 3 * static_cast<std::size_t>(group), bits, group, dtype, 7);
        Weight weight = owned.view();
        const std::size_t scale_bytes = weight.rows * weight.groups() * size_of(dtype);
        const GuardedBytes data(weight.data, weight.rows * weight.row_bytes());
        const GuardedBytes scales(weight.affine.scales, scale_bytes), biases(weight.affine.biases, scale_bytes);
        weight.data = data.data();
        weight.affine.scales = scales.data();
        weight.affine.biases = biases.data();
        check_both(weight, 2, Arithmetic::kMixed, false, fmt::format("bits {} group {}", bits, group));
        if (HasFatalFailure()) return;
      }
    }
  }
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const OwnedWeight owned(37, 83, dtype, 8);
    Weight weight = owned.view();
    const GuardedBytes data(weight.data, weight.rows * weight.row_bytes());
    weight.data = data.data();
    check_both(weight, 2, Arithmetic::kMixed, false, std::string(axon::name_of(dtype)));
    if (HasFatalFailure()) return;
  }
}

TEST_F(Training, NotANumberReachesItsTokenAlone) {
  const OwnedWeight weight(33, 128, 4, 64, DType::kF16, 1);
  for (const Level level : supported_levels()) {
    ASSERT_TRUE(force(cpu::name_of(level)).ok());
    for (const Way way : {Way::kThere, Way::kBack}) {
      const std::size_t in = way == Way::kThere ? 128 : 33, out = way == Way::kThere ? 33 : 128;
      OwnedMat x(3, in, 0, 2), y(3, out, 0, 3);
      x.view().row(1)[32] = std::numeric_limits<float>::quiet_NaN();
      const Product p{weight.view(), x.view(), {}, y.view(), false};
      Machine machine(limits_of({&p, 1}, way, Arithmetic::kMixed), Arithmetic::kMixed, 1);
      run(*machine, way, {&p, 1});
      for (std::size_t i = 0; i < out; ++i) {
        EXPECT_TRUE(std::isfinite(y.view().row(0)[i])) << cpu::name_of(level) << " " << i;
        EXPECT_TRUE(std::isnan(y.view().row(1)[i])) << cpu::name_of(level) << " " << i;
        EXPECT_TRUE(std::isfinite(y.view().row(2)[i])) << cpu::name_of(level) << " " << i;
      }
    }
  }
}

TEST_F(Training, AWeightWithoutRowsGivesZeros) {
  for (const Arithmetic arithmetic : {Arithmetic::kMixed, Arithmetic::kExact}) {
    Weight weight;
    weight.cols = 40;
    weight.dtype = DType::kBF16;
    OwnedMat y(3, 40, 1, 3);
    const Product p{weight, {nullptr, 3, 0}, {}, y.view(), false};
    check({&p, 1}, Way::kBack, arithmetic, "no rows");
  }
}

// Who only runs forward pays nothing; who trains pays for x as bf16 and for decoded blocks.
TEST(TrainingScratch, IsPlannedFromItsLimits) {
  MatmulLimits limits{.x_elements_max = 256 * 2560, .cols_max = 2560, .rows_of_x_max = 256};
  const Bytes forward = Matmul::scratch_bytes(limits, 2);
  limits.mixed_elements_max = 256 * 15360;
  const Bytes mixed = Matmul::scratch_bytes(limits, 2);
  const std::size_t codes = 2 * (256 * 15360 + 256 * bf16::kPaddingMax);
  EXPECT_GE(mixed.count, forward.count + codes - 256 * (2560 + 127));
  limits.transposed_rows_max = 15360;
  const Bytes transposed = Matmul::scratch_bytes(limits, 2);
  EXPECT_EQ(transposed.count - mixed.count, 2 * (round_up(bf16::columns_scratch_bytes(15360, 2560), 4096) -
                                                 round_up(bf16::rows_scratch_bytes(2560), 4096)));
  EXPECT_LE(transposed.count, codes + (2u << 20));
}

class Outer : public Training {
 protected:
  // Against the twin, with 1, 2 and 3 threads the same bits; other values of g's memory are left alone.
  void check(std::size_t rank, std::size_t cols, std::size_t tokens, std::span<const std::uint32_t> b_rows) {
    OwnedMat a(tokens, rank, 3, 1), b(b_rows.empty() ? tokens : 50, cols, 2, 2), before(rank, cols, 1, 3);
    OwnedMat wanted = before;
    const float factor = 0.37f;
    const OuterProduct twin{a.view(), b.view(), b_rows, factor, wanted.view()};
    ReferenceDevice(Arithmetic::kExact).add_outer({&twin, 1});
    // A float32 sum of as many products of normal numbers (4 times 4 at most, nearly), times the factor; and one of g.
    const float most = largest(a.view()) * largest(b.view());
    const float allowed =
        1e-6f + std::sqrt(static_cast<float>(tokens)) * 8.0f * factor * most * std::numeric_limits<float>::epsilon();
    for (const Level level : supported_levels()) {
      ASSERT_TRUE(force(cpu::name_of(level)).ok());
      OwnedMat first = before;
      for (const std::size_t threads : {1u, 2u, 3u}) {
        OwnedMat g = before;
        ThreadPool pool(threads);
        const OuterProduct p{a.view(), b.view(), b_rows, factor, g.view()};
        {
          const NoAllocation sealed;
          add_outer(pool, {&p, 1});
        }
        if (threads == 1) first = g;
        const std::size_t stride = g.view().stride;
        for (std::size_t i = 0; i + 1 < rank * stride; ++i) {
          const std::string what =
              fmt::format("{} rank {} cols {} tokens {} at {}", cpu::name_of(level), rank, cols, tokens, i);
          ASSERT_NEAR(g.view().data[i], wanted.view().data[i], i % stride < cols ? allowed : 0.0f) << what;
          ASSERT_EQ(g.view().data[i], first.view().data[i]) << what << " threads " << threads;
        }
      }
    }
  }
};

TEST_F(Outer, MeetsTheReferenceForAnyShape) {
  for (const std::size_t rank : {1u, 2u, 6u, 7u, 8u, 16u, 64u}) {
    for (const std::size_t cols : {1u, 15u, 17u, 64u, 65u, 100u, 700u}) {
      check(rank, cols, 13, {});
      if (HasFatalFailure()) return;
    }
  }
  check(5, 70, 1, {});
  check(8, 70, 1000, {});
}

TEST_F(Outer, TakesRowsOfB) {
  const std::vector<std::uint32_t> rows{49, 0, 7, 7, 3, 30};
  check(8, 300, rows.size(), rows);
}

TEST_F(Outer, ProductsOfACallAreIndependent) {
  std::vector<OwnedMat> a, b, g, wanted;
  std::vector<OuterProduct> products, twins;
  const std::size_t ranks[] = {8, 1, 3, 16}, widths[] = {300, 1, 513, 64}, tokens[] = {5, 4, 0, 9};
  for (std::size_t i = 0; i < 4; ++i) {
    a.emplace_back(tokens[i], ranks[i], 1, i);
    b.emplace_back(tokens[i], widths[i], 1, 10 + i);
    g.emplace_back(ranks[i], widths[i], 1, 20 + i);
  }
  wanted = g;
  for (std::size_t i = 0; i < 4; ++i) {
    products.push_back({a[i].view(), b[i].view(), {}, 2.0f, g[i].view()});
    twins.push_back({a[i].view(), b[i].view(), {}, 2.0f, wanted[i].view()});
  }
  ThreadPool pool(3);
  add_outer(pool, products);
  ReferenceDevice(Arithmetic::kExact).add_outer(twins);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t r = 0; r < ranks[i]; ++r) {
      for (std::size_t c = 0; c < widths[i]; ++c) {
        ASSERT_NEAR(g[i].view().row(r)[c], wanted[i].view().row(r)[c], 2e-5f) << i << " " << r << " " << c;
      }
    }
  }
}

}  // namespace
}  // namespace axon::cpu
