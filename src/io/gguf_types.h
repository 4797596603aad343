#pragma once
// The tensor types of GGUF files: how many values share a block, and how many bytes it takes.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace axon {

// One of ggml's types, as ggml.h numbers them and ggml-common.h lays them out.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;  // as ggml prints it: "F16", "Q4_K", "MXFP4"
  std::uint32_t block_values;
  std::uint32_t block_bytes;

  // With scales and all: 4.5 for Q4_K.
  constexpr double bits_per_weight() const {
    return static_cast<double>(block_bytes) * 8 / static_cast<double>(block_values);
  }
  // Bytes of `values` values, which must be whole blocks; no value when they are not, or beyond 64 bits.
  std::optional<std::uint64_t> bytes(std::uint64_t values) const;
};

// In the order of their ids.
std::span<const GgmlType> ggml_types();
// Null when there is no such type (any more).
const GgmlType* ggml_type(std::uint32_t id);
const GgmlType* ggml_type(std::string_view name);

}  // namespace axon
