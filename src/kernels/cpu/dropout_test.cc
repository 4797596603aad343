#include "kernels/cpu/dropout.h"

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class DropoutTest : public EachLevel {};
AXON_EACH_LEVEL(DropoutTest);

TEST_P(DropoutTest, KeepsWhatTheReferenceKeeps) {
  for (const float p : {0.0f, 0.05f, 0.1f, 0.5f, 0.999f}) {
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{1} << 40}) {
      for (const std::size_t cols : {1u, 7u, 64u, 333u}) {
        const Dropout dropout{.seed = 42, .stream = 7, .first = first, .p = p};
        Matrix x = Matrix::normal(20, cols, 1), y(20, cols), expected(20, cols);
        device().dropout(dropout, x.mat(), y.mat(), false);
        reference_.dropout(dropout, x.mat(), expected.mat(), false);
        // A zero is allowed nothing. 1 / (1 - p) is rounded, and the product.
        EXPECT_TRUE(close(y.mat(), expected.mat(), 0.0, 0x1p-23)) << p << " " << cols;
        EXPECT_TRUE(y.intact());
      }
    }
  }
}

TEST_P(DropoutTest, AddsAndReplaces) {
  const Dropout dropout{.seed = 1, .stream = 2, .first = 3, .p = 0.3f};
  Matrix x = Matrix::normal(9, 50, 1), y = Matrix::normal(9, 50, 2), expected = y;
  device().dropout(dropout, x.mat(), y.mat(), true);
  reference_.dropout(dropout, x.mat(), expected.mat(), true);
  EXPECT_TRUE(close(y.mat(), expected.mat(), 16.0 * 0x1p-24, 0.0));
  Matrix apart(9, 50);
  device().dropout(dropout, x.mat(), apart.mat(), false);
  device().dropout(dropout, x.mat(), x.mat(), false);
  EXPECT_TRUE(close(x.mat(), apart.mat(), 0.0, 0.0));
}

}  // namespace
}  // namespace axon::cpu
