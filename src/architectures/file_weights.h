#pragma once
// What a model's files hold, from their headers alone: bytes by type, as they would lie in memory when kept as stored.

#include <cstdint>
#include <string>
#include <vector>

#include "architectures/architecture.h"
#include "base/bytes.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace axon {

struct FileWeights {
  struct Type {
    std::string name;  // as the format calls it: "BF16", "U32", "Q4_K"
    std::uint64_t tensors = 0, elements = 0;
    Bytes bytes;
  };
  std::string format;  // "safetensors" or "gguf"
  std::size_t files = 0;
  std::vector<Type> types;  // largest first
  std::uint64_t tensors() const;
  std::uint64_t elements() const;  // as stored: packed codes count as the integers that hold them
  Bytes bytes() const;
  bool packed = false;  // some tensors hold several weights in one element (U32, U8, I32 codes): elements() says less
};

FileWeights file_weights(const Safetensors& file);
FileWeights file_weights(const Gguf& file);

// Tensors and layers of a GGUF file: the tensors are those of the file, the layers follow from its metadata.
// kUnsupported names a general.architecture that is unknown, kInvalidArgument a key that is missing or absurd.
Result<Architecture> gguf_architecture(const Gguf& file, std::string_view what);

}  // namespace axon
