// Decoding for AVX-512 with VBMI. Only coded_avx512*.cc include it.
#pragma once

#include <array>

#include "kernels/cpu/coded_portable.h"

#if defined(__x86_64__)

// GCC 12 takes its own undefined registers in this header for a mistake (bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#define AXON_AVX512 __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))
#define AXON_AVX512_INLINE static inline AXON_AVX512 __attribute__((always_inline, unused))
#if defined(__clang__)
#define AXON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AXON_UNROLL _Pragma("GCC unroll 16")
#endif

namespace axon::cpu::coded {

// Kernels::factors and Kernels::weigh.
void factors_avx512(turboquant::ScaleKind kind, const std::uint8_t* scales, float power, float step,
                    std::span<float> out);
void weigh_avx512(CodedRegions values, Mat<const float> weights, Weights* out);

constexpr std::size_t kLanes = turboquant::kGroupTokens;  // tokens in a register
constexpr std::size_t kLane = 16;                         // their elements

// What a kernel is made for: a code, or 0 for int8.
constexpr int kInt8 = 0;
constexpr bool is_trellis(int code) { return code >= 20; }
constexpr unsigned bits_x2(int code) {
  return static_cast<unsigned>(turboquant::bits_x2(static_cast<turboquant::Code>(code)));
}
constexpr unsigned low_bits(int code) { return code == 3 ? 2 : static_cast<unsigned>(code); }

struct Bytes64 {
  alignas(64) std::uint8_t byte[64];
};

// Where each element's 8 bits begin in its qword. Trellis: qwords begin a byte before the 16 elements, or, with rates
// of 4 bits, each half with the byte before its 8. In the first ones of a vector that byte is its last, and lies on top
// of the qword, where a rotation finds it.
template <int kCode>
constexpr Bytes64 shifts(bool first) {
  Bytes64 out{};
  for (unsigned b = 0; b < 64; ++b) {
    const unsigned i = b % kLane;
    unsigned shift = low_bits(kCode) * i;
    if (is_trellis(kCode)) {
      shift = 0;
      const unsigned from = bits_x2(kCode) == 8 ? i / 8 * 8 : 0;
      for (unsigned j = from; j <= i; ++j) shift += turboquant::symbol_bits(static_cast<turboquant::Code>(kCode), j);
      if (first && bits_x2(kCode) != 8) shift += 56;
    }
    out.byte[b] = static_cast<std::uint8_t>(shift % 64);
  }
  return out;
}

// Of 4-bit symbols: bytes 0 to 7 of a lane to its first half, 4 to 11 to its second.
constexpr Bytes64 halves_of_4_bits() {
  Bytes64 out{};
  for (unsigned b = 0; b < 64; ++b) out.byte[b] = static_cast<std::uint8_t>(b % 8 + b % kLane / 8 * 4);
  return out;
}

// [4 tokens][16 elements] to [16 elements][4 tokens].
constexpr Bytes64 elements_first() {
  Bytes64 out{};
  for (unsigned b = 0; b < 64; ++b) out.byte[b] = static_cast<std::uint8_t>(b % kLanes * kLane + b / kLanes);
  return out;
}

// Of the high bits of 3-bit indices, which begin at bit `from`: they come to bit 2.
constexpr Bytes64 high_shifts(unsigned from) {
  Bytes64 out{};
  for (unsigned b = 0; b < 64; ++b) out.byte[b] = static_cast<std::uint8_t>((from + b % kLane + 62) % 64);
  return out;
}

AXON_AVX512_INLINE __m512i constant(const Bytes64& bytes) { return _mm512_load_si512(bytes.byte); }

AXON_AVX512_INLINE __m512i low_mask(int code) {
  return _mm512_set1_epi8(static_cast<char>((1u << (is_trellis(code) ? 0 : low_bits(code))) - 1));
}

AXON_AVX512_INLINE __mmask16 first_lanes(std::size_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFFu : (1u << count) - 1u);
}

// Four tokens, each at an offset from the first.
struct Group {
  const std::uint8_t* first;
  std::size_t at[kLanes];
  const std::uint8_t* token(std::size_t l, std::size_t offset) const { return first + offset + at[l]; }
};

