// Trellis codes for AVX-512 with VBMI. The metrics of all 256 windows stay in 8 registers, in order, so that rounds
// against windows 128, 64 and 32 on are between registers and their outcome is a mask. A state's metric comes to its
// windows by one permutation a register.

#include "kernels/cpu/coded_encode_path.h"

#if defined(__x86_64__)

// GCC 12 takes its own undefined registers in this header for a mistake (bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#define AXON_AVX512 __attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))
#define AXON_AVX512_INLINE inline AXON_AVX512 __attribute__((always_inline))

namespace axon::cpu::coded {
namespace {

struct Bytes64 {
  alignas(64) std::uint8_t byte[64];
};

// Of register j: bytes of the metrics of its windows' states, within the register that holds those.
template <int kBits>
constexpr std::array<Bytes64, 8> spread_indices() {
  std::array<Bytes64, 8> out{};
  for (unsigned w = 0; w < 256; ++w) {
    const unsigned state = (w >> kBits) % 32;
    out[w / 32].byte[2 * (w % 32)] = static_cast<std::uint8_t>(2 * state);
    out[w / 32].byte[2 * (w % 32) + 1] = static_cast<std::uint8_t>(2 * state + 1);
  }
  return out;
}
template <int kBits>
constexpr std::array<Bytes64, 8> kSpread = spread_indices<kBits>();

// Not the intrinsics: GCC 12 makes vectors of four masks before it stores them, and brings a word to a register of its
// own before it broadcasts it; both take the ports that the arithmetic needs.
AXON_AVX512_INLINE void store_mask(std::uint8_t* to, __mmask32 mask) {
  asm("kmovd %1, %0" : "=m"(*reinterpret_cast<std::uint8_t(*)[4]>(to)) : "k"(mask));
}
AXON_AVX512_INLINE __m512i load_broadcast(const std::int32_t* from) {
  __m512i v;
  asm("vpbroadcastd %1, %0" : "=v"(v) : "m"(*from));
  return v;
}

// The lower of window i and window i + h, and which it is.
AXON_AVX512_INLINE __m512i play(__m512i low, __m512i high, std::uint8_t* decisions) {
  store_mask(decisions, _mm512_cmpgt_epi16_mask(low, high));
  return _mm512_min_epi16(low, high);
}

// best <- metrics of states: 64 in two registers, 32 in the first, 16 in the first half of it.
template <int kBits>
AXON_AVX512_INLINE void best_of_predecessors(const __m512i (&metrics)[8], __m512i (&best)[2], std::uint8_t* step) {
  __m512i four[4];
  AXON_UNROLL
  for (std::size_t j = 0; j < 4; ++j) four[j] = play(metrics[j], metrics[j + 4], step + 4 * j);
  best[0] = play(four[0], four[2], step + 16);
  best[1] = play(four[1], four[3], step + 20);
  if constexpr (kBits >= 3) best[0] = play(best[0], best[1], step + 24);
  if constexpr (kBits >= 4) {
    const __m256i low = _mm512_castsi512_si256(best[0]), high = _mm512_extracti64x4_epi64(best[0], 1);
    store_mask(step + 28, _mm256_cmpgt_epi16_mask(low, high));
    best[0] = _mm512_castsi256_si512(_mm256_min_epi16(low, high));
  }
}

// x - c twice where the limit is 8191, and then it saturates beyond the limit.
template <int kEven, int kOdd>
AXON_AVX512_INLINE __m512i cost(__m512i x, const std::int16_t* values) {
  constexpr int kScale = input_scale(kEven, kOdd);
  constexpr turboquant::FixedCosts kFixed = turboquant::fixed_costs(kEven, kOdd);
  const __m512i e = _mm512_abs_epi16(_mm512_subs_epi16(x, _mm512_load_si512(values)));
  const __m512i bounded = _mm512_min_epu16(e, _mm512_set1_epi16(static_cast<short>(kScale * kFixed.limit)));
  const __m512i twice = _mm512_add_epi16(bounded, bounded);
  return _mm512_mulhi_epi16(kFixed.shift_a == kFixed.shift_b ? twice : bounded, twice);
}

template <int kEven, int kOdd>
struct Search {
  const std::int16_t* values;
  __m512i metrics[8];
  __m512i base;  // of the step before: metrics stay in int16 with the same bounds, and no step waits for its own

