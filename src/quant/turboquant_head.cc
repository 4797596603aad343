#include "quant/turboquant_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "quant/turboquant_recode.h"
#include "quant/turboquant_reference.h"
#include "quant/turboquant_vector.h"
#include "tensor/dtype.h"

namespace axon::turboquant {
namespace {

constexpr std::uint16_t kHalfNan = 0x7E00;

std::uint16_t to_tail_slowly(std::span<const float> x, std::int8_t* values) {
  std::uint16_t half = kHalfNan;
  if (!encode_tail(x, {values, x.size()}, half)) std::fill_n(values, x.size(), std::int8_t{0});
  return half;
}

void encode_slowly(Code code, Mat<const std::int8_t> values, std::span<const float> factors, std::uint8_t* codes,
                   std::span<float> scales) {
  const std::size_t size = code_bytes(code, values.cols);
  for (std::size_t t = 0; t < values.rows; ++t) {
    scales[t] = recode(code, values.row(t), factors[t], {codes + t * size, size});
  }
}

// Keys, or values: what the two have each their own of.
struct Side {
  Code code;
  std::size_t codes_in_tile, scales_in_tile, values_in_tail, scales_in_tail;
  std::int32_t* exponent;
  std::uint64_t* saturated;
};
std::array<Side, 2> sides_of(const HeadView& head, std::size_t tile_tokens) {
  const TileOffsets tile = tile_offsets(head.layout, head.head_dim, tile_tokens);
  const TileOffsets tail = tail_offsets(head.head_dim, head.plan.tail_tokens);
  HeadHeader& header = head.header();
  return {Side{head.layout.key, tile.key_codes, tile.key_scales, tail.key_codes, tail.key_scales, &header.key_exponent,
               &header.key_saturated},
          Side{head.layout.value, tile.value_codes, tile.value_scales, tail.value_codes, tail.value_scales,
               &header.value_exponent, &header.value_saturated}};
}

// The tokens of one call.
struct Fresh {
  Mat<const float> rows;  // [T, A]
  std::uint64_t first;
};

// A median: a first token of unlike size, which some models have, does not decide for all that follow.
float typical(std::array<float, kFlushTokens> scales) {
  std::sort(scales.begin(), scales.end());
  const auto zeros = static_cast<std::size_t>(std::count(scales.begin(), scales.end(), 0.0f));
  return scales[std::min((kFlushTokens + zeros) / 2, kFlushTokens - 1)];
}

// Codes tokens [p, p + kFlushTokens), from the tail or as they would lie there.
void flush(const HeadView& head, std::uint64_t p, const Side& side, const Fresh& fresh, bool sets_exponent,
           const Codec& codec) {
  const std::size_t A = head.head_dim;
  std::array<std::int8_t, kFlushTokens * kMaxHeadDim> buffer;
  std::array<float, kFlushTokens> factors, scales;
  const Mat<std::int8_t> values(buffer.data(), kFlushTokens, A);
  for (std::size_t i = 0; i < kFlushTokens; ++i) {
    const std::uint64_t token = p + i;
    std::uint16_t half;
    if (token < fresh.first) {
      const std::size_t slot = token % head.plan.tail_tokens;
      std::memcpy(values.row_ptr(i), head.tail() + side.values_in_tail + slot * A, A);
      half = load_scale_bits(ScaleKind::kHalf, head.tail() + side.scales_in_tail, slot);
    } else {
      half = codec.to_tail(fresh.rows.row(token - fresh.first), values.row_ptr(i));
    }
    factors[i] = f16_to_float(half);
    if (!std::isfinite(factors[i])) {
      factors[i] = 0;
      ++*side.saturated;
    }
  }
  const std::size_t ring_slot = p % head.plan.coded_tokens, slot = ring_slot % kTileTokens;
  std::uint8_t* tile = head.tile(ring_slot / kTileTokens);
  codec.encode(side.code, values, factors, tile + side.codes_in_tile + slot * code_bytes(side.code, A), scales);
  if (sets_exponent) *side.exponent = scale_exponent(typical(scales));
  for (std::size_t i = 0; i < kFlushTokens; ++i) {
    const StoredScale stored = store_scale(head.layout.scale, scales[i], *side.exponent);
    store_scale_bits(head.layout.scale, stored.bits, tile + side.scales_in_tile, slot + i);
    if (stored.saturated) ++*side.saturated;
  }
}

void read_side(const HeadView& head, const TokenRun& run, const Side& side, Mat<float> out) {
  const std::size_t A = head.head_dim, size = code_bytes(side.code, A);
  for (std::size_t i = 0; i < run.count; ++i) {
    std::array<std::int8_t, kMaxHeadDim> values;
    float factor;
    const std::size_t slot = run.slot + i;
    if (run.in_tail) {
      std::memcpy(values.data(), head.tail() + side.values_in_tail + slot * A, A);
      factor = f16_to_float(load_scale_bits(ScaleKind::kHalf, head.tail() + side.scales_in_tail, slot));
    } else {
      const std::uint8_t* tile = head.tile(run.tile);
      decode_codes(side.code, {tile + side.codes_in_tile + slot * size, size}, {values.data(), A});
      const std::uint16_t bits = load_scale_bits(head.layout.scale, tile + side.scales_in_tile, slot);
      factor = load_scale(head.layout.scale, bits, *side.exponent) * codebook(side.code).step;
    }
    for (std::size_t a = 0; a < A; ++a) out.row_ptr(i)[a] = factor * static_cast<float>(values[a]);
  }
}

}  // namespace

const Codec kReferenceCodec = {to_tail_slowly, encode_slowly};

void append(const HeadView& head, Mat<const float> k, Mat<const float> v, std::uint64_t first, const Codec& codec) {
  const HeadPlan& plan = head.plan;
  const std::uint64_t passed = first + k.rows, before = plan.left_tail(first), border = plan.left_tail(passed);
  const std::array<Fresh, 2> fresh = {Fresh{k, first}, Fresh{v, first}};
  if (plan.coded_tokens != 0) {
    const std::uint64_t start = std::max(before, border - std::min<std::uint64_t>(border, plan.coded_tokens));
    for (std::uint64_t p = start; p < border; p += kFlushTokens) {
      const std::size_t tile = p % plan.coded_tokens / kTileTokens;
      const std::array<Side, 2> sides = sides_of(head, plan.tokens_of_tile(tile));
      for (std::size_t s = 0; s < 2; ++s) flush(head, p, sides[s], fresh[s], before == 0 && p == start, codec);
    }
  }
  const std::array<Side, 2> sides = sides_of(head, kTileTokens);
  for (std::uint64_t p = std::max(first, border); p < passed; ++p) {
    const std::size_t slot = p % plan.tail_tokens;
    for (std::size_t s = 0; s < 2; ++s) {
      auto* values = reinterpret_cast<std::int8_t*>(head.tail() + sides[s].values_in_tail + slot * head.head_dim);
      const std::uint16_t half = codec.to_tail(fresh[s].rows.row(p - first), values);
      store_scale_bits(ScaleKind::kHalf, half, head.tail() + sides[s].scales_in_tail, slot);
    }
  }
}

void read(const HeadView& head, std::uint64_t first, std::uint64_t passed, Mat<float> k, Mat<float> v) {
  for (std::size_t row = 0; row < k.rows;) {
    const TokenRun run = head.plan.run_from(first + row, passed);
    const std::size_t count = std::min(run.count, k.rows - row);
    const std::size_t tokens = run.in_tail ? kTileTokens : head.plan.tokens_of_tile(run.tile);
    const std::array<Side, 2> sides = sides_of(head, tokens);
    read_side(head, {run.in_tail, run.tile, run.slot, count}, sides[0], k.rows_from(row, count));
    read_side(head, {run.in_tail, run.tile, run.slot, count}, sides[1], v.rows_from(row, count));
    row += count;
  }
}

}  // namespace axon::turboquant
