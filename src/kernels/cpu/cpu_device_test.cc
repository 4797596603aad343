#include "kernels/cpu/cpu_device.h"

#include <array>
#include <cstddef>
#include <vector>

#include "kernels/cpu/cpu_device_testing.h"
#include "quant/affine.h"

namespace axon::cpu {
namespace {

class CpuDeviceTest : public EachLevel {};
AXON_EACH_LEVEL(CpuDeviceTest);

TEST(CpuDevice, TakesWhatItPlans) {
  const DeviceLimits limits{.x_elements_max = 5000,
                            .rows_of_x_max = 10,
                            .cols_max = 500,
                            .head_dim_max = 80,
                            .states_max = 16,
                            .attend_backward_tokens_max = 100,
                            .back_tokens_max = 40,
                            .back_channels_max = 300,
                            .back_taps_max = 4};
  for (const std::size_t threads : {1u, 2u, 3u}) {
    const Bytes planned = CpuDevice::scratch(limits, threads).peak();
    Ledger exact(planned);
    {
      auto device = CpuDevice::create(exact, limits, threads, Arithmetic::kFast);
      ASSERT_TRUE(device.ok());
      EXPECT_EQ(exact.used(account::kWorkspace), planned);
    }
    EXPECT_EQ(exact.peak(), planned);
    Ledger short_of_it(planned - 1_B);
    EXPECT_EQ(CpuDevice::create(short_of_it, limits, threads, Arithmetic::kFast).error().code, ErrorCode::kOverBudget);
  }
}

TEST_P(CpuDeviceTest, RmsNormAgreesWithReference) {
  for (const std::size_t cols : {1u, 2u, 15u, 64u, 67u, 129u, 2560u}) {
    for (const std::size_t rows : {1u, 3u, 21u}) {
      for (const float scale : {1e-4f, 1.0f, 1e6f}) {
        Matrix x = Matrix::normal(rows, cols, cols, scale), w = Matrix::normal(1, cols, 2), y(rows, cols);
        Matrix expected(rows, cols);
        device().rms_norm(x.mat(), w.row(0), 1e-6f, y.mat());
        reference_.rms_norm(x.mat(), w.row(0), 1e-6f, expected.mat());
        // All terms of the sum are positive: at most one rounding (2^-24) for each of cols / 4 / lanes additions in a
        // row, of which the square root passes half; then 5 roundings.
        const double relative = (static_cast<double>(cols) / 8.0 + 5.0) * 0x1p-24;
        EXPECT_TRUE(close(y.mat(), expected.mat(), 1e-30, relative));
        EXPECT_TRUE(y.intact());
        device().rms_norm(x.mat(), w.row(0), 1e-6f, x.mat());
        EXPECT_TRUE(close(x.mat(), y.mat(), 0.0, 0.0));
      }
    }
  }
}

TEST_P(CpuDeviceTest, RmsNormOfZerosIsZero) {
  Matrix x(2, 33), w = Matrix::normal(1, 33, 1), y = Matrix::normal(2, 33, 2);
  device().rms_norm(x.mat(), w.row(0), 1e-6f, y.mat());
  EXPECT_EQ(y.largest(), 0.0f);
}

TEST_P(CpuDeviceTest, EmbedsEveryFloatType) {
  const std::size_t rows = 9, cols = 37;
  const std::vector<std::uint32_t> ids{8, 0, 3, 3, 8, 1, 2, 7, 6, 5, 4};
  Matrix values = Matrix::normal(rows, cols, 3);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<std::byte> data(1 + rows * cols * size_of(dtype));  // the file may put a tensor at an odd offset
    for (std::size_t i = 0; i < rows * cols; ++i) {
      store_float(dtype, data.data() + 1, i, values.row(i / cols)[i % cols]);
    }
    const Weight table{data.data() + 1, rows, cols, dtype, {}};
    Matrix y(ids.size(), cols), expected(ids.size(), cols);
    device().embed(table, ids, y.mat());
    reference_.embed(table, ids, expected.mat());
    EXPECT_TRUE(close(y.mat(), expected.mat(), 0.0, 0.0));
    EXPECT_TRUE(y.intact());
  }
}

TEST_P(CpuDeviceTest, EmbedsEveryAffineFormat) {
  const std::size_t rows = 6, cols = 256;
  const std::vector<std::uint32_t> ids{5, 0, 2};
  Matrix values = Matrix::normal(rows, cols, 4);
  for (const int bits : affine::kBits) {
    for (const int group : affine::kGroupSizes) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        const std::size_t groups = cols / static_cast<std::size_t>(group);
        const std::size_t row_bytes = cols * static_cast<std::size_t>(bits) / 8, row_scales = groups * size_of(dtype);
        std::vector<std::byte> codes(rows * row_bytes), scales(rows * row_scales), biases(rows * row_scales);
        for (std::size_t r = 0; r < rows; ++r) {
          affine::encode_row(values.row(r), bits, group, dtype, codes.data() + r * row_bytes,
                             scales.data() + r * row_scales, biases.data() + r * row_scales);
        }
        const Weight table{codes.data(), rows, cols, DType::kU32, {bits, group, dtype, scales.data(), biases.data()}};
        Matrix y(ids.size(), cols), expected(ids.size(), cols);
        device().embed(table, ids, y.mat());
        reference_.embed(table, ids, expected.mat());
        // One rounding less where a compiler fuses code * scale + bias: half a unit of the larger term.
        EXPECT_TRUE(close(y.mat(), expected.mat(), 0x1p-24 * double{expected.largest()}, 0.0)) << bits << " " << group;
      }
    }
  }
}

// The kernels have their own tests; this one is for what lies between: limits, scratch and several products of one x.
TEST_P(CpuDeviceTest, MatmulAgreesWithReference) {
  const std::size_t T = 5, cols = 128, rows = 70;
  Matrix x = Matrix::normal(T, cols, 1), w = Matrix::normal(rows, cols, 2, 0.1f);
  std::vector<float> plain;
  std::vector<std::byte> codes(rows * cols / 2), scales(rows * cols / 64 * 4), biases(scales.size());
  for (std::size_t r = 0; r < rows; ++r) {
    plain.insert(plain.end(), w.row(r).begin(), w.row(r).end());
    affine::encode_row(w.row(r), 4, 64, DType::kF32, codes.data() + r * cols / 2, scales.data() + r * cols / 64 * 4,
                       biases.data() + r * cols / 64 * 4);
  }
  const Weight full{plain.data(), rows, cols, DType::kF32, {}};
  const Weight packed{codes.data(), rows, cols, DType::kU32, {4, 64, DType::kF32, scales.data(), biases.data()}};
  const std::vector<std::uint32_t> gathered{4, 0, 4};
  for (const Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kFast}) {
    Ledger ledger(64_MiB);
    const DeviceLimits limits{.x_elements_max = T * cols, .rows_of_x_max = T, .cols_max = cols};
    auto fast = CpuDevice::create(ledger, limits, device().threads(), arithmetic).value();
    ReferenceDevice slow(arithmetic);
    Matrix a(T, rows), b(T, rows), c(gathered.size(), rows), a2(T, rows), b2(T, rows), c2(gathered.size(), rows);
    const auto products = [&](Matrix& y0, Matrix& y1, Matrix& y2) {
      return std::vector<Product>{
          {full, x.mat(), {}, y0.mat()}, {packed, x.mat(), {}, y1.mat()}, {packed, x.mat(), gathered, y2.mat(), true}};
    };
    fast->matmul(products(a, b, c));
    slow.matmul(products(a2, b2, c2));
    // Float32 sums of 128 terms of size up to some 4 * 0.4, whose errors are independent.
    const double tolerance = 1.6 * std::sqrt(128.0) * 8.0 * 0x1p-24;
    EXPECT_TRUE(close(a.mat(), a2.mat(), tolerance, 0.0));
    EXPECT_TRUE(close(b.mat(), b2.mat(), tolerance, 0.0));
    EXPECT_TRUE(close(c.mat(), c2.mat(), tolerance, 0.0));
  }
}

TEST_P(CpuDeviceTest, RouteAgreesWithReference) {
  for (const std::size_t experts : {1u, 2u, 8u, 13u}) {
    for (std::size_t top_k = 1; top_k <= std::min<std::size_t>(experts, 4); ++top_k) {
      for (const float scale : {0.0f, 1.0f, 1000.0f}) {  // equal, usual and so large that all but one vanish
        const std::size_t T = 11;
        Matrix logits = Matrix::normal(T, experts, 5, scale), scores(T, top_k), expected(T, top_k);
        for (std::size_t x = 0; x + 1 < experts; x += 3) logits.row(4)[x] = logits.row(4)[experts - 1];  // ties
        std::vector<std::uint32_t> chosen(T * top_k), expected_chosen(T * top_k);
        device().route(logits.mat(), {chosen.data(), T, top_k}, scores.mat());
        reference_.route(logits.mat(), {expected_chosen.data(), T, top_k}, expected.mat());
        EXPECT_EQ(chosen, expected_chosen);
        // exp in float32 is good to an ulp, its argument to 2^-24 of itself; then a sum of positive terms.
        const double relative = (static_cast<double>(experts) + 4.0 + 2.0 * double{logits.largest()}) * 0x1p-23;
        EXPECT_TRUE(close(scores.mat(), expected.mat(), 1e-37, relative));
        EXPECT_TRUE(scores.intact());
      }
    }
  }
}

