#pragma once
// From names in a file to weights: finds each tensor of the list, checks it, and says in which form it is stored.

#include <array>
#include <set>

#include "model/tensors.h"
#include "model/weight_format.h"

namespace axon {

// A tensor of the list as the file holds it. Views into the mapping, at any alignment.
struct StoredTensor {
  DType dtype = DType::kF32;                          // of the values; kU32 when quantised
  Affine affine{};                                    // bits != 0: quantised; its pointers stay null
  std::array<std::span<const std::byte>, 3> parts{};  // values or codes, scales, biases
  const MappedFile* file = nullptr;
  bool aligned = false;  // every part can be read in place
  // The matrix as a Weight over the mapping. Kernels may read it only when `aligned`; affine::decode_row always may.
  Weight weight(std::uint64_t rows, std::uint64_t cols) const;
  // Whether it is stored in this very form.
  bool has_form(DType other, const Affine& form) const;
};

// The tensor of `spec`; kCorrupt names it, what was expected and what came. An absent optional tensor has no parts.
// Adds the names that it used to `used`.
Result<StoredTensor> find_stored(const TensorSpec& spec, const Safetensors& file,
                                 std::set<std::string, std::less<>>& used);

// kCorrupt for the first tensor of the file that is not in `used`.
Status check_all_used(const Safetensors& file, const std::set<std::string, std::less<>>& used);

// kCorrupt when a value (or, in a quantised tensor, a scale or bias) is NaN or infinite; names tensor and element.
// Without `keep_pages`, what was looked at leaves memory again at once.
Status check_finite(const TensorSpec& spec, const StoredTensor& stored, bool keep_pages);

// The bytes of a matrix [rows, cols] in a form: codes or values, scales, biases.
std::array<std::uint64_t, 3> matrix_bytes(std::uint64_t rows, std::uint64_t cols, DType dtype, const Affine& affine);

// The form that `want` gives a matrix: routers, and rows that do not divide into groups, keep theirs when the wish is
// affine. `dtype` and `affine` (without pointers) come in as stored.
void apply_format(const TensorSpec& spec, const WeightFormat& want, DType& dtype, Affine& affine);

}  // namespace axon
