// Products with codes for AVX-512 with VNNI and VBMI. A register holds 16 elements of 4 tokens, a token in each lane of
// 128 bits: 16 elements of a trellis code are 4 to 8 whole bytes, so one masked broadcast a token brings them to both
// qwords of its lane, and each byte picks its own 8 bits (vpmultishiftqb). The tables are odd, so 128 entries and a
// sign do for 256 (vpermi2b). Lanes that are tokens need no sum across tokens, and one a vector only every 16 tokens.

#include "kernels/cpu/coded_avx512.h"

#if defined(__x86_64__)

#include <utility>

namespace axon::cpu::coded {
namespace {

using turboquant::Code;

constexpr Bytes64 kElementsFirst = elements_first();
constexpr std::size_t kCommonDim = 80;  // what kernels are made for beside those for every head_dim

// Calls f.operator()<0>(), f.operator()<1>(), ... for each 16 elements of heads of kDim.
template <std::size_t kDim, class F>
AXON_AVX512_INLINE void each_16(F&& f) {
  [&]<std::size_t... kC>(std::index_sequence<kC...>) AXON_AVX512 __attribute__((always_inline)) {
    (f.template operator()<kC>(), ...);
  }
  (std::make_index_sequence<kDim / kLane>());
}

// sum += u8 * s8, four by four. Not the intrinsic: around that, GCC 12 copies each sum to another register and back.
AXON_AVX512_INLINE void add_dots(__m512i& sum, __m512i u8, __m512i s8) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8));
}

AXON_AVX512_INLINE __m512i load_query(const std::int8_t* q) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
}

// Dwords of 4 registers, lanes being 4 tokens, to one sum for each of the 16 tokens in order.
AXON_AVX512_INLINE __m512i sum_lanes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i sums = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, sums);
}

// 128 times the sum of the query's elements, in all dwords: what the bias of the keys adds.
AXON_AVX512_INLINE __m512i bias_of(const std::int8_t* q, std::size_t chunks) {
  __m512i sums = _mm512_setzero_si512();
  for (std::size_t c = 0; c < chunks; ++c) add_dots(sums, _mm512_set1_epi8(1), load_query(q + kLane * c));
  return _mm512_slli_epi32(sum_lanes(sums, sums, sums, sums), 7);
}

// Asks for what will be read next, as far as a group of this region reaches.
AXON_AVX512_INLINE void prefetch_group(const CodedRegion& region, std::size_t t, std::size_t size) {
  if (region.next == nullptr) return;
  const std::uint8_t* next = region.next + t * size;
  for (std::size_t i = 0; i < kLanes * size; i += 64) _mm_prefetch(next + i, _MM_HINT_T0);
}

