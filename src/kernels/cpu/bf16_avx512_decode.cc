// Weights as bf16, for AVX512-BF16. A code of up to five bits has at most 32 values in its group: they are computed and
// rounded once, and each code is a look-up among them.

#include "kernels/cpu/bf16_avx512.h"

#if defined(__x86_64__)

#include <algorithm>
#include <cstring>

namespace axon::cpu::bf16 {
namespace {

constexpr std::size_t kBytesMax = 128;  // of a group, a code each

// Element i of scales or biases, in all lanes.
AXON_BF16_INLINE __m512 parameter(DType dtype, const void* values, std::size_t i) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, static_cast<const unsigned char*>(values) + 4 * i, sizeof(value));
    return _mm512_set1_ps(value);
  }
  std::uint16_t bits;
  std::memcpy(&bits, static_cast<const unsigned char*>(values) + 2 * i, sizeof(bits));
  if (dtype == DType::kF16) return _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(bits)));
  return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(std::uint32_t{bits} << 16)));
}

AXON_BF16_INLINE __m512i round_pair(__m512 low, __m512 high) {
  const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
  __m512i bits;
  __builtin_memcpy(&bits, &both, sizeof(bits));
  return bits;
}

// The values of codes 0 to 31.
AXON_BF16_INLINE __m512i table_of_32(__m512 scale, __m512 bias) {
  const __m512 low = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512 high = _mm512_add_ps(low, _mm512_set1_ps(16.0f));
  return round_pair(_mm512_fmadd_ps(low, scale, bias), _mm512_fmadd_ps(high, scale, bias));
}
// The values of codes 0 to 15, twice: the fifth bit of an index says nothing.
AXON_BF16_INLINE __m512i table_of_16(__m512 scale, __m512 bias) {
  const __m512 codes = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512 values = _mm512_fmadd_ps(codes, scale, bias);
  return round_pair(values, values);
}

AXON_BF16_INLINE __m256i load_bytes(const std::uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// 32 codes of a byte each.
AXON_BF16_INLINE __m512i multiply(const std::uint8_t* codes, __m512 scale, __m512 bias) {
  const __m256i bytes = load_bytes(codes);
  const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(bytes)));
  const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(bytes, 1)));
  return round_pair(_mm512_fmadd_ps(low, scale, bias), _mm512_fmadd_ps(high, scale, bias));
}

template <class T>
AXON_BF16_INLINE std::uint64_t load(const unsigned char* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// 8 codes. In two loads: one of an odd number of bytes goes through memory.
template <std::size_t kBits>
AXON_BF16_INLINE std::uint64_t eight_codes(const unsigned char* p) {
  if constexpr (kBits == 2) return load<std::uint16_t>(p);
  if constexpr (kBits == 3) return load<std::uint16_t>(p) | load<std::uint8_t>(p + 2) << 16;
  if constexpr (kBits == 5) return load<std::uint32_t>(p) | load<std::uint8_t>(p + 4) << 32;
  return load<std::uint32_t>(p) | load<std::uint16_t>(p + 4) << 32;
}

template <std::size_t kBits>
AXON_BF16_INLINE void spread(const unsigned char* codes, std::size_t count, std::uint8_t* out) {
  constexpr std::uint64_t kMask = ((1u << kBits) - 1u) * 0x0101010101010101u;
  for (std::size_t k = 0; k < count; k += 8) {
    const std::uint64_t bytes = _pdep_u64(eight_codes<kBits>(codes + k / 8 * kBits), kMask);
    std::memcpy(out + k, &bytes, sizeof(bytes));
  }
}

// Codes as a byte each: where they lie, or in `buffer`.
AXON_BF16_INLINE const std::uint8_t* bytes_of(const unsigned char* codes, int bits, std::size_t count,
                                              std::uint8_t* buffer) {
  switch (bits) {
    case 2: spread<2>(codes, count, buffer); break;
    case 3: spread<3>(codes, count, buffer); break;
    case 5: spread<5>(codes, count, buffer); break;
    case 6: spread<6>(codes, count, buffer); break;
    default: return codes;
  }
  return buffer;
}

// Codes of a group, `bits` each, from `codes` on.
AXON_BF16_INLINE void decode_group(const unsigned char* codes, int bits, std::size_t count, __m512 scale, __m512 bias,
                                   std::uint16_t* out) {
  if (bits == 4) {
    const __m512i table = table_of_16(scale, bias);
    for (std::size_t k = 0; k < count; k += kLanes) {
      // Two codes a byte, two indices a word pair: b and b >> 4.
      const __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + k / 2)));
      const __m512i indices = _mm512_or_si512(b, _mm512_slli_epi32(b, 12));
      _mm512_storeu_si512(out + k, _mm512_permutexvar_epi16(indices, table));
    }
    return;
  }
  std::uint8_t buffer[kBytesMax];
  const std::uint8_t* bytes = bytes_of(codes, bits, count, buffer);
  if (bits < 6) {
    const __m512i table = table_of_32(scale, bias);
    for (std::size_t k = 0; k < count; k += kLanes) {
      _mm512_storeu_si512(out + k, _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(load_bytes(bytes + k)), table));
    }
  } else {
    for (std::size_t k = 0; k < count; k += kLanes) _mm512_storeu_si512(out + k, multiply(bytes + k, scale, bias));
  }
}

AXON_BF16_INLINE void decode_affine(const Weight& w, std::size_t r, std::size_t first, std::size_t count,
                                    std::uint16_t* out) {
  const auto group = static_cast<std::size_t>(w.affine.group_size);
  const auto bits = static_cast<std::size_t>(w.affine.bits);
  const auto* codes = static_cast<const unsigned char*>(w.data) + r * w.row_bytes();
  for (std::size_t k = first; k < first + count;) {
    const std::size_t g = k / group, last = std::min((g + 1) * group, first + count);
    const __m512 scale = parameter(w.affine.scale_dtype, w.affine.scales, r * w.groups() + g);
    const __m512 bias = parameter(w.affine.scale_dtype, w.affine.biases, r * w.groups() + g);
    decode_group(codes + k * bits / 8, w.affine.bits, last - k, scale, bias, out + (k - first));
    k = last;
  }
}

}  // namespace

AXON_BF16 void decode_row(const Weight& w, std::size_t r, std::size_t first, std::size_t count, std::uint16_t* out) {
  if (w.quantised()) return decode_affine(w, r, first, count, out);
  const auto* row = static_cast<const std::uint16_t*>(w.data) + r * w.cols + first;
  for (std::size_t k = 0; k < count; k += kLanes) {
    _mm512_storeu_si512(out + k, _mm512_maskz_loadu_epi16(first_lanes(count - k), row + k));
  }
}

}  // namespace axon::cpu::bf16

#endif
