// Products with codes for AVX-512 with VNNI, VBMI and GFNI. A register holds 16 elements of 4 tokens, a token in each
// lane of 128 bits: 16 elements of a trellis code are 4 to 8 whole bytes, so one masked broadcast a token brings them
// to both qwords of its lane, and each byte picks its own 8 bits (vpmultishiftqb). The tables are odd, so 128 entries
// and a sign do for 256 (vpermi2b). Lanes that are tokens need no sum across tokens, and one a vector only every 16
// tokens. Heads of 80 elements have kernels of their own: places are known in advance, so whole loads are permuted
// instead, and where pairs of elements fit two bytes, values come with an element's tokens side by side, as their sums
// want them.

#include "kernels/cpu/coded_avx512.h"

#if defined(__x86_64__)

#include <utility>

namespace axon::cpu::coded {
namespace {

using turboquant::Code;

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

// Not the intrinsic: GCC 12 repeats its shuffle wherever the query is used.
AXON_AVX512_INLINE __m512i load_query(const std::int8_t* q) {
  __m512i v;
  asm("vbroadcasti32x4 %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const char(*)[kLane]>(q)));
  return v;
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

// Asks for what will be read next, as far as a group of this region reaches. Into the second cache: from memory that is
// a sixth faster than into the first, which has room for fewer requests.
AXON_AVX512_INLINE void prefetch_group(const CodedRegion& region, std::size_t t, std::size_t size) {
  if (region.next == nullptr) return;
  const std::uint8_t* next = region.next + t * size;
  AXON_UNROLL
  for (std::size_t i = 0; i < kLanes * size; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
}

// Of a vector, known in advance if kDim is.
template <int kCode, std::size_t kDim>
AXON_AVX512_INLINE std::size_t size_of_vector(const CodedRegion& region) {
  if constexpr (kDim == 0) return region.vector_bytes();
  return kCode == kInt8 ? kDim : turboquant::code_bytes(static_cast<Code>(kCode), kDim);
}

AXON_AVX512_INLINE void prefetch_scales(const CodedRegion& region, std::size_t size) {
  if (region.next == nullptr) return;
  const std::uint8_t* scales = region.next + region.tokens() * size;
  _mm_prefetch(scales, _MM_HINT_T1);
  _mm_prefetch(scales + 64, _MM_HINT_T1);
}

// Sums of tokens [t, t + 4), one a lane, for kRows queries.
template <int kCode, std::size_t kDim, std::size_t kRows>
AXON_AVX512_INLINE void dots_of_group(const CodedRegion& keys, std::size_t t, const std::int8_t* const (&query)[kRows],
                                      const Table& table, __m512i (&dots)[kRows]) {
  const std::size_t size = size_of_vector<kCode, kDim>(keys);
  const Group group = group_at(keys, t, size);
  prefetch_group(keys, t, size);
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
    for (std::size_t c = 1; c < keys.head_dim / kLane; ++c) add(c, decode_16<kCode>(group, c, keys, size, table));
  }
}

AXON_AVX512_INLINE __m512 scored(__m512i sum, __m512 factors, float scale) {
  return _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), factors), _mm512_set1_ps(scale));
}

// Up to kRows queries; rows that are missing repeat the last and are not stored. kDim: head_dim, or 0 for any.
template <int kCode, std::size_t kDim, std::size_t kRows>
AXON_AVX512 void score_rows(CodedRegions regions, const Int8Queries& q, Mat<float> scores) {
  const Table table = load_table<kCode>(Bias::k128);
  const std::int8_t* query[kRows];
  __m512i bias[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    query[r] = q.values.row_ptr(r < scores.rows ? r : scores.rows - 1);
    bias[r] = bias_of(query[r], q.values.cols / kLane);
  }
  std::size_t first = 0;
  for (const CodedRegion& keys : regions) {
    const std::size_t T = keys.tokens();
    prefetch_scales(keys, size_of_vector<kCode, kDim>(keys));
    for (std::size_t t = 0; t < T; t += 16) {
      const bool whole = T - t >= 16;  // masked loads and stores wait for one another
      __m512i sums[4][kRows];
      for (std::size_t g = 0; g < 4; ++g) {
        const std::size_t at = t + kLanes * g;
        dots_of_group<kCode, kDim>(keys, at < T ? at : T - 1, query, table, sums[g]);
      }
      const __mmask16 mask = first_lanes(T - t);
      const float* of_keys = keys.factors.data() + t;
      const __m512 factors = whole ? _mm512_loadu_ps(of_keys) : _mm512_maskz_loadu_ps(mask, of_keys);
      AXON_UNROLL
      for (std::size_t r = 0; r < kRows; ++r) {
        if (r >= scores.rows) break;
        const __m512i biased = sum_lanes(sums[0][r], sums[1][r], sums[2][r], sums[3][r]);
        const __m512 score = scored(_mm512_sub_epi32(biased, bias[r]), factors, q.scales[r]);
        float* out = scores.row_ptr(r) + first + t;
        if (whole) {
          _mm512_storeu_ps(out, score);
        } else {
          _mm512_mask_storeu_ps(out, mask, score);
        }
      }
    }
    first += T;
  }
}

// One query, a known head_dim and regions of whole groups: the query stays in registers.
template <int kCode, std::size_t kDim>
AXON_AVX512 void score_row(CodedRegions regions, const std::int8_t* query, float scale, float* scores) {
  constexpr std::size_t kChunks = kDim / kLane;
  const Table table = load_table<kCode>(Bias::k128);
  const __m512i bias = bias_of(query, kChunks);
  __m512i q[kChunks];
  AXON_UNROLL
  for (std::size_t c = 0; c < kChunks; ++c) q[c] = load_query(query + kLane * c);
  for (const CodedRegion& keys : regions) {
    const std::size_t size = size_of_vector<kCode, kDim>(keys), T = keys.tokens();
    prefetch_scales(keys, size);
    for (std::size_t t = 0; t < T; t += kLane) {
      __m512i sums[4];
      AXON_UNROLL
      for (std::size_t g = 0; g < 4; ++g) {
        const std::size_t at = t + kLanes * g < T ? t + kLanes * g : T - kLanes;
        const Group group = {keys.codes + at * size, {0, size, 2 * size, 3 * size}};
        prefetch_group(keys, at, size);
        sums[g] = _mm512_setzero_si512();
        each_16<kDim>([&]<std::size_t kC>() AXON_AVX512 __attribute__((always_inline)) {
          add_dots(sums[g], decode_16<kCode, kDim, kC>(group, table), q[kC]);
        });
      }
      const __m512i sum = _mm512_sub_epi32(sum_lanes(sums[0], sums[1], sums[2], sums[3]), bias);
      if (T - t >= kLane) {  // masked loads and stores wait for one another
        _mm512_storeu_ps(scores + t, scored(sum, _mm512_loadu_ps(keys.factors.data() + t), scale));
      } else {
        const __mmask16 mask = first_lanes(T - t);
        const __m512 factors = _mm512_maskz_loadu_ps(mask, keys.factors.data() + t);
        _mm512_mask_storeu_ps(scores + t, mask, scored(sum, factors, scale));
      }
    }
    scores += T;
  }
}

// sum += weights of tokens [t, t + 4) * their 16 elements.
AXON_AVX512_INLINE void add_weighted(__m512i& sum, const std::uint8_t* weights, __m512i elements) {
  std::int32_t w;
  std::memcpy(&w, weights, 4);
  add_dots(sum, _mm512_set1_epi32(w), elements);
}

// y + sum * unit
AXON_AVX512_INLINE __m512 added(__m512 y, __m512i sum, float unit) {
  __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(unit));
  asm("" : "+v"(product));  // two roundings, not a fused one
  return _mm512_add_ps(y, product);
}

