#pragma once
// One head's compressed cache: how tokens come in, and the slow way to read them back.

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/turboquant_layout.h"
#include "tensor/mat.h"

namespace axon::turboquant {

// A head's bytes, as plan_head laid them out. The newest tokens are int8 in the tail's slots, position modulo room; the
// older ones are coded in the tiles' slots, likewise.
struct HeadView {
  const Layout& layout;
  std::size_t head_dim;
  const HeadPlan& plan;
  std::uint8_t* bytes;

  HeadHeader& header() const { return *reinterpret_cast<HeadHeader*>(bytes); }
  std::uint8_t* tail() const { return bytes + plan.tail_at; }
  std::uint8_t* tile(std::size_t i) const { return bytes + plan.offset_of_tile(i); }
};

// The two inner loops of append(). Twins give the same bytes.
struct Codec {
  // values [A] <- x [A] / scale in int8; returns the scale in half precision. As encode_tail, but a vector that holds a
  // NaN or an infinity becomes zeros with a NaN for a scale.
  std::uint16_t (*to_tail)(std::span<const float> x, std::int8_t* values);
  // As recode, for each row: values [T, A], factors and scales [T]; codes lie one after the other.
  void (*encode)(Code code, Mat<const std::int8_t> values, std::span<const float> factors, std::uint8_t* codes,
                 std::span<float> scales);
};
extern const Codec kReferenceCodec;

// Takes in tokens first, first + 1, ...; k, v [T, A] in the cache's basis. All tokens before `first` have been taken in
// since position 0. What is held is the same however tokens are divided among calls: what is coded was int8 before. A
// token that leaves the window before its flush is not coded. Scales beyond their range are counted in the header.
void append(const HeadView& head, Mat<const float> k, Mat<const float> v, std::uint64_t first, const Codec& codec);

// k, v [T, A] <- tokens first, first + 1, ... that are still held when `passed` tokens have.
void read(const HeadView& head, std::uint64_t first, std::uint64_t passed, Mat<float> k, Mat<float> v);

}  // namespace axon::turboquant
