#include "architectures/file_weights.h"

#include <algorithm>

namespace axon {
namespace {

void add(FileWeights& weights, std::string_view type, std::uint64_t elements, std::uint64_t bytes) {
  auto found = std::find_if(weights.types.begin(), weights.types.end(), [&](const auto& t) { return t.name == type; });
  if (found == weights.types.end()) {
    weights.types.emplace_back().name = type;
    found = weights.types.end() - 1;
  }
  ++found->tensors;
  found->elements += elements;
  found->bytes += Bytes{bytes};
}

void sort_types(FileWeights& weights) {
  std::sort(weights.types.begin(), weights.types.end(),
            [](const auto& a, const auto& b) { return a.bytes != b.bytes ? a.bytes > b.bytes : a.name < b.name; });
}

// Whole numbers in two dimensions or more are codes: of affine groups (MLX), GPTQ and AWQ, bitsandbytes, MXFP4. Vectors
// of them are positions and the like, and I8 holds one weight a byte.
bool holds_codes(const TensorView& tensor) {
  const bool whole = tensor.dtype == DType::kU32 || tensor.dtype == DType::kI32 || tensor.dtype == DType::kU8;
  return whole && tensor.shape.rank() >= 2;
}

}  // namespace

std::uint64_t FileWeights::tensors() const {
  std::uint64_t sum = 0;
  for (const Type& type : types) sum += type.tensors;
  return sum;
}

std::uint64_t FileWeights::elements() const {
  std::uint64_t sum = 0;
  for (const Type& type : types) sum += type.elements;
  return sum;
}

Bytes FileWeights::bytes() const {
  Bytes sum;
  for (const Type& type : types) sum += type.bytes;
  return sum;
}

FileWeights file_weights(const Safetensors& file) {
  FileWeights out;
  out.format = "safetensors";
  out.files = file.paths().size();
  for (const auto& [name, tensor] : file.tensors()) {
    add(out, name_of(tensor.dtype), tensor.shape.elements(), tensor.bytes.size());
    out.packed = out.packed || holds_codes(tensor);
  }
  sort_types(out);
  return out;
}

FileWeights file_weights(const Gguf& file) {
  FileWeights out;
  out.format = "gguf";
  out.files = file.paths().size();
  for (const GgufTensor& tensor : file.tensors()) {
    add(out, tensor.type->name, tensor.elements(), tensor.bytes.size());
  }
  sort_types(out);
  return out;
}

}  // namespace axon
