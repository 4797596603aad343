#pragma once
// Element types of stored tensors, and the exact conversions between them (scalar; kernels have their own).

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace axon {

// All that safetensors files hold. We compute with kF32, kF16, kBF16 and packed kU32 codes; the rest can be planned
// from.
enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF64,
  kBool,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF6E2M3,
  kF6E3M2,
  kF4,
  kC64
};

// Of one element. F4 and F6 are packed without gaps: a tensor of them must fill whole bytes.
constexpr std::size_t bits_of(DType t) {
  switch (t) {
    case DType::kF4: return 4;
    case DType::kF6E2M3:
    case DType::kF6E3M2: return 6;
    case DType::kU8:
    case DType::kI8:
    case DType::kBool:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kF8E8M0:
    case DType::kF8E4M3Fnuz:
    case DType::kF8E5M2Fnuz: return 8;
    case DType::kF16:
    case DType::kBF16:
    case DType::kU16:
    case DType::kI16: return 16;
    case DType::kF32:
    case DType::kU32:
    case DType::kI32: return 32;
    case DType::kU64:
    case DType::kI64:
    case DType::kF64:
    case DType::kC64: return 64;
  }
  return 0;
}

// Bytes of one element; 0 for F4 and F6, which have no whole number of them.
constexpr std::size_t size_of(DType t) { return bits_of(t) / 8; }

// Bytes of `elements`; no value when they do not fill whole bytes, or take more than 2^64.
constexpr std::optional<std::uint64_t> packed_bytes(DType t, std::uint64_t elements) {
  const std::uint64_t bits = bits_of(t);
  const std::uint64_t whole = elements / 8, rest = elements % 8 * bits;  // eight elements take `bits` bytes
  if (rest % 8 != 0 || whole > (~std::uint64_t{0} - rest / 8) / bits) return std::nullopt;
  return whole * bits + rest / 8;
}

// The names that safetensors uses.
constexpr std::string_view name_of(DType t) {
  switch (t) {
    case DType::kF32: return "F32";
    case DType::kF16: return "F16";
    case DType::kBF16: return "BF16";
    case DType::kU8: return "U8";
    case DType::kI8: return "I8";
    case DType::kU16: return "U16";
    case DType::kI16: return "I16";
    case DType::kU32: return "U32";
    case DType::kI32: return "I32";
    case DType::kU64: return "U64";
    case DType::kI64: return "I64";
    case DType::kF64: return "F64";
    case DType::kBool: return "BOOL";
    case DType::kF8E4M3: return "F8_E4M3";
    case DType::kF8E5M2: return "F8_E5M2";
    case DType::kF8E8M0: return "F8_E8M0";
    case DType::kF8E4M3Fnuz: return "F8_E4M3FNUZ";
    case DType::kF8E5M2Fnuz: return "F8_E5M2FNUZ";
    case DType::kF6E2M3: return "F6_E2M3";
    case DType::kF6E3M2: return "F6_E3M2";
    case DType::kF4: return "F4";
    case DType::kC64: return "C64";
  }
  return "?";
}

inline std::optional<DType> dtype_from_name(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(DType::kC64); ++i) {
    if (name_of(static_cast<DType>(i)) == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

constexpr bool is_float(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

inline float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

// Round to nearest even; a NaN stays a NaN.
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

inline float f16_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu;
  const std::uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: value = mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

// Round to nearest even; overflow becomes infinity, as IEEE 754 asks.
inline std::uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<std::uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return static_cast<std::uint16_t>(sign | 0x7C00u);  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal, in units of 2^-24; the sum rounds to even for us
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(scaled)));
  }
  const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

// Element `i` of an array of t (a float type), at any alignment.
inline float load_float(DType t, const void* data, std::size_t i) {
  const auto* p = static_cast<const unsigned char*>(data);
  if (t == DType::kF32) {
    float v;
    __builtin_memcpy(&v, p + 4 * i, 4);
    return v;
  }
  std::uint16_t h;
  __builtin_memcpy(&h, p + 2 * i, 2);
  return t == DType::kF16 ? f16_to_float(h) : bf16_to_float(h);
}

inline void store_float(DType t, void* data, std::size_t i, float value) {
  auto* p = static_cast<unsigned char*>(data);
  if (t == DType::kF32) {
    __builtin_memcpy(p + 4 * i, &value, 4);
    return;
  }
  const std::uint16_t h = t == DType::kF16 ? float_to_f16(value) : float_to_bf16(value);
  __builtin_memcpy(p + 2 * i, &h, 2);
}

}  // namespace axon
