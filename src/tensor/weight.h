#pragma once
// Weight: a matrix of weights in the precision in which it is stored. A view: file mapping or arena owns the bytes.

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/error.h"
#include "tensor/dtype.h"

namespace axon {

// Affine groups, as MLX writes them (quant/affine.h): value = code * scale + bias, one scale and bias for
// `group_size` consecutive columns of a row. `codes` are packed LSB first, cols*bits/8 bytes a row.
struct Affine {
  int bits = 0;        // 2, 3, 4, 5, 6 or 8; 0: not quantised
  int group_size = 0;  // 32, 64 or 128; divides cols
  DType scale_dtype = DType::kF32;
  const void* scales = nullptr;  // [rows, cols/group_size]
  const void* biases = nullptr;  // [rows, cols/group_size]
};

struct Weight {
  const void* data = nullptr;  // float elements [rows, cols], or packed codes [rows, cols*bits/8 bytes]
  std::size_t rows = 0;
  std::size_t cols = 0;
  DType dtype = DType::kF32;  // of `data`; kU32 when quantised
  Affine affine{};

  bool quantised() const { return affine.bits != 0; }
  std::size_t groups() const { return cols / static_cast<std::size_t>(affine.group_size); }
  // Bytes of one row of `data`.
  std::size_t row_bytes() const {
    return quantised() ? cols * static_cast<std::size_t>(affine.bits) / 8 : cols * size_of(dtype);
  }
  Bytes bytes() const {
    const std::uint64_t codes = std::uint64_t{rows} * row_bytes();
    return {quantised() ? codes + 2 * std::uint64_t{rows} * groups() * size_of(affine.scale_dtype) : codes};
  }
  // Rows [first, first + count), e.g. one expert of a stack.
  Weight slice(std::size_t first, std::size_t count) const {
    AXON_DCHECK(first + count <= rows);
    Weight out = *this;
    const auto at = [](const void* p, std::size_t offset) -> const void* {
      return p == nullptr ? nullptr : static_cast<const unsigned char*>(p) + offset;
    };
    out.rows = count;
    out.data = at(data, first * row_bytes());
    if (quantised()) {
      const std::size_t step = groups() * size_of(affine.scale_dtype);
      out.affine.scales = at(affine.scales, first * step);
      out.affine.biases = at(affine.biases, first * step);
    }
    return out;
  }
};

}  // namespace axon