// One row of weights and a known head_dim: all sums and outputs stay in registers.
template <int kCode, std::size_t kDim>
AXON_AVX512 void add_row(CodedRegions regions, const Weights* weights, float* out) {
  constexpr std::size_t kChunks = kDim / kLane;
  const Table table = load_table<kCode>(Bias::kNone);
  __m512 y[kChunks];
  AXON_UNROLL
  for (std::size_t c = 0; c < kChunks; ++c) y[c] = _mm512_loadu_ps(out + kLane * c);
  for (const CodedRegion& values : regions) {
    const std::size_t size = size_of_vector<kCode, kDim>(values);
    prefetch_scales(values, size);
    __m512i sums[kChunks];
    AXON_UNROLL
    for (std::size_t c = 0; c < kChunks; ++c) sums[c] = _mm512_setzero_si512();
    const std::uint8_t* row = weights->bytes[0];
    for (std::size_t t = 0; t < values.tokens(); t += kLanes) {
      const Group group = group_at(values, t, size);
      prefetch_group(values, t, size);
      each_16<kDim>([&]<std::size_t kC>() AXON_AVX512 __attribute__((always_inline)) {
        add_weighted(sums[kC], row + t, decode_16<kCode, kDim, kC, Order::kElements>(group, table));
      });
    }
    AXON_UNROLL
    for (std::size_t c = 0; c < kChunks; ++c) y[c] = added(y[c], sums[c], weights->units[0]);
    ++weights;
  }
  AXON_UNROLL
  for (std::size_t c = 0; c < kChunks; ++c) _mm512_storeu_ps(out + kLane * c, y[c]);
}

