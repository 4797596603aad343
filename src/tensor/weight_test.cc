#include "tensor/weight.h"

#include <gtest/gtest.h>

#include "tensor/mat.h"

namespace axon {
namespace {

TEST(Mat, RowsAndParts) {
  float data[24];
  for (int i = 0; i < 24; ++i) data[i] = static_cast<float>(i);
  const Mat<float> m(data, 3, 5, 8);
  EXPECT_EQ(m.row(1)[2], 10.0f);
  EXPECT_EQ(m.row(2).size(), 5u);
  const Mat<float> part = m.rows_from(1, 2).cols_from(3, 2);
  EXPECT_EQ(part.rows, 2u);
  EXPECT_EQ(part.cols, 2u);
  EXPECT_EQ(part.row(1)[1], 20.0f);
  const Mat<const float> view = part;
  EXPECT_EQ(view.data, part.data);
  EXPECT_EQ(view.stride, 8u);
}

TEST(Weight, PlainSizesAndSlices) {
  unsigned char data[6 * 10 * 2];
  Weight w;
  w.data = data;
  w.rows = 6;
  w.cols = 10;
  w.dtype = DType::kBF16;
  EXPECT_FALSE(w.quantised());
  EXPECT_EQ(w.row_bytes(), 20u);
  EXPECT_EQ(w.bytes(), 120_B);
  const Weight part = w.slice(2, 3);
  EXPECT_EQ(part.data, data + 40);
  EXPECT_EQ(part.rows, 3u);
  EXPECT_EQ(part.affine.scales, nullptr);
}

TEST(Weight, QuantisedSizesAndSlices) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    unsigned char codes[4 * 128], scales[16], biases[16];
    Weight w{codes, 4, 128, DType::kU32, {bits, 64, DType::kBF16, scales, biases}};
    EXPECT_EQ(w.groups(), 2u);
    EXPECT_EQ(w.row_bytes(), static_cast<std::size_t>(bits) * 16);
    EXPECT_EQ(w.bytes().count, 4 * w.row_bytes() + 2u * 4 * 2 * 2);
    const Weight first = w.slice(0, 1);
    EXPECT_EQ(first.bytes().count * 4, w.bytes().count);
    Weight empty = w;
    empty.data = nullptr;
    EXPECT_EQ(empty.slice(3, 1).data, nullptr);  // while planning there are no bytes
  }
  unsigned char codes[4 * 64], scales[16], biases[16];
  const Weight w{codes, 4, 128, DType::kU32, {4, 64, DType::kF16, scales, biases}};
  const Weight part = w.slice(3, 1);
  EXPECT_EQ(part.data, codes + 192);
  EXPECT_EQ(part.affine.scales, scales + 12);
  EXPECT_EQ(part.affine.biases, biases + 12);
}

}  // namespace
}  // namespace axon
