#include "io/gguf_types.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"

namespace axon {
namespace {

// Ids: enum ggml_type in ggml.h (31 to 33 and 36 to 38 were withdrawn). Sizes: the block structs of ggml-common.h,
// field by field; gguf-py's GGML_QUANT_SIZES says the same but for Q8_1, where it still has 40 from when the scales
// were floats.
constexpr std::array kTypes = {
    GgmlType{0, "F32", 1, 4},
    GgmlType{1, "F16", 1, 2},
    GgmlType{2, "Q4_0", 32, 2 + 16},
    GgmlType{3, "Q4_1", 32, 2 + 2 + 16},
    GgmlType{6, "Q5_0", 32, 2 + 4 + 16},
    GgmlType{7, "Q5_1", 32, 2 + 2 + 4 + 16},
    GgmlType{8, "Q8_0", 32, 2 + 32},
    GgmlType{9, "Q8_1", 32, 2 + 2 + 32},
    GgmlType{10, "Q2_K", 256, 2 + 2 + 16 + 64},
    GgmlType{11, "Q3_K", 256, 2 + 12 + 32 + 64},
    GgmlType{12, "Q4_K", 256, 2 + 2 + 12 + 128},
    GgmlType{13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128},
    GgmlType{14, "Q6_K", 256, 2 + 16 + 64 + 128},
    GgmlType{15, "Q8_K", 256, 4 + 32 + 256},
    GgmlType{16, "IQ2_XXS", 256, 2 + 64},
    GgmlType{17, "IQ2_XS", 256, 2 + 8 + 64},
    GgmlType{18, "IQ3_XXS", 256, 2 + 32 + 64},
    GgmlType{19, "IQ1_S", 256, 2 + 16 + 32},
    GgmlType{20, "IQ4_NL", 32, 2 + 16},
    GgmlType{21, "IQ3_S", 256, 2 + 4 + 8 + 32 + 64},
    GgmlType{22, "IQ2_S", 256, 2 + 8 + 8 + 64},
    GgmlType{23, "IQ4_XS", 256, 2 + 2 + 4 + 128},
    GgmlType{24, "I8", 1, 1},
    GgmlType{25, "I16", 1, 2},
    GgmlType{26, "I32", 1, 4},
    GgmlType{27, "I64", 1, 8},
    GgmlType{28, "F64", 1, 8},
    GgmlType{29, "IQ1_M", 256, 8 + 16 + 32},
    GgmlType{30, "BF16", 1, 2},
    GgmlType{34, "TQ1_0", 256, 2 + 4 + 48},
    GgmlType{35, "TQ2_0", 256, 2 + 64},
    GgmlType{39, "MXFP4", 32, 1 + 16},
    GgmlType{40, "NVFP4", 64, 4 + 32},
    GgmlType{41, "Q1_0", 128, 2 + 16},
    GgmlType{42, "Q2_0", 64, 2 + 16},
};

static_assert(std::is_sorted(kTypes.begin(), kTypes.end(), [](const auto& a, const auto& b) { return a.id < b.id; }));

}  // namespace

std::optional<std::uint64_t> GgmlType::bytes(std::uint64_t values) const {
  if (values % block_values != 0) return std::nullopt;
  return checked_mul(values / block_values, block_bytes);
}

std::span<const GgmlType> ggml_types() { return kTypes; }

const GgmlType* ggml_type(std::uint32_t id) {
  const auto* at =
      std::lower_bound(kTypes.begin(), kTypes.end(), id, [](const GgmlType& type, auto key) { return type.id < key; });
  return at != kTypes.end() && at->id == id ? at : nullptr;
}

const GgmlType* ggml_type(std::string_view name) {
  const auto* at = std::find_if(kTypes.begin(), kTypes.end(), [&](const GgmlType& type) { return type.name == name; });
  return at == kTypes.end() ? nullptr : at;
}

}  // namespace axon