// Bytes of each token of a group, `offset` into it. Not the intrinsics: with them GCC 12 loads to another register
// first and then shuffles.
AXON_AVX512_INLINE __m512i load_qwords(const Group& group, std::size_t offset) {
  __m512i v;
  asm("vpbroadcastq %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const char(*)[8]>(group.token(0, offset))));
  AXON_UNROLL
  for (std::size_t l = 1; l < kLanes; ++l) {
    const auto mask = static_cast<__mmask8>(3u << (2 * l));
    const auto& from = *reinterpret_cast<const char(*)[8]>(group.token(l, offset));
    asm("vpbroadcastq %1, %0%{%2%}" : "+v"(v) : "m"(from), "Yk"(mask));
  }
  return v;
}
AXON_AVX512_INLINE __m512i load_dwords(const Group& group, std::size_t offset) {
  __m512i v;
  asm("vpbroadcastd %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const char(*)[4]>(group.token(0, offset))));
  AXON_UNROLL
  for (std::size_t l = 1; l < kLanes; ++l) {
    const auto mask = static_cast<__mmask16>(15u << (4 * l));
    const auto& from = *reinterpret_cast<const char(*)[4]>(group.token(l, offset));
    asm("vpbroadcastd %1, %0%{%2%}" : "+v"(v) : "m"(from), "Yk"(mask));
  }
  return v;
}
AXON_AVX512_INLINE __m128i load_lane(const Group& group, std::size_t l, std::size_t offset) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(group.token(l, offset)));
}
AXON_AVX512_INLINE __m512i load_lanes(const Group& group, std::size_t offset) {
  __m512i v = _mm512_castsi128_si512(load_lane(group, 0, offset));
  v = _mm512_inserti32x4(v, load_lane(group, 1, offset), 1);
  v = _mm512_inserti32x4(v, load_lane(group, 2, offset), 2);
  return _mm512_inserti32x4(v, load_lane(group, 3, offset), 3);
}

// The same bytes for heads of 80 elements, whole groups only: everything about a group's 16 elements is known in
// advance, and up to three loads of 64 bytes, permuted, bring them. Sources of all bytes of a register:
struct Gather {
  Bytes64 index{};           // within its load
  std::size_t base[3] = {};  // of a load, in bytes from the group's first
  std::uint64_t mask[3] = {};
  std::size_t loads = 0;
};

// Byte of a token that comes to byte `j` of half `h` of its lane, or kNoByte.
inline constexpr std::size_t kNoByte = ~std::size_t{0};
constexpr std::size_t source_of(int code, std::size_t head_dim, std::size_t c, std::size_t h, std::size_t j) {
  if (!is_trellis(code)) {
    const std::size_t low = 2 * low_bits(code);  // bytes of 16 elements in the first plane
    if (j < low) return c * low + j;
    return code == 3 && j < low + 2 ? head_dim / 4 + 2 * c + j - low : kNoByte;
  }
  const std::size_t bytes = bits_x2(code), size = head_dim * bytes / 16;
  if (j > (bytes == 8 ? 4 : bytes)) return kNoByte;
  const std::size_t at = c * bytes + j + (bytes == 8 ? 4 * h : 0);
  return (at + size - 1) % size;  // each begins with the byte before
}

constexpr Gather gather_of(int code, std::size_t head_dim, std::size_t c) {
  const std::size_t size = head_dim * (is_trellis(code) ? bits_x2(code) : 2 * static_cast<unsigned>(code)) / 16;
  const std::size_t group = kLanes * size;
  Gather out{};
  std::array<std::size_t, 64> from{};
  for (std::size_t b = 0; b < 64; ++b) {
    const std::size_t source = source_of(code, head_dim, c, b % kLane / 8, b % 8);
    from[b] = source == kNoByte ? kNoByte : b / kLane * size + source;
  }
  // From the lowest byte not yet covered on; where two tokens fit 64 bytes, from the first of a pair, so that all
  // registers of a group share their loads and masks.
  for (;;) {
    std::size_t least = kNoByte;
    for (const std::size_t f : from) least = f < least ? f : least;
    if (least == kNoByte) return out;
    if (2 * size <= 64) least -= least % (2 * size);
    const std::size_t base = least + 64 > group ? group - 64 : least;
    const std::size_t end = 2 * size <= 64 ? least + 2 * size : base + 64;
    for (std::size_t b = 0; b < 64; ++b) {
      if (from[b] == kNoByte || from[b] >= end) continue;
      out.index.byte[b] = static_cast<std::uint8_t>(from[b] - base);
      out.mask[out.loads] |= std::uint64_t{1} << b;
      from[b] = kNoByte;
    }
    out.base[out.loads++] = base;
  }
}

