// Trellis codes for AVX2. 256 metrics are 16 registers' worth: a step makes 64 at a time, 128 windows apart, and keeps
// only the best ones into each state for the next step. Of 32 windows one register has 0 to 7 and 16 to 23, a second
// the rest, so that packing both to bytes puts them in order. A state's metric is read from memory into both lanes, and
// one shuffle brings it to its windows.

#include "kernels/cpu/coded_encode_path.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AXON_AVX2 __attribute__((target("avx2,bmi,bmi2")))
#define AXON_AVX2_INLINE inline AXON_AVX2 __attribute__((always_inline))

namespace axon::cpu::coded {
namespace {

struct Bytes32 {
  alignas(32) std::uint8_t byte[32];
};

// Of the two registers of 32 windows: where the metrics of their windows' states are in a lane that begins with the
// first of those states.
template <int kBits>
constexpr std::array<Bytes32, 2> spread_indices() {
  std::array<Bytes32, 2> out{};
  for (unsigned r = 0; r < 2; ++r) {
    for (unsigned i = 0; i < 16; ++i) {
      const unsigned window = 8 * r + i % 8 + i / 8 * 16, state = window >> kBits;
      out[r].byte[2 * i] = static_cast<std::uint8_t>(2 * state);
      out[r].byte[2 * i + 1] = static_cast<std::uint8_t>(2 * state + 1);
    }
  }
  return out;
}
template <int kBits>
constexpr std::array<Bytes32, 2> kSpread = spread_indices<kBits>();

// The first metrics of 32 windows' states in both lanes. Not the intrinsics, here and below: GCC 12 brings words that
// it still has in registers, and masks that it stores together, through the port of the shuffles.
template <int kBits>
AXON_AVX2_INLINE __m256i load_states(const std::int16_t* states) {
  __m256i v;
  if constexpr (kBits == 2) {
    asm("vbroadcasti128 %1, %0" : "=x"(v) : "m"(*reinterpret_cast<const std::int16_t(*)[8]>(states)));
  } else if constexpr (kBits == 3) {
    asm("vpbroadcastq %1, %0" : "=x"(v) : "m"(*reinterpret_cast<const std::int16_t(*)[4]>(states)));
  } else {
    asm("vpbroadcastd %1, %0" : "=x"(v) : "m"(*reinterpret_cast<const std::int16_t(*)[2]>(states)));
  }
  return v;
}
AXON_AVX2_INLINE __m256i load_input(const std::int32_t* input) {
  __m256i v;
  asm("vpbroadcastd %1, %0" : "=x"(v) : "m"(*input));
  return v;
}
AXON_AVX2_INLINE void store_mask(std::uint8_t* to, int mask) {
  asm("movl %1, %0" : "=m"(*reinterpret_cast<std::uint8_t(*)[4]>(to)) : "r"(mask));
}

AXON_AVX2_INLINE __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
AXON_AVX2_INLINE void store(void* p, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }

// Metrics of 32 windows.
struct Block {
  __m256i first, second;
};

// The lower of each window and its rival, and which it is.
AXON_AVX2_INLINE Block play(Block low, Block high, std::uint8_t* decisions) {
  const __m256i first = _mm256_cmpgt_epi16(low.first, high.first);
  const __m256i second = _mm256_cmpgt_epi16(low.second, high.second);
  store_mask(decisions, _mm256_movemask_epi8(_mm256_packs_epi16(first, second)));
  return {_mm256_min_epi16(low.first, high.first), _mm256_min_epi16(low.second, high.second)};
}

// x - c twice where the limit is 8191, and then it saturates beyond the limit.
template <int kEven, int kOdd>
AXON_AVX2_INLINE __m256i cost(__m256i x, const std::int16_t* values) {
  constexpr int kScale = input_scale(kEven, kOdd);
  constexpr turboquant::FixedCosts kFixed = turboquant::fixed_costs(kEven, kOdd);
  const __m256i e = _mm256_abs_epi16(_mm256_subs_epi16(x, load(values)));
  const __m256i bounded = _mm256_min_epu16(e, _mm256_set1_epi16(static_cast<short>(kScale * kFixed.limit)));
  const __m256i twice = _mm256_add_epi16(bounded, bounded);
  return _mm256_mulhi_epi16(kFixed.shift_a == kFixed.shift_b ? twice : bounded, twice);
}

template <int kEven, int kOdd>
struct Search {
  const std::int16_t* values;
  alignas(32) std::int16_t states[64];  // the best metric into each, before the next position

