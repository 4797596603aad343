#pragma once
// Writing a model's tensors row by row: the one road for quantize (rows from a file) and init (rows from a generator).
// Memory is a few rows a thread and one block of output, whatever the size of the model.

#include <array>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "memory/arena.h"
#include "model/stored.h"

namespace axon {

// A tensor to be written and its form.
struct OutputTensor {
  TensorSpec spec;
  DType dtype = DType::kBF16;
  Affine affine{};  // bits != 0: quantised
  // Rows that can only be made together, a head's when it is rotated. Divides rows().
  std::uint64_t rows_together = 1;

  // As it is worked through: matrices by their rows, anything else by its first dimension.
  std::uint64_t rows() const { return spec.is_matrix() ? spec.rows() : spec.shape[0]; }
  std::uint64_t cols() const { return spec.shape.elements() / rows(); }
};

// Where rows come from.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // Rows `first` to first + rows_together as float32. Called from several threads at once, like what follows.
  virtual void read(const OutputTensor& tensor, std::uint64_t first, std::span<float> rows) const = 0;
  // Values or codes, scales, biases of row `r`, where the source has them in the very form that is to be written: codes
  // that were decoded and encoded again would not be the same. Null where it has not.
  virtual std::array<const std::byte*, 3> as_written(const OutputTensor&, std::uint64_t) const { return {}; }
  // Rows below `rows` of this tensor, and all tensors before it, will not be asked for again.
  virtual void passed(const OutputTensor& tensor, std::uint64_t rows) const = 0;
};
// Called after each block; false stops (kCancelled).
using WriteProgress = std::function<bool(Bytes done, Bytes total)>;

// The buffers that write_model will reserve under the account "conversion".
Bytes write_model_buffers(std::span<const OutputTensor> tensors, std::size_t threads);
// The tensors of the file in their order in it.
std::vector<TensorHeader> file_headers(std::span<const OutputTensor> tensors);
// The size of the file's data section.
Bytes written_bytes(std::span<const OutputTensor> tensors);

// Writes `path` (a new file, which appears when it is whole). kInvalidArgument names a tensor whose values leave the
// range of the scale's type.
Status write_model(const std::string& path, std::span<const OutputTensor> tensors, const RowSource& source,
                   Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress);

}  // namespace axon