// Up to kRows queries; rows that are missing repeat the last and are not stored. kDim: head_dim, or 0 for any.
template <int kCode, std::size_t kDim, std::size_t kRows>
AXON_AVX512 void score_rows(const CodedRegion& keys, const Int8Queries& q, Mat<float> scores) {
  const std::size_t size = keys.vector_bytes(), T = keys.tokens();
  const std::size_t chunks = (kDim != 0 ? kDim : keys.head_dim) / kLane;
  const Table table = load_table<kCode>(Bias::k128);
  const std::int8_t* query[kRows];
  __m512i bias[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    query[r] = q.values.row_ptr(r < scores.rows ? r : scores.rows - 1);
    bias[r] = bias_of(query[r], chunks);
  }
  for (std::size_t t = 0; t < T; t += 16) {
    __m512i sums[kRows][4];
    const auto sum_group = [&](std::size_t g) AXON_AVX512 __attribute__((always_inline)) {
      const Group group = group_at(keys, t + kLanes * g, size);
      prefetch_group(keys, t + kLanes * g, size);
      __m512i dots[kRows];
      AXON_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) dots[r] = _mm512_setzero_si512();
      const auto add = [&](std::size_t c, __m512i k) AXON_AVX512 __attribute__((always_inline)) {
        AXON_UNROLL
        for (std::size_t r = 0; r < kRows; ++r) add_dots(dots[r], k, load_query(query[r] + kLane * c));
      };
      if constexpr (kDim != 0) {
        each_16<kDim>([&]<std::size_t kC>() AXON_AVX512
                      __attribute__((always_inline)) { add(kC, decode_16<kCode, kDim, kC>(group, table)); });
      } else {
        add(0, decode_16<kCode>(group, 0, keys, size, table));
        for (std::size_t c = 1; c < chunks; ++c) add(c, decode_16<kCode>(group, c, keys, size, table));
      }
      AXON_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) sums[r][g] = dots[r];
    };
    if (kRows == 1 && T - t >= 16) {
      AXON_UNROLL
      for (std::size_t g = 0; g < 4; ++g) sum_group(g);
    } else {
      for (std::size_t g = 0; g < 4; ++g) {
        if (t + kLanes * g < T) {
          sum_group(g);
        } else {
          for (std::size_t r = 0; r < kRows; ++r) sums[r][g] = _mm512_setzero_si512();
        }
      }
    }
    const bool whole = T - t >= 16;  // masked loads and stores wait for one another
    const __mmask16 mask = first_lanes(T - t);
    const float* of_keys = keys.factors.data() + t;
    const __m512 factors = whole ? _mm512_loadu_ps(of_keys) : _mm512_maskz_loadu_ps(mask, of_keys);
    AXON_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      if (r >= scores.rows) break;
      const __m512i biased = sum_lanes(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(biased, bias[r]));
      const __m512 score = _mm512_mul_ps(_mm512_mul_ps(sum, factors), _mm512_set1_ps(q.scales[r]));
      float* out = scores.row_ptr(r) + t;
      if (whole) {
        _mm512_storeu_ps(out, score);
      } else {
        _mm512_mask_storeu_ps(out, mask, score);
      }
    }
  }
}

// Up to kRows rows of weights, as above.
template <int kCode, std::size_t kDim, std::size_t kRows>
AXON_AVX512 void add_rows(const CodedRegion& values, const Weights& weights, Mat<float> out) {
  constexpr std::size_t kSets = kRows == 1 ? 4 : kRows <= 4 ? 2 : 1;  // of sums: one alone waits for itself
  const std::size_t size = values.vector_bytes(), chunks = values.head_dim / kLane, T = values.tokens();
  const Table table = load_table<kCode>(Bias::kNone);
  const std::uint8_t* row[kRows];
  for (std::size_t r = 0; r < kRows; ++r) row[r] = weights.bytes[r < out.rows ? r : out.rows - 1];
  // decode_at(t): 16 elements, from 16 c on, of tokens [t, t + 4).
  const auto sum_16 = [&](std::size_t c, auto decode_at) AXON_AVX512 __attribute__((always_inline)) {
    __m512i dots[kSets][kRows];
    AXON_UNROLL
    for (std::size_t i = 0; i < kSets * kRows; ++i) dots[i / kRows][i % kRows] = _mm512_setzero_si512();
    const auto add = [&](std::size_t t, __m512i(&to)[kRows]) AXON_AVX512 __attribute__((always_inline)) {
      const __m512i four = _mm512_permutexvar_epi8(constant(kElementsFirst), decode_at(t));
      AXON_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) {
        std::int32_t w;
        std::memcpy(&w, row[r] + t, 4);
        add_dots(to[r], _mm512_set1_epi32(w), four);
      }
    };
    std::size_t t = 0;
    for (; t + kSets * kLanes <= T; t += kSets * kLanes) {
      AXON_UNROLL
      for (std::size_t i = 0; i < kSets; ++i) add(t + i * kLanes, dots[i]);
    }
    for (; t < T; t += kLanes) add(t, dots[0]);
    AXON_UNROLL
    for (std::size_t i = kRows; i < kSets * kRows; ++i) {
      dots[0][i % kRows] = _mm512_add_epi32(dots[0][i % kRows], dots[i / kRows][i % kRows]);
    }
    AXON_UNROLL
    for (std::size_t r = 0; r < kRows; ++r) {
      if (r >= out.rows) break;
      float* y = out.row_ptr(r) + kLane * c;
      __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[0][r]), _mm512_set1_ps(weights.units[r]));
      asm("" : "+v"(product));  // two roundings, not a fused one
      _mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), product));
    }
  };
  if constexpr (kDim != 0) {
    each_16<kDim>([&]<std::size_t kC>() AXON_AVX512 __attribute__((always_inline)) {
      sum_16(
          kC, [&](std::size_t t) AXON_AVX512 __attribute__((always_inline)) {
            if constexpr (kC == 0) prefetch_group(values, t, size);
            return decode_16<kCode, kDim, kC>(group_at(values, t, size), table);
          });
    });
  } else {
    const auto sum_any = [&](std::size_t c) AXON_AVX512 __attribute__((always_inline)) {
      sum_16(
          c, [&](std::size_t t) AXON_AVX512 __attribute__((always_inline)) {
            return decode_16<kCode>(group_at(values, t, size), c, values, size, table);
          });
    };
    sum_any(0);
    for (std::size_t c = 1; c < chunks; ++c) sum_any(c);
  }
}

template <int kCode>
AXON_AVX512 void decode_rows(const CodedRegion& region, Mat<std::int8_t> out) {
  const std::size_t size = region.vector_bytes(), chunks = region.head_dim / kLane, T = region.tokens();
  const Table table = load_table<kCode>(Bias::kNone);
  for (std::size_t t = 0; t < T; t += kLanes) {
    const Group group = group_at(region, t, size);
    for (std::size_t c = 0; c < chunks; ++c) {
      alignas(64) std::int8_t lanes[kLanes][kLane];
      _mm512_store_si512(lanes, decode_16<kCode>(group, c, region, size, table));
      for (std::size_t l = 0; l < kLanes && t + l < T; ++l)
        std::memcpy(out.row_ptr(t + l) + kLane * c, lanes[l], kLane);
    }
  }
}

// Calls f<code, head_dim or 0>().
template <class F>
void with_code(const CodedRegion& region, F&& f) {
  const auto with_dim = [&]<int kCode>() {
    if constexpr (kCode != 1) {  // a group of one-bit codes is shorter than a register
      const bool common = region.head_dim == kCommonDim && region.tokens() % kLanes == 0;
      if (common) return f.template operator()<kCode, kCommonDim>();
    }
    f.template operator()<kCode, 0>();
  };
  if (!region.code) return with_dim.template operator()<kInt8>();
  switch (*region.code) {
    case Code::kScalar1: return with_dim.template operator()<1>();
    case Code::kScalar2: return with_dim.template operator()<2>();
    case Code::kScalar3: return with_dim.template operator()<3>();
    case Code::kScalar4: return with_dim.template operator()<4>();
    case Code::kTrellis2: return with_dim.template operator()<20>();
    case Code::kTrellis2p5: return with_dim.template operator()<25>();
    case Code::kTrellis3: return with_dim.template operator()<30>();
    case Code::kTrellis3p5: return with_dim.template operator()<35>();
    case Code::kTrellis4: return with_dim.template operator()<40>();
  }
}

// Calls f<rows>() for at least `rows`.
template <class F>
void with_rows(std::size_t rows, F&& f) {
  if (rows == 1) return f.template operator()<1>();
  if (rows <= 4) return f.template operator()<4>();
  if (rows <= 8) return f.template operator()<8>();
  f.template operator()<16>();
}

void decode(const CodedRegion& region, Mat<std::int8_t> out) {
  with_code(region, [&]<int kCode, std::size_t>() { decode_rows<kCode>(region, out); });
}

void score(const CodedRegion& keys, const Int8Queries& q, std::byte*, Mat<float> scores) {
  with_code(keys, [&]<int kCode, std::size_t kDim>() {
    with_rows(scores.rows, [&]<std::size_t kRows>() { score_rows<kCode, kDim, kRows>(keys, q, scores); });
  });
}