  template <int kBits>
  AXON_AVX2_INLINE Block metrics(__m256i x, std::size_t j) const {  // of windows 32 j to 32 j + 31
    const __m256i lane = load_states<kBits>(states + (32 * j >> kBits));
    const __m256i first = _mm256_shuffle_epi8(lane, load(kSpread<kBits>[0].byte));
    const __m256i second = kBits == 4 ? first : _mm256_shuffle_epi8(lane, load(kSpread<kBits>[1].byte));
    return {_mm256_adds_epi16(first, cost<kEven, kOdd>(x, values + 32 * j)),
            _mm256_adds_epi16(second, cost<kEven, kOdd>(x, values + 32 * j + 16))};
  }

  // A position with a symbol of kBits before one of kNext. Once all states are reached the metric of the first is taken
  // off after the step, not before: the bounds are the same, and nothing waits for it.
  template <int kBits, int kNext, bool kSettled>
  AXON_AVX2_INLINE void step(const std::int32_t* input, std::uint8_t* next_decisions) {
    const __m256i x = load_input(input), base = _mm256_set1_epi16(kSettled ? states[0] : std::int16_t{0});
    Block best[2];
    AXON_UNROLL
    for (std::size_t j = 0; j < 2; ++j) {
      const Block a = play(metrics<kBits>(x, j), metrics<kBits>(x, j + 4), next_decisions + 4 * j);
      const Block b = play(metrics<kBits>(x, j + 2), metrics<kBits>(x, j + 6), next_decisions + 4 * j + 8);
      best[j] = play(a, b, next_decisions + 16 + 4 * j);
    }
    if constexpr (kNext >= 3) best[0] = play(best[0], best[1], next_decisions + 24);
    if constexpr (kNext >= 4) {
      const Block swapped = {_mm256_permute4x64_epi64(best[0].first, 0x4E),
                             _mm256_permute4x64_epi64(best[0].second, 0x4E)};
      best[0] = play(best[0], swapped, next_decisions + 28);
    }
    AXON_UNROLL
    for (std::size_t j = 0; j < (kNext == 2 ? 2 : 1); ++j) {
      const __m256i first = _mm256_sub_epi16(best[j].first, base), second = _mm256_sub_epi16(best[j].second, base);
      store(states + 32 * j, _mm256_permute2x128_si256(first, second, 0x20));
      if constexpr (kNext < 4) store(states + 32 * j + 16, _mm256_permute2x128_si256(first, second, 0x31));
    }
  }
  // Positions t and t + 1, t even; `decisions` are those of t.
  template <bool kFirstSettled, bool kSecondSettled>
  AXON_AVX2_INLINE void two_steps(const std::int32_t* inputs, std::uint8_t* decisions) {
    step<kEven, kOdd, kFirstSettled>(inputs, decisions + kStepBytes);
    step<kOdd, kEven, kSecondSettled>(inputs + 1, decisions + 2 * kStepBytes);
  }
  AXON_AVX2_INLINE void fill(std::int16_t metric) {
    for (std::size_t j = 0; j < 64; j += 16) store(states + j, _mm256_set1_epi16(metric));
  }

