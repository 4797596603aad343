#include "kernels/cpu/columns.h"

#include "kernels/cpu/cpu_device_testing.h"

namespace axon::cpu {
namespace {

class ColumnsTest : public EachLevel {};
AXON_EACH_LEVEL(ColumnsTest);

TEST_P(ColumnsTest, ScaleAgreesWithReference) {
  for (const std::size_t cols : {1u, 7u, 16u, 130u, 333u}) {
    for (const bool add : {false, true}) {
      Matrix x = Matrix::normal(20, cols, 1), scale = Matrix::normal(1, cols, 2), y = Matrix::normal(20, cols, 3);
      Matrix expected = y, over = x;
      device().scale_columns(x.mat(), scale.row(0), y.mat(), add);
      reference_.scale_columns(x.mat(), scale.row(0), expected.mat(), add);
      // Two roundings, of no more than the terms.
      const double size = double{x.largest()} * double{scale.largest()} + 5.0;
      EXPECT_TRUE(close(y.mat(), expected.mat(), size * 0x1p-23, 0.0));
      EXPECT_TRUE(y.intact());
      expected = over;
      device().scale_columns(over.mat(), scale.row(0), over.mat(), add);
      reference_.scale_columns(expected.mat(), scale.row(0), expected.mat(), add);
      EXPECT_TRUE(close(over.mat(), expected.mat(), size * 0x1p-23, 0.0));
    }
  }
}

TEST_P(ColumnsTest, DotsAgreeWithReference) {
  for (const std::size_t cols : {1u, 7u, 16u, 130u, 333u, 600u}) {
    for (const std::size_t rows : {1u, 2u, 150u}) {
      Matrix a = Matrix::normal(rows, cols, 1), b = Matrix::normal(rows, cols, 2), g = Matrix::normal(1, cols, 3);
      Matrix expected = g;
      device().add_column_dots(a.mat(), b.mat(), g.row(0));
      reference_.add_column_dots(a.mat(), b.mat(), expected.row(0));
      // Two roundings a term, each of no more than the sum of all.
      const double n = static_cast<double>(rows), size = n * double{a.largest()} * double{b.largest()} + 5.0;
      EXPECT_TRUE(close(g.mat(), expected.mat(), 2.0 * std::sqrt(n) * size * 0x1p-24, 0.0)) << rows << " " << cols;
      EXPECT_TRUE(g.intact());
    }
  }
}

TEST_P(ColumnsTest, DotsOfNothingAddNothing) {
  Matrix a(0, 40), g = Matrix::normal(1, 40, 3), before = g;
  device().add_column_dots(a.mat(), a.mat(), g.row(0));
  EXPECT_TRUE(close(g.mat(), before.mat(), 0.0, 0.0));
}

}  // namespace
}  // namespace axon::cpu
