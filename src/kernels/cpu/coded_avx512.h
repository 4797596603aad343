// Decoding for AVX-512 with VBMI and GFNI. Only coded_avx512*.cc include it.
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

#define AXON_AVX512 __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni")))
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

inline constexpr Bytes64 kElementsFirst = elements_first();

// Of the high bits of 3-bit indices: they come to bit 2.
constexpr Bytes64 high_shifts() {
  Bytes64 out{};
  for (unsigned b = 0; b < 64; ++b) out.byte[b] = static_cast<std::uint8_t>((b % kLane + 62) % 64);
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

// Of 16 elements of 4 tokens: a token's elements side by side, or an element's tokens.
enum class Order : std::uint8_t { kTokens, kElements };

// Where element e's code begins in its vector, in bits; below 0: that many before the end.
constexpr int first_bit(int code, std::size_t e) {
  if (!is_trellis(code)) return static_cast<int>(low_bits(code) * e);
  int end = 0;
  for (std::size_t i = 0; i <= e; ++i) end += static_cast<int>(symbol_bits(static_cast<turboquant::Code>(code), i));
  return end - 8;
}

// What a qword brings: some elements of some tokens, each token's in as many of its bytes.
struct Qword {
  std::size_t first_token, tokens, first, elements;
  constexpr std::size_t bytes() const { return 8 / tokens; }
};
constexpr Qword qword_of(std::size_t c, Order order, std::size_t q) {
  if (order == Order::kTokens) return {q / 2, 1, kLane * c + q % 2 * 8, 8};
  return {0, kLanes, kLane * c + 2 * q, 2};
}
constexpr int first_byte(int code, std::size_t e) { return (first_bit(code, e) + 8) / 8 - 1; }

// Whether elements [16 c, 16 c + 16) can come in that order: pairs of elements have to fit two bytes.
constexpr bool can_come(int code, std::size_t c, Order order) {
  if (order == Order::kTokens) return true;
  bool fits = code != 3 && code != kInt8;
  for (std::size_t e = kLane * c; fits && e < kLane * (c + 1); e += 2) {
    const int end = first_bit(code, e + 1) + static_cast<int>(is_trellis(code) ? 8 : low_bits(code));
    fits = end - 8 * first_byte(code, e) <= 16;
  }
  return fits;
}

// For heads of known size, whole groups only: everything about a group's 16 elements is known in advance. Two loads of
// 64 bytes and one permutation of their bytes bring what each qword needs, from any bit on; a third load is only for
// wraps of long vectors.
struct Gather {
  Bytes64 index{};           // within the first two loads, or the third
  std::uint64_t third = 0;   // bytes that come from the third
  std::size_t base[3] = {};  // of a load, in bytes from the group's first
  std::size_t loads = 0;
  Bytes64 shifts{}, high_shifts{};  // within a qword, of each byte's code; the latter bring it to bit 2
};

inline constexpr std::size_t kNoByte = ~std::size_t{0};

// The group's byte that comes to byte b of a register, or kNoByte.
constexpr std::size_t source_of(int code, std::size_t head_dim, std::size_t c, Order order, std::size_t b) {
  const std::size_t size = turboquant::code_bytes(static_cast<turboquant::Code>(code), head_dim);
  const Qword q = qword_of(c, order, b / 8);
  const std::size_t token = q.first_token + b % 8 / q.bytes(), j = b % q.bytes();
  if (code == 3 && j == 4) return token * size + head_dim / 4 + q.first / 8;  // the high bits' plane
  const int at = first_byte(code, q.first) + static_cast<int>(j);
  const int width = static_cast<int>(is_trellis(code) ? 8 : low_bits(code));
  if (8 * at >= first_bit(code, q.first + q.elements - 1) + width) return kNoByte;
  return token * size + (at < 0 ? size - static_cast<std::size_t>(-at) : static_cast<std::size_t>(at));
}

constexpr Gather gather_of(int code, std::size_t head_dim, std::size_t c, Order order) {
  const std::size_t size = turboquant::code_bytes(static_cast<turboquant::Code>(code), head_dim);
  const std::size_t group = kLanes * size;
  Gather out{};
  std::array<std::size_t, 64> from{};
  for (std::size_t b = 0; b < 64; ++b) from[b] = source_of(code, head_dim, c, order, b);
  // From the lowest byte not yet covered on; where two tokens fit 64 bytes, from the first of a pair, so that all
  // registers of a group share their loads.
  for (;;) {
    std::size_t least = kNoByte;
    for (const std::size_t f : from) least = f < least ? f : least;
    if (least == kNoByte) break;
    if (2 * size <= 64) least -= least % (2 * size);
    const std::size_t base = least + 64 > group ? group - 64 : least;
    const std::size_t end = 2 * size <= 64 ? least + 2 * size : base + 64;
    for (std::size_t b = 0; b < 64; ++b) {
      if (from[b] == kNoByte || from[b] >= end) continue;
      out.index.byte[b] = static_cast<std::uint8_t>(from[b] - base + 64 * (out.loads % 2));
      if (out.loads == 2) out.third |= std::uint64_t{1} << b;
      from[b] = kNoByte;
    }
    out.base[out.loads++] = base;
  }
  for (std::size_t b = 0; b < 64; ++b) {
    const Qword q = qword_of(c, order, b / 8);
    const std::size_t token = b % 8 % q.tokens, i = b % 8 / q.tokens;
    const int shift = first_bit(code, q.first + i) - 8 * first_byte(code, q.first);
    out.shifts.byte[b] = static_cast<std::uint8_t>(8 * q.bytes() * token + static_cast<std::size_t>(shift));
    out.high_shifts.byte[b] = static_cast<std::uint8_t>((32 + i + 62) % 64);
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
  static constexpr Bytes64 kShifts = shifts<kCode>(false), kHighShifts = high_shifts();
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
template <int kCode, std::size_t kDim, std::size_t kC, Order kOrder>
AXON_AVX512_INLINE __m512i codes_of_group(const std::uint8_t* group) {
  static constexpr Gather kGather = gather_of(kCode, kDim, kC, kOrder);
  static_assert(kGather.loads == 2 || kGather.loads == 3);
  const __m512i index = constant(kGather.index);
  const __m512i first = _mm512_loadu_si512(group + kGather.base[0]);
  __m512i v = _mm512_permutex2var_epi8(first, index, _mm512_loadu_si512(group + kGather.base[1]));
  if constexpr (kGather.loads == 3) {
    v = _mm512_mask_permutexvar_epi8(v, kGather.third, index, _mm512_loadu_si512(group + kGather.base[2]));
  }
  return codes_of<kCode>(v, kGather.shifts, kGather.high_shifts);
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

// Codes to values. The index of a negative code is its complement: bit 7 added to the others, which is linear, so one
// instruction without a mask does it. With the bias of 128 a negative is one still: -(v + 128) is -v + 128 in 8 bits.
template <int kCode>
AXON_AVX512_INLINE __m512i look_up(__m512i codes, const Table& table) {
  if constexpr (!is_trellis(kCode)) return _mm512_shuffle_epi8(table.low, codes);
  constexpr std::uint64_t kAddTopBit = 0x8182848890A0C000;  // a byte for each bit of the result, the lowest last
  const __mmask64 negative = _mm512_movepi8_mask(codes);
  const __m512i add_top_bit = _mm512_set1_epi64(static_cast<std::int64_t>(kAddTopBit));
  const __m512i index = _mm512_gf2p8affine_epi64_epi8(codes, add_top_bit, 0);
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
template <int kCode, std::size_t kDim, std::size_t kC, Order kOrder = Order::kTokens>
AXON_AVX512_INLINE __m512i decode_16(const Group& group, const Table& table) {
  if constexpr (kOrder == Order::kElements && !can_come(kCode, kC, kOrder)) {
    return _mm512_permutexvar_epi8(constant(kElementsFirst), decode_16<kCode, kDim, kC>(group, table));
  } else if constexpr (kCode == kInt8) {
    return _mm512_xor_si512(load_lanes(group, kLane * kC), table.low);
  } else {
    return look_up<kCode>(codes_of_group<kCode, kDim, kC, kOrder>(group.first), table);
  }
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