  // The first of the lowest metrics at a position with an odd symbol.
  AXON_AVX2_INLINE std::uint8_t lowest(const std::int32_t* input) const {
    alignas(32) std::int16_t all[256];
    for (std::size_t j = 0; j < 8; ++j) {
      const Block block = metrics<kOdd>(load_input(input), j);
      store(all + 32 * j, _mm256_permute2x128_si256(block.first, block.second, 0x20));
      store(all + 32 * j + 16, _mm256_permute2x128_si256(block.first, block.second, 0x31));
    }
    __m256i least = load(all);
    for (std::size_t j = 16; j < 256; j += 16) least = _mm256_min_epi16(least, load(all + j));
    __m128i eight = _mm_min_epi16(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
    const __m128i sign = _mm_set1_epi16(-32768);
    eight = _mm_xor_si128(_mm_minpos_epu16(_mm_xor_si128(eight, sign)), sign);
    least = _mm256_broadcastw_epi16(eight);
    for (std::size_t j = 0;; j += 16) {
      const auto equal = static_cast<unsigned>(_mm256_movemask_epi8(_mm256_cmpeq_epi16(load(all + j), least)));
      if (equal != 0) return static_cast<std::uint8_t>(j + _tzcnt_u32(equal) / 2);
    }
  }
};

struct Pass {
  static constexpr std::size_t place(std::size_t window) {
    const std::size_t i = window % 32;
    return window - i + i / 8 % 2 * 16 + i / 16 * 8 + i % 8;
  }
  static AXON_AVX2 std::uint64_t compress(std::uint64_t word, std::uint64_t mask) { return _pext_u64(word, mask); }

  // From anywhere over the last and the first kReach positions; decisions of the first. Returns the best window.
  template <int kEven, int kOdd>
  AXON_AVX2 static std::uint8_t around(const std::int16_t* values, const std::int32_t* inputs, std::size_t A,
                                       std::uint8_t* decisions) {
    Search<kEven, kOdd> search;
    search.values = values;
    search.fill(0);
    alignas(32) std::uint8_t unused[3 * kStepBytes];
    for (std::size_t t = A - kReach; t < A; t += 2) search.template two_steps<true, true>(inputs + t, unused);
    for (std::size_t t = 0; t + 2 < kReach; t += 2) {
      search.template two_steps<true, true>(inputs + t, decisions + t * kStepBytes);
    }
    constexpr std::size_t kLast = kReach - 1;
    search.template step<kEven, kOdd, true>(inputs + kLast - 1, decisions + kLast * kStepBytes);
    return search.lowest(inputs + kLast);
  }

  // From the boundary over all positions, and the choices before position A.
  template <int kEven, int kOdd>
  AXON_AVX2 static void along(const std::int16_t* values, const std::int32_t* inputs, std::size_t A,
                              std::uint8_t boundary, std::uint8_t* decisions) {
    constexpr int kSettle = turboquant::fixed_costs(kEven, kOdd).settle;
    static_assert(kSettle <= 3);
    Search<kEven, kOdd> search;
    search.values = values;
    search.fill(32767);
    search.states[boundary] = 0;
    search.template two_steps<(kSettle < 1), (kSettle < 2)>(inputs, decisions);
    search.template two_steps<(kSettle < 3), true>(inputs + 2, decisions + 2 * kStepBytes);
    for (std::size_t t = 4; t < A; t += 2) {
      search.template two_steps<true, true>(inputs + t, decisions + t * kStepBytes);
    }
  }
};

}  // namespace

AXON_AVX2 void encode_trellis_avx2(turboquant::Code code, Mat<const std::int8_t> values, std::span<const float> factors,
                                   std::uint8_t* codes, std::span<float> scales) {
  switch (code) {
    case turboquant::Code::kTrellis2p5: return encode_rows<Pass, 2, 3>(values, factors, codes, scales);
    case turboquant::Code::kTrellis3: return encode_rows<Pass, 3, 3>(values, factors, codes, scales);
    case turboquant::Code::kTrellis3p5: return encode_rows<Pass, 3, 4>(values, factors, codes, scales);
    case turboquant::Code::kTrellis4: return encode_rows<Pass, 4, 4>(values, factors, codes, scales);
    default: return encode_rows<Pass, 2, 2>(values, factors, codes, scales);
  }
}

}  // namespace axon::cpu::coded

#endif