  template <int kBits, bool kSettled>
  AXON_AVX512_INLINE void step(const std::int32_t* input, std::uint8_t* decisions) {
    __m512i best[2];
    best_of_predecessors<kBits>(metrics, best, decisions);
    if constexpr (kSettled) {
      best[0] = _mm512_sub_epi16(best[0], base);
      if constexpr (kBits == 2) best[1] = _mm512_sub_epi16(best[1], base);
      base = _mm512_broadcastw_epi16(_mm512_castsi512_si128(best[0]));
    }
    const __m512i x = load_broadcast(input);
    AXON_UNROLL
    for (std::size_t j = 0; j < 8; ++j) {
      const __m512i index = _mm512_load_si512(kSpread<kBits>[j].byte);
      const __m512i spread = _mm512_permutexvar_epi8(index, best[kBits == 2 ? j / 4 : 0]);
      metrics[j] = _mm512_adds_epi16(spread, cost<kEven, kOdd>(x, values + 32 * j));
    }
  }
  template <bool kFirstSettled, bool kSecondSettled>
  AXON_AVX512_INLINE void two_steps(const std::int32_t* inputs, std::uint8_t* decisions) {
    step<kEven, kFirstSettled>(inputs, decisions);
    step<kOdd, kSecondSettled>(inputs + 1, decisions + kStepBytes);
  }
  AXON_AVX512_INLINE void fill(std::int16_t metric) {
    base = _mm512_setzero_si512();
    AXON_UNROLL
    for (std::size_t j = 0; j < 8; ++j) metrics[j] = _mm512_set1_epi16(metric);
  }
};

// The first of the lowest.
AXON_AVX512_INLINE std::uint8_t lowest(const __m512i (&metrics)[8]) {
  __m512i all = metrics[0];
  AXON_UNROLL
  for (std::size_t j = 1; j < 8; ++j) all = _mm512_min_epi16(all, metrics[j]);
  const __m256i half = _mm256_min_epi16(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  const __m128i eight = _mm_min_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i sign = _mm_set1_epi16(-32768);
  const __m512i least = _mm512_broadcastw_epi16(_mm_xor_si128(_mm_minpos_epu16(_mm_xor_si128(eight, sign)), sign));
  std::size_t first = 256;
  AXON_UNROLL
  for (std::size_t j = 8; j-- > 0;) {
    const std::uint32_t equal = _mm512_cmpeq_epi16_mask(metrics[j], least);
    first = equal != 0 ? 32 * j + _tzcnt_u32(equal) : first;
  }
  return static_cast<std::uint8_t>(first);
}

struct Pass {
  static constexpr std::size_t place(std::size_t window) { return window; }
  static AXON_AVX512 std::uint64_t compress(std::uint64_t word, std::uint64_t mask) { return _pext_u64(word, mask); }

  // From anywhere over the last and the first kReach positions; decisions of the first. Returns the best window.
  template <int kEven, int kOdd>
  AXON_AVX512 static std::uint8_t around(const std::int16_t* values, const std::int32_t* inputs, std::size_t A,
                                         std::uint8_t* decisions) {
    Search<kEven, kOdd> search;
    search.values = values;
    search.fill(0);
    alignas(64) std::uint8_t unused[2 * kStepBytes];
    for (std::size_t t = A - kReach; t < A; t += 2) search.template two_steps<true, true>(inputs + t, unused);
    for (std::size_t t = 0; t < kReach; t += 2) {
      search.template two_steps<true, true>(inputs + t, decisions + t * kStepBytes);
    }
    return lowest(search.metrics);
  }

  // From the boundary over all positions, and the choices before position A.
  template <int kEven, int kOdd>
  AXON_AVX512 static void along(const std::int16_t* values, const std::int32_t* inputs, std::size_t A,
                                std::uint8_t boundary, std::uint8_t* decisions) {
    constexpr int kSettle = turboquant::fixed_costs(kEven, kOdd).settle;
    Search<kEven, kOdd> search;
    search.values = values;
    search.fill(32767);
    AXON_UNROLL
    for (std::size_t j = 0; j < 8; ++j) {
      const std::uint32_t here = boundary / 32 == j ? 1u << (boundary % 32) : 0u;
      search.metrics[j] = _mm512_maskz_mov_epi16(~here, search.metrics[j]);
    }
    search.template two_steps<(kSettle < 1), (kSettle < 2)>(inputs, decisions);
    search.template two_steps<(kSettle < 3), true>(inputs + 2, decisions + 2 * kStepBytes);
    static_assert(kSettle <= 3);
    for (std::size_t t = 4; t < A; t += 2) {
      search.template two_steps<true, true>(inputs + t, decisions + t * kStepBytes);
    }
    __m512i best[2];
    best_of_predecessors<kEven>(search.metrics, best, decisions + A * kStepBytes);
  }
};

}  // namespace

AXON_AVX512 void encode_trellis_avx512(turboquant::Code code, Mat<const std::int8_t> values,
                                       std::span<const float> factors, std::uint8_t* codes, std::span<float> scales) {
  switch (code) {
    case turboquant::Code::kTrellis2p5: return encode_rows<Pass, 2, 3>(values, factors, codes, scales);
    case turboquant::Code::kTrellis3: return encode_rows<Pass, 3, 3>(values, factors, codes, scales);
    case turboquant::Code::kTrellis3p5: return encode_rows<Pass, 3, 4>(values, factors, codes, scales);
    case turboquant::Code::kTrellis4: return encode_rows<Pass, 4, 4>(values, factors, codes, scales);
    default: return encode_rows<Pass, 2, 2>(values, factors, codes, scales);
  }
}

}  // namespace axon::cpu::coded

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif
