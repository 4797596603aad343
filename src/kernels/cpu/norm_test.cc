#include "kernels/cpu/norm.h"

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class NormTest : public EachLevel {};
AXON_EACH_LEVEL(NormTest);

TEST_P(NormTest, BackwardAgreesWithReference) {
  for (const std::size_t cols : {1u, 2u, 15u, 64u, 67u, 129u, 2560u}) {
    for (const std::size_t rows : {1u, 3u, 21u}) {
      for (const float scale : {1e-4f, 1.0f, 1e6f}) {
        Matrix x = Matrix::normal(rows, cols, cols, scale), w = Matrix::normal(1, cols, 2);
        Matrix dy = Matrix::normal(rows, cols, 3), dx = Matrix::normal(rows, cols, 4, 1.0f / scale), expected = dx;
        device().rms_norm_backward(x.mat(), w.row(0), 1e-6f, dy.mat(), dx.mat());
        reference_.rms_norm_backward(x.mat(), w.row(0), 1e-6f, dy.mat(), expected.mat());
        for (std::size_t t = 0; t < rows; ++t) {
          double squares = 0.0, dot = 0.0;
          for (std::size_t i = 0; i < cols; ++i) {
            squares += double{x.row(t)[i]} * double{x.row(t)[i]};
            dot += std::fabs(double{w.row(0)[i]} * double{dy.row(t)[i]} * double{x.row(t)[i]});
          }
          const double n = static_cast<double>(cols), r = 1.0 / std::sqrt(squares / n + 1e-6);
          // One rounding for each addition in a row of both sums, and some more; of the terms' magnitudes.
          const double relative = (n / 8.0 + 10.0) * 0x1p-24;
          for (std::size_t i = 0; i < cols; ++i) {
            const double size = r * std::fabs(double{w.row(0)[i]} * double{dy.row(t)[i]}) +
                                std::fabs(double{x.row(t)[i]}) * r * r * r / n * dot;
            ASSERT_NEAR(dx.row(t)[i], expected.row(t)[i],
                        relative * (size + 0.1 * std::fabs(double{expected.row(t)[i]})))
                << rows << " " << cols << " " << scale;
          }
        }
        EXPECT_TRUE(dx.intact());
      }
    }
  }
}

}  // namespace
}  // namespace axon::cpu