template <int kCode, std::size_t kDim, std::size_t kC>
AXON_AVX512_INLINE __m512i gathered(const std::uint8_t* group) {
  static constexpr Gather kGather = gather_of(kCode, kDim, kC);
  const __m512i index = constant(kGather.index);
  __m512i v = _mm512_permutexvar_epi8(index, _mm512_loadu_si512(group + kGather.base[0]));
  if constexpr (kGather.loads > 1) {
    const __m512i next = _mm512_loadu_si512(group + kGather.base[1]);
    v = _mm512_mask_permutexvar_epi8(v, kGather.mask[1], index, next);
  }
  if constexpr (kGather.loads > 2) {
    const __m512i next = _mm512_loadu_si512(group + kGather.base[2]);
    v = _mm512_mask_permutexvar_epi8(v, kGather.mask[2], index, next);
  }
  return v;
}

// Cheaper, where it can be done: 8 elements and what their first window holds of earlier ones lie in two dwords, so one
// permutation of the dwords of two loads brings each qword what it needs, from any bit on.
struct DwordGather {
  alignas(64) std::uint32_t index[16] = {};  // of the loads' 32 dwords
  Bytes64 shifts{}, high_shifts{};
  std::size_t base[2] = {};  // of a load, in bytes from the group's first
  bool possible = true;
};

// Where element e's window begins in its vector, in bits; below 0: that many before the end.
constexpr int first_bit(int code, std::size_t e) {
  if (!is_trellis(code)) return static_cast<int>(low_bits(code) * e);
  int end = 0;
  for (std::size_t i = 0; i <= e; ++i) end += static_cast<int>(symbol_bits(static_cast<turboquant::Code>(code), i));
  return end - 8;
}

constexpr DwordGather dword_gather_of(int code, std::size_t head_dim, std::size_t c) {
  const std::size_t size = turboquant::code_bytes(static_cast<turboquant::Code>(code), head_dim);
  const unsigned width = is_trellis(code) ? 8 : low_bits(code);
  DwordGather out{};
  const bool one_piece = kLanes * size <= 128;  // else each load brings two tokens
  const int begin = first_bit(code, kLane * c);
  const std::size_t from = one_piece || begin < 0 ? 0 : static_cast<std::size_t>(begin) / 32 * 4;
  out.base[0] = from;
  out.base[1] = from + (one_piece ? 64 : 2 * size);
  // A token's byte among the 128 that are loaded, or kNoByte.
  const auto place = [&](std::size_t token, std::size_t byte) -> std::size_t {
    if (one_piece) return token * size + byte;
    const std::size_t at = token % 2 * size + byte - from;
    return at < 64 ? token / 2 * 64 + at : kNoByte;
  };
  for (std::size_t q = 0; q < 8; ++q) {
    const std::size_t l = q / 2, first = kLane * c + q % 2 * 8;
    const int bit = first_bit(code, first);
    const bool wraps = bit < 0;
    const std::size_t last_bit = static_cast<std::size_t>(first_bit(code, first + 7)) + width - 1;
    const std::size_t low = place(l, wraps ? 0 : static_cast<std::size_t>(bit) / 8), end = place(l, last_bit / 8);
    std::size_t other = low / 4 % 16 == 15 ? low / 4 : low / 4 + 1;  // the qword's upper dword
    if (one_piece && low / 4 == 15) other = 16;
    int shift = static_cast<int>(low % 4 * 8) - bit / 8 * 8;
    std::size_t high = 0;
    out.possible = out.possible && low != kNoByte && end != kNoByte && end / 4 <= (wraps ? low / 4 : other);
    if (wraps) {  // the end comes to lie above the start, where a rotation finds it
      high = place(l, size - 4);
      other = high / 4;
      shift = 64;
      out.possible = out.possible && high != kNoByte && low % 4 == 0 && high % 4 == 0;
    } else if (code == 3) {
      high = place(l, head_dim / 4 + first / 8);
      other = high / 4;
      out.possible = out.possible && high != kNoByte && end / 4 == low / 4;
    }
    out.index[2 * q] = static_cast<std::uint32_t>(low / 4 % 32);
    out.index[2 * q + 1] = static_cast<std::uint32_t>(other % 32);
    for (std::size_t i = 0; i < 8; ++i) {
      out.shifts.byte[8 * q + i] = static_cast<std::uint8_t>((shift + first_bit(code, first + i)) % 64);
      out.high_shifts.byte[8 * q + i] = static_cast<std::uint8_t>((32 + high % 4 * 8 + i + 62) % 64);  // to bit 2
    }
  }
  return out;
}

