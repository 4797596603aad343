#include "kernels/cpu/embed.h"

#include <cstring>

#include "tensor/dtype.h"

namespace axon::cpu {
namespace {

// Eight codes are `bits` bytes, whatever `bits` is, and never cross a group.
void decode_affine_row(const Weight& w, std::size_t r, float* out) {
  const auto bits = static_cast<std::size_t>(w.affine.bits);
  const auto group = static_cast<std::size_t>(w.affine.group_size);
  const auto* codes = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  for (std::size_t g = 0; g < w.groups(); ++g) {
    const float scale = load_float(w.affine.scale_dtype, w.affine.scales, r * w.groups() + g);
    const float bias = load_float(w.affine.scale_dtype, w.affine.biases, r * w.groups() + g);
    for (std::size_t i = 0; i < group; i += 8, codes += bits) {
      std::uint64_t word = 0;
      std::memcpy(&word, codes, bits);
      for (std::size_t j = 0; j < 8; ++j) {
        *out++ = static_cast<float>(static_cast<std::uint32_t>((word >> (bits * j)) & mask)) * scale + bias;
      }
    }
  }
}

void decode_float_row(const Weight& w, std::size_t r, float* out) {
  const auto* row = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  if (w.dtype == DType::kF32) {
    std::memcpy(out, row, w.row_bytes());
    return;
  }
  for (std::size_t i = 0; i < w.cols; ++i) out[i] = load_float(w.dtype, row, i);
}

}  // namespace

void embed(ThreadPool& pool, const Weight& table, std::span<const std::uint32_t> ids, Mat<float> y) {
  AXON_DCHECK(y.rows == ids.size() && y.cols == table.cols);
  pool.split(ids.size(), 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      AXON_DCHECK(ids[t] < table.rows);
      if (table.quantised()) {
        decode_affine_row(table, ids[t], y.row_ptr(t));
      } else {
        decode_float_row(table, ids[t], y.row_ptr(t));
      }
    }
  });
}

}  // namespace axon::cpu