// Bytes: the low 5 bits name one of 32 steps within an octave, the others the octave, 4 being that of 1.
AXON_AVX512 void factors(turboquant::ScaleKind kind, const std::uint8_t* scales, float power, float step,
                         std::span<float> out) {
  struct Steps {
    alignas(64) float values[32];
  };
  static const Steps steps = [] {
    Steps all{};
    for (std::uint16_t i = 0; i < 32; ++i) {
      all.values[i] = turboquant::load_scale(turboquant::ScaleKind::kByte, static_cast<std::uint16_t>(128 + i), 0);
    }
    return all;
  }();
  for (std::size_t t = 0; t < out.size(); t += 16) {
    const __mmask16 mask = first_lanes(out.size() - t);
    __m512 scale;
    if (kind == turboquant::ScaleKind::kHalf) {
      scale = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, scales + 2 * t));
    } else {
      const __m512i b = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, scales + t));
      const __m512i of_step = _mm512_castps_si512(
          _mm512_permutex2var_ps(_mm512_load_ps(steps.values), b, _mm512_load_ps(steps.values + 16)));
      const __m512i octave = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_srli_epi32(b, 5), _mm512_set1_epi32(4)), 23);
      scale = _mm512_castsi512_ps(_mm512_maskz_add_epi32(_mm512_test_epi32_mask(b, b), of_step, octave));
    }
    const __m512 factor = _mm512_mul_ps(_mm512_mul_ps(scale, _mm512_set1_ps(power)), _mm512_set1_ps(step));
    if (out.size() - t >= 16) {  // masked stores are slow to be read again
      _mm512_storeu_ps(out.data() + t, factor);
    } else {
      _mm512_mask_storeu_ps(out.data() + t, mask, factor);
    }
  }
}

AXON_AVX512 void weigh(const CodedRegion& values, Mat<const float> weights, Weights& out) {
  constexpr std::size_t kVectors = turboquant::kTileTokens / 16;
  const std::size_t T = values.tokens();
  for (std::size_t r = 0; r < weights.rows; ++r) {
    __m512 scaled[kVectors];
    __m512 largest = _mm512_setzero_ps();
    AXON_UNROLL
    for (std::size_t i = 0; i < kVectors; ++i) {
      const __mmask16 mask = first_lanes(16 * i < T ? T - 16 * i : 0);
      const __m512 factor = _mm512_maskz_loadu_ps(mask, values.factors.data() + 16 * i);
      scaled[i] = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weights.row_ptr(r) + 16 * i), factor);
      largest = _mm512_max_ps(largest, scaled[i]);
    }
    const float unit = _mm512_reduce_max_ps(largest) / 255.0f;
    out.units[r] = unit > 0 ? unit : 0.0f;
    const __m512 divisor = _mm512_set1_ps(unit > 0 ? unit : 1.0f);  // else all are 0, or so small that they count as 0
    AXON_UNROLL
    for (std::size_t i = 0; i < kVectors; ++i) {
      // To nearest, halves away from zero: + 0.5 would round twice.
      const __m512 x = _mm512_div_ps(scaled[i], divisor);
      const __m512i whole = _mm512_cvttps_epi32(x);
      const __m512 rest = _mm512_sub_ps(x, _mm512_cvtepi32_ps(whole));
      const __mmask16 up = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(0.5f), _CMP_GE_OQ);
      const __m512i rounded = _mm512_mask_sub_epi32(whole, up, whole, _mm512_set1_epi32(-1));
      _mm_store_si128(reinterpret_cast<__m128i*>(out.bytes[r] + 16 * i), _mm512_cvtusepi32_epi8(rounded));
    }
  }
}

void add(const CodedRegion& values, const Weights& weights, std::byte*, Mat<float> out) {
  with_code(values, [&]<int kCode, std::size_t kDim>() {
    with_rows(out.rows, [&]<std::size_t kRows>() { add_rows<kCode, kDim, kRows>(values, weights, out); });
  });
}

}  // namespace

const Kernels kAvx512Kernels{factors, decode, score, weigh, add};

}  // namespace axon::cpu::coded

#endif