// Up to kRows rows of weights, as above; for each 16 elements through all tokens.
template <int kCode, std::size_t kDim, std::size_t kRows>
AXON_AVX512 void add_rows(const CodedRegion& values, const Weights& weights, Mat<float> out) {
  constexpr std::size_t kSets = kRows == 1 ? 4 : kRows <= 4 ? 2 : 1;  // of sums: one alone waits for itself
  const std::size_t size = size_of_vector<kCode, kDim>(values), T = values.tokens();
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
      for (std::size_t r = 0; r < kRows; ++r) add_weighted(to[r], row[r] + t, four);
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
      _mm512_storeu_ps(y, added(_mm512_loadu_ps(y), dots[0][r], weights.units[r]));
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
    for (std::size_t c = 1; c < values.head_dim / kLane; ++c) sum_any(c);
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

// Calls f(regions, index of the first) for stretches of regions that one kernel reads: of one code, all groups whole or
// not. Regions without tokens are left out.
template <class F>
void with_stretches(CodedRegions regions, F&& f) {
  const auto kind = [](const CodedRegion& region) { return std::pair(region.code, region.tokens() % kLanes == 0); };
  for (std::size_t first = 0, n; first < regions.size(); first += n) {
    n = 1;
    if (regions[first].tokens() == 0) continue;
    while (first + n < regions.size() && regions[first + n].tokens() != 0 &&
           kind(regions[first + n]) == kind(regions[first]))
      ++n;
    f(regions.subspan(first, n), first);
  }
}

void score(CodedRegions keys, const Int8Queries& q, std::byte*, Mat<float> scores) {
  std::size_t t = 0;
  with_stretches(keys, [&](CodedRegions some, std::size_t) {
    const std::size_t tokens = tokens_of(some);
    const Mat<float> to = scores.cols_from(t, tokens);
    with_code(some[0], [&]<int kCode, std::size_t kDim>() {
      if constexpr (kDim != 0) {
        if (to.rows == 1) return score_row<kCode, kDim>(some, q.values.data, q.scales[0], to.data);
      }
      with_rows(to.rows, [&]<std::size_t kRows>() { score_rows<kCode, kDim, kRows>(some, q, to); });
    });
    t += tokens;
  });
}

void add(CodedRegions values, const Weights* weights, std::byte*, Mat<float> out) {
  with_stretches(values, [&](CodedRegions some, std::size_t first) {
    with_code(some[0], [&]<int kCode, std::size_t kDim>() {
      if constexpr (kDim != 0) {
        if (out.rows == 1) return add_row<kCode, kDim>(some, weights + first, out.data);
      }
      with_rows(out.rows, [&]<std::size_t kRows>() {
        for (std::size_t i = 0; i < some.size(); ++i) add_rows<kCode, kDim, kRows>(some[i], weights[first + i], out);
      });
    });
  });
}

}  // namespace

const Kernels kAvx512Kernels{factors_avx512, decode, score, weigh_avx512, add};

}  // namespace axon::cpu::coded

#endif