TEST_P(CpuDeviceTest, EqualLogitsChooseTheFirstExperts) {
  Matrix logits(2, 8), scores(2, 3);
  std::vector<std::uint32_t> chosen(6);
  device().route(logits.mat(), {chosen.data(), 2, 3}, scores.mat());
  EXPECT_EQ(chosen, (std::vector<std::uint32_t>{0, 1, 2, 0, 1, 2}));
  for (const float score : scores.row(1)) EXPECT_EQ(score, 0.125f);
}

TEST_P(CpuDeviceTest, CombineAgreesWithReference) {
  for (const std::size_t cols : {1u, 18u, 65u, 300u}) {
    for (const std::size_t T : {1u, 5u, 20u}) {
      for (const std::size_t top_k : {1u, 2u, 3u}) {
        Matrix routed = Matrix::normal(T * top_k + 2, cols, 1), scores = Matrix::normal(T, top_k, 2);
        Matrix shared = Matrix::normal(T, cols, 3), gate = Matrix::normal(T, 1, 4, 50.0f);
        Matrix x = Matrix::normal(T, cols, 5), expected = Matrix::normal(T, cols, 5);
        std::vector<std::uint32_t> slots(T * top_k);
        for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<std::uint32_t>(slots.size() + 1 - i);
        const Mat<const std::uint32_t> places{slots.data(), T, top_k};
        device().combine(routed.mat(), places, scores.mat(), shared.mat(), gate.mat(), x.mat());
        reference_.combine(routed.mat(), places, scores.mat(), shared.mat(), gate.mat(), expected.mat());
        // top_k + 2 additions of terms no larger than the largest product.
        const double size = double{routed.largest()} * double{scores.largest()} + double{shared.largest()} + 5.0;
        const double n = static_cast<double>(top_k) + 2.0;
        EXPECT_TRUE(close(x.mat(), expected.mat(), n * n * size * 0x1p-24, 0.0));
        EXPECT_TRUE(x.intact());
      }
    }
  }
}

TEST(CpuDevice, CountsBf16ByWhatComputesIt) {
  const std::size_t rows = 40, cols = 64, tokens = 3;
  Ledger ledger(64_MiB);
  const DeviceLimits limits{.x_elements_max = 1024, .rows_of_x_max = tokens, .cols_max = cols, .bf16_cols_max = cols};
  std::vector<std::uint16_t> values(rows * cols);
  const Weight weight{.data = values.data(), .rows = rows, .cols = cols, .dtype = DType::kBF16, .affine = {}};
  const Weight few = weight.slice(0, bf16::kRowsMin - 1);  // a router
  Matrix x(tokens, cols), y(tokens, rows);
  for (const Arithmetic arithmetic : {Arithmetic::kFast, Arithmetic::kExact}) {
    auto device = CpuDevice::create(ledger, limits, 1, arithmetic).value();
    const bool dots = arithmetic == Arithmetic::kFast && has_bf16_dot(level());
    const std::uint64_t operations = 2 * tokens * rows * cols;
    device->matmul(weight, x.mat(), y.mat());
    EXPECT_EQ(device->work().bf16_flops, dots ? operations : 0);
    EXPECT_EQ(device->work().fp32_flops, dots ? 0 : operations);
    device->reset_work();
    device->matmul(few, x.mat(), y.mat().cols_from(0, few.rows));
    EXPECT_EQ(device->work().bf16_flops, 0u);
    EXPECT_EQ(device->work().fp32_flops, 2 * tokens * few.rows * cols);
  }
}

