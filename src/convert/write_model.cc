#include "convert/write_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "io/safetensors.h"
#include "quant/affine.h"

namespace axon {
namespace {

constexpr std::uint64_t kBlockBytes = 2u << 20;  // of output; large enough that threads and disk have work

std::array<std::uint64_t, 3> row_bytes(const OutputTensor& t) { return matrix_bytes(1, t.cols(), t.dtype, t.affine); }

std::uint64_t block_rows(const OutputTensor& t) {
  const std::uint64_t rows = kBlockBytes / std::max<std::uint64_t>(1, row_bytes(t)[0]);
  return std::clamp(rows / t.rows_together * t.rows_together, t.rows_together, t.rows());
}

struct Buffers {
  std::span<float> rows;                      // for each thread, rows that are made together
  std::array<std::span<std::byte>, 3> block;  // values or codes, scales, biases of a block of rows
};

Buffers carve_buffers(std::span<const OutputTensor> tensors, std::size_t threads, Carver& carver) {
  std::uint64_t values = 0;
  std::array<std::uint64_t, 3> block{};
  for (const OutputTensor& t : tensors) {
    values = std::max(values, t.rows_together * t.cols());
    for (std::size_t p = 0; p < 3; ++p) block[p] = std::max(block[p], block_rows(t) * row_bytes(t)[p]);
  }
  Buffers buffers;
  buffers.rows = carver.span<float>(values * threads);
  for (std::size_t p = 0; p < 3; ++p) buffers.block[p] = carver.span<std::byte>(block[p]);
  return buffers;
}

// The parts of a tensor as named tensors of the file, in an order that leaves each one aligned: what is a multiple of
// 64 bytes first, then of 4, then the rest (the format allows no padding between tensors).
struct Part {
  std::size_t tensor, part;
  std::uint64_t bytes;
};

std::vector<Part> file_order(std::span<const OutputTensor> tensors) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto bytes = row_bytes(tensors[i]);
    for (std::size_t p = 0; p < 3; ++p) {
      if (bytes[p] != 0) parts.push_back({i, p, bytes[p] * tensors[i].rows()});
    }
  }
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    const auto rank = [](std::uint64_t n) { return n % 64 == 0 ? 0 : n % 4 == 0 ? 1 : 2; };
    return rank(a.bytes) < rank(b.bytes);
  });
  return parts;
}

TensorHeader header_of(const OutputTensor& t, std::size_t part) {
  std::vector<std::uint64_t> dims(t.spec.shape.dims().begin(), t.spec.shape.dims().end());
  if (t.affine.bits == 0) return {t.spec.full_name(), t.dtype, t.spec.shape};
  const auto bits = static_cast<std::uint64_t>(t.affine.bits), group = static_cast<std::uint64_t>(t.affine.group_size);
  dims.back() = part == 0 ? dims.back() * bits / 32 : dims.back() / group;
  const char* suffix[] = {".weight", ".scales", ".biases"};
  Result<Shape> shape = Shape::create(dims);  // smaller than the shape it came from
  AXON_CHECK(shape.ok());
  return {t.spec.name + suffix[part], part == 0 ? DType::kU32 : t.affine.scale_dtype, shape.value()};
}

void encode(const OutputTensor& t, std::span<const float> row, const std::array<std::byte*, 3>& out) {
  if (t.affine.bits != 0) {
    affine::encode_row(row, t.affine.bits, t.affine.group_size, t.affine.scale_dtype, out[0], out[1], out[2]);
    return;
  }
  for (std::size_t i = 0; i < row.size(); ++i) store_float(t.dtype, out[0], i, row[i]);
}

// Rows `r` to r + rows_together of the tensor, to rows `at` and on of the block.
void make_rows(const OutputTensor& t, const RowSource& source, std::uint64_t r, std::uint64_t at,
               std::span<float> scratch, const Buffers& buffers) {
  const auto bytes = row_bytes(t);
  const auto row_of_block = [&](std::uint64_t i) {
    std::array<std::byte*, 3> to{};
    for (std::size_t p = 0; p < 3; ++p) to[p] = buffers.block[p].data() + i * bytes[p];
    return to;
  };
  if (source.as_written(t, r)[0] == nullptr) {
    source.read(t, r, scratch);
    for (std::uint64_t i = 0; i < t.rows_together; ++i) {
      encode(t, scratch.subspan(i * t.cols(), t.cols()), row_of_block(at + i));
    }
    return;
  }
  for (std::uint64_t i = 0; i < t.rows_together; ++i) {
    const auto from = source.as_written(t, r + i);
    const auto to = row_of_block(at + i);
    for (std::size_t p = 0; p < 3; ++p) {
      if (bytes[p] != 0) std::memcpy(to[p], from[p], bytes[p]);
    }
  }
}

bool all_finite(DType dtype, std::span<const std::byte> values) {
  for (std::size_t i = 0; i < values.size() / size_of(dtype); ++i) {
    if (!std::isfinite(load_float(dtype, values.data(), i))) return false;
  }
  return true;
}

}  // namespace

std::vector<TensorHeader> file_headers(std::span<const OutputTensor> tensors) {
  std::vector<TensorHeader> headers;
  for (const Part& part : file_order(tensors)) headers.push_back(header_of(tensors[part.tensor], part.part));
  return headers;
}

Bytes write_model_buffers(std::span<const OutputTensor> tensors, std::size_t threads) {
  Carver carver;
  carve_buffers(tensors, threads, carver);
  return carver.peak();
}

Bytes written_bytes(std::span<const OutputTensor> tensors) {
  Bytes total;
  for (const Part& part : file_order(tensors)) total += Bytes{part.bytes};
  return total;
}

Status write_model(const std::string& path, std::span<const OutputTensor> tensors, const RowSource& source,
                   Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
  const Arena arena = AXON_TRY(Arena::create(ledger, account::kConversion, write_model_buffers(tensors, pool.size())));
  Carver carver = arena.carver();
  const Buffers buffers = carve_buffers(tensors, pool.size(), carver);

  std::vector<std::array<std::size_t, 3>> index(tensors.size());  // of each part in the file
  std::size_t parts = 0;
  for (const Part& part : file_order(tensors)) index[part.tensor][part.part] = parts++;
  SafetensorsWriter writer = AXON_TRY(SafetensorsWriter::create(path, file_headers(tensors), {{"format", "mlx"}}));

  const Bytes total = written_bytes(tensors);
  Bytes done;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const OutputTensor& t = tensors[i];
    AXON_CHECK(t.rows() % t.rows_together == 0);
    const auto bytes = row_bytes(t);
    for (std::uint64_t first = 0; first < t.rows(); first += block_rows(t)) {
      const std::uint64_t count = std::min(block_rows(t), t.rows() - first);
      pool.split(count / t.rows_together, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
        const std::size_t values = t.rows_together * t.cols();
        const std::span<float> scratch = buffers.rows.subspan(thread * values, values);
        for (std::size_t r = begin * t.rows_together; r < end * t.rows_together; r += t.rows_together) {
          make_rows(t, source, first + r, r, scratch, buffers);
        }
      });
      for (std::size_t p = 0; p < 3; ++p) {
        if (bytes[p] == 0) continue;
        const auto block = buffers.block[p].first(count * bytes[p]);
        if (t.affine.bits == 0 ? !all_finite(t.dtype, block) : p > 0 && !all_finite(t.affine.scale_dtype, block)) {
          return make_error(ErrorCode::kInvalidArgument, "tensor {}: rows {} to {} have values outside the range of {}",
                            t.spec.full_name(), first, first + count - 1,
                            name_of(t.affine.bits == 0 ? t.dtype : t.affine.scale_dtype));
        }
        AXON_TRY(writer.write_at(index[i][p], first * bytes[p], block));
        done += Bytes{block.size()};
      }
      source.passed(t, first + count);
      if (!progress(done, total)) return Error{ErrorCode::kCancelled, "interrupted; nothing was written"};
    }
  }
  return writer.finish();
}

}  // namespace axon