// Windows of elements [16 c, 16 c + 16) of a trellis code.
template <int kCode>
AXON_AVX512_INLINE __m512i windows(const Group& group, std::size_t c, std::size_t size) {
  alignas(64) static constexpr Bytes64 kShifts = shifts<kCode>(false), kFirstShifts = shifts<kCode>(true);
  static constexpr Bytes64 kHalves = halves_of_4_bits();
  const std::size_t at = c * bits_x2(kCode);
  if constexpr (bits_x2(kCode) == 8) {
    __m512i v;
    if (c == 0) {
      v = _mm512_alignr_epi8(load_lanes(group, 0), load_dwords(group, size - 4), 15);
    } else {
      v = load_lanes(group, at - 1);
    }
    return _mm512_multishift_epi64_epi8(constant(kShifts), _mm512_shuffle_epi8(v, constant(kHalves)));
  }
  if (c != 0) return _mm512_multishift_epi64_epi8(constant(kShifts), load_qwords(group, at - 1));
  const __mmask64 top = 0x8080808080808080u;
  const __m512i v = _mm512_mask_mov_epi8(load_qwords(group, 0), top, load_dwords(group, size - 4));
  return _mm512_multishift_epi64_epi8(constant(kFirstShifts), v);
}

template <int kCode>
AXON_AVX512_INLINE __m512i indices(const Group& group, std::size_t c, std::size_t head_dim) {
  constexpr unsigned kLow = low_bits(kCode);
  static constexpr Bytes64 kShifts = shifts<kCode>(false), kHighShifts = high_shifts(0);
  const __m512i low = _mm512_multishift_epi64_epi8(constant(kShifts), load_qwords(group, c * 2 * kLow));
  const __m512i index = _mm512_and_si512(low, low_mask(kCode));
  if constexpr (kCode != 3) return index;
  const __m512i plane = load_qwords(group, head_dim / 4 + 2 * c);
  const __m512i high = _mm512_multishift_epi64_epi8(constant(kHighShifts), plane);
  return _mm512_ternarylogic_epi64(index, high, _mm512_set1_epi8(4), 0xF8);  // index | (high & 4)
}

// Codes from qwords that hold 8 elements each.
template <int kCode>
AXON_AVX512_INLINE __m512i codes_of(__m512i v, const Bytes64& shifts, const Bytes64& high_shifts) {
  const __m512i low = _mm512_multishift_epi64_epi8(constant(shifts), v);
  const __m512i index = is_trellis(kCode) ? low : _mm512_and_si512(low, low_mask(kCode));
  if constexpr (kCode != 3) return index;
  const __m512i high = _mm512_multishift_epi64_epi8(constant(high_shifts), v);
  return _mm512_ternarylogic_epi64(index, high, _mm512_set1_epi8(4), 0xF8);  // index | (high & 4)
}

// Codes of elements [16 kC, 16 kC + 16) of a whole group.
template <int kCode, std::size_t kDim, std::size_t kC>
AXON_AVX512_INLINE __m512i codes_of_group(const std::uint8_t* group) {
  static constexpr DwordGather kDwords = dword_gather_of(kCode, kDim, kC);
  if constexpr (kDwords.possible) {
    static_assert(kDwords.base[1] + 64 <= kLanes * turboquant::code_bytes(turboquant::Code{kCode}, kDim) + kCodesSlack);
    const __m512i first = _mm512_loadu_si512(group + kDwords.base[0]);
    const __m512i next = _mm512_loadu_si512(group + kDwords.base[1]);
    const __m512i v = _mm512_permutex2var_epi32(first, _mm512_load_si512(kDwords.index), next);
    return codes_of<kCode>(v, kDwords.shifts, kDwords.high_shifts);
  } else {
    static constexpr Bytes64 kShifts = shifts<kCode>(false), kHighShifts = high_shifts(32);
    return codes_of<kCode>(gathered<kCode, kDim, kC>(group), kShifts, kHighShifts);
  }
}

// Added to every value: with 128 they fit u8.
enum class Bias : std::uint8_t { kNone = 0, k128 = 0x80 };

// Trellis: entries 0 to 63 and 64 to 127. Scalar: 16 entries in each lane.
struct Table {
  __m512i low, high;
};
template <int kCode>
AXON_AVX512_INLINE Table load_table(Bias bias) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(bias));
  if constexpr (kCode == kInt8) return {flip, flip};
  const auto values = turboquant::codebook(static_cast<turboquant::Code>(kCode)).values;
  if constexpr (is_trellis(kCode)) {
    return {_mm512_xor_si512(_mm512_loadu_si512(values.data()), flip),
            _mm512_xor_si512(_mm512_loadu_si512(values.data() + 64), flip)};
  }
  alignas(16) std::int8_t entries[16] = {};
  std::memcpy(entries, values.data(), values.size());
  const __m128i all = _mm_load_si128(reinterpret_cast<const __m128i*>(entries));
  const __m512i table = _mm512_xor_si512(_mm512_broadcast_i32x4(all), flip);
  return {table, table};
}

// Codes to values. With the bias of 128 a negative is one still: -(v + 128) is -v + 128 in 8 bits.
template <int kCode>
AXON_AVX512_INLINE __m512i look_up(__m512i codes, const Table& table) {
  if constexpr (!is_trellis(kCode)) return _mm512_shuffle_epi8(table.low, codes);
  const __mmask64 negative = _mm512_movepi8_mask(codes);
  const __m512i index = _mm512_mask_sub_epi8(codes, negative, _mm512_set1_epi8(-1), codes);
  const __m512i value = _mm512_permutex2var_epi8(table.low, index, table.high);
  return _mm512_mask_sub_epi8(value, negative, _mm512_setzero_si512(), value);
}

// Elements [16 c, 16 c + 16) of four tokens, one in each lane.
template <int kCode>
AXON_AVX512_INLINE __m512i decode_16(const Group& group, std::size_t c, const CodedRegion& region, std::size_t size,
                                     const Table& table) {
  if constexpr (kCode == kInt8) return _mm512_xor_si512(load_lanes(group, kLane * c), table.low);
  if constexpr (is_trellis(kCode)) return look_up<kCode>(windows<kCode>(group, c, size), table);
  return look_up<kCode>(indices<kCode>(group, c, region.head_dim), table);
}
// The same, all being known and the group whole.
template <int kCode, std::size_t kDim, std::size_t kC>
AXON_AVX512_INLINE __m512i decode_16(const Group& group, const Table& table) {
  if constexpr (kCode == kInt8) return _mm512_xor_si512(load_lanes(group, kLane * kC), table.low);
  return look_up<kCode>(codes_of_group<kCode, kDim, kC>(group.first), table);
}

// Tokens [t, t + 4), t < T; past the end the last token stands in.
AXON_AVX512_INLINE Group group_at(const CodedRegion& region, std::size_t t, std::size_t size) {
  const std::size_t more = region.tokens() - 1 - t;
  const std::uint8_t* first = region.codes + t * size;
  if (more >= 3) return {first, {0, size, 2 * size, 3 * size}};
  return {first, {0, (more < 1 ? more : 1) * size, (more < 2 ? more : 2) * size, more * size}};
}

}  // namespace axon::cpu::coded

#endif
