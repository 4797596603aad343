#pragma once
// Mat: a row-major matrix that someone else owns.

#include <cstddef>
#include <span>
#include <type_traits>

#include "base/error.h"

namespace axon {

// Four words, passed by value. `stride` is the distance between rows, in elements (>= cols).
template <class T>
struct Mat {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;

  Mat() = default;
  Mat(T* d, std::size_t r, std::size_t c) : data(d), rows(r), cols(c), stride(c) {}
  Mat(T* d, std::size_t r, std::size_t c, std::size_t s) : data(d), rows(r), cols(c), stride(s) {}

  T* row_ptr(std::size_t r) const {
    AXON_DCHECK(r < rows);
    return data + r * stride;
  }
  std::span<T> row(std::size_t r) const { return {row_ptr(r), cols}; }
  Mat rows_from(std::size_t first, std::size_t count) const {
    AXON_DCHECK(first + count <= rows);
    return {data + first * stride, count, cols, stride};
  }
  Mat cols_from(std::size_t first, std::size_t count) const {
    AXON_DCHECK(first + count <= cols);
    return {data + first, rows, count, stride};
  }
  operator Mat<const T>() const requires(!std::is_const_v<T>) { return {data, rows, cols, stride}; }
};

}  // namespace axon