TEST(CpuDevice, CountsTrainingByWhatComputesIt) {
  const std::size_t rows = 40, cols = 64, tokens = 3, rank = 4;
  Ledger ledger(64_MiB);
  const DeviceLimits limits{.x_elements_max = 1024,
                            .rows_of_x_max = tokens,
                            .cols_max = cols,
                            .mixed_elements_max = tokens * cols,
                            .transposed_rows_max = rows};
  std::vector<std::byte> codes(rows * cols / 2), scales(rows * 2);
  const Affine affine{4, 64, DType::kF16, scales.data(), scales.data()};
  const Weight weight{.data = codes.data(), .rows = rows, .cols = cols, .dtype = DType::kU32, .affine = affine};
  Matrix x(tokens, cols), y(tokens, rows), a(tokens, rank), g(rank, cols);
  const std::uint64_t operations = 2 * tokens * rows * cols, bytes = rows * cols / 2 + rows * 4;
  for (const Arithmetic arithmetic : {Arithmetic::kMixed, Arithmetic::kExact, Arithmetic::kFast}) {
    auto device = CpuDevice::create(ledger, limits, 2, arithmetic).value();
    const bool dots = arithmetic == Arithmetic::kMixed && has_bf16_dot(level());
    device->matmul_transposed(weight, y.mat(), x.mat());
    EXPECT_EQ(device->work().bf16_flops, dots ? operations : 0);
    EXPECT_EQ(device->work().fp32_flops, dots ? 0 : operations);
    EXPECT_EQ(device->work().weight_bytes, bytes);
    EXPECT_GT(device->work().of(Verb::kMatmulTransposed), 0.0);
    device->reset_work();
    device->matmul(weight, x.mat(), y.mat());
    EXPECT_EQ(device->work().bf16_flops, dots ? operations : 0);
    EXPECT_EQ(device->work().int8_ops, arithmetic == Arithmetic::kFast ? operations : 0);
    device->reset_work();
    const OuterProduct p{.a = a.mat(), .b = x.mat(), .b_rows = {}, .factor = 1.0f, .g = g.mat()};
    device->add_outer({&p, 1});
    EXPECT_EQ(device->work().fp32_flops, 2 * tokens * rank * cols);
    EXPECT_GT(device->work().of(Verb::kAddOuter), 0.0);
  }
}

// Models without wide bf16 matrices do not pay for the two bytes an element that these take.
TEST(CpuDevice, ScratchGrowsForBf16OnlyPastTheInt8Codes) {
  DeviceLimits limits{.x_elements_max = 256 * 768, .rows_of_x_max = 256, .cols_max = 768};
  const Bytes without = CpuDevice::scratch(limits, 2).peak();
  limits.bf16_cols_max = 256;
  EXPECT_EQ(CpuDevice::scratch(limits, 2).peak(), without);
  limits.bf16_cols_max = 768;
  EXPECT_EQ(CpuDevice::scratch(limits, 2).peak(), without + Bytes{256 * (2 * 800 - 768 - 127)});
}

TEST(CpuDevice, CountsWhatItReadsAndComputes) {
  const std::size_t rows = 24, cols = 128, tokens = 3;
  Ledger ledger(64_MiB);
  const DeviceLimits limits{.x_elements_max = 1024, .rows_of_x_max = tokens, .cols_max = cols};
  auto device = CpuDevice::create(ledger, limits, 1, Arithmetic::kFast).value();
  std::vector<float> values(rows * cols), ids_y(2 * cols);
  std::vector<std::byte> codes(rows * cols / 2), scales(rows * cols / 64 * 2);
  const Weight floats{.data = values.data(), .rows = rows, .cols = cols, .dtype = DType::kF32, .affine = {}};
  const Affine affine{4, 64, DType::kF16, scales.data(), scales.data()};
  const Weight quantised{.data = codes.data(), .rows = rows, .cols = cols, .dtype = DType::kU32, .affine = affine};
  Matrix x(tokens, cols), y(tokens, rows), z(tokens, rows);
  const std::array<Product, 2> products = {Product{quantised, x.mat(), {}, y.mat()},
                                           Product{floats, x.mat(), {}, z.mat()}};
  device->matmul(products);
  device->embed(floats, std::vector<std::uint32_t>{3, 3}, {ids_y.data(), 2, cols});
  const DeviceWork& work = device->work();
  EXPECT_EQ(work.int8_ops, 2 * tokens * rows * cols);
  EXPECT_EQ(work.fp32_flops, 2 * tokens * rows * cols);
  EXPECT_EQ(work.weight_bytes, rows * cols / 2 + rows * cols / 64 * 4 + rows * cols * 4 + 2 * cols * 4);
  EXPECT_EQ(work.kv_bytes, 0u);
  EXPECT_GT(work.of(Verb::kMatmul), 0.0);
  EXPECT_EQ(work.of(Verb::kScan), 0.0);
  EXPECT_EQ(work.total(), work.of(Verb::kMatmul) + work.of(Verb::kEmbed));
  device->reset_work();
  EXPECT_EQ(device->work().weight_bytes, 0u);
}

}  // namespace
}  // namespace axon::cpu
