#include "quant/turboquant_scalar.h"

#include <algorithm>

#include "base/error.h"

namespace axon::turboquant {
namespace {

unsigned nearest(std::span<const float> centroids, float x) {
  unsigned index = 0;
  for (std::size_t i = 1; i < centroids.size(); ++i) {
    index += x >= 0.5f * (centroids[i - 1] + centroids[i]) ? 1u : 0u;
  }
  return index;
}

// Bits of element i in a plane of `width` bits that starts at `plane`; width divides 8.
struct Place {
  std::size_t byte;
  unsigned shift;
};
Place place(std::size_t plane, unsigned width, std::size_t i) {
  const std::size_t bit = i * width;
  return {plane + bit / 8, static_cast<unsigned>(bit % 8)};
}

}  // namespace

void encode_scalar(Code code, std::span<const float> x, std::span<std::uint8_t> planes) {
  const Codebook& book = codebook(code);
  const auto bits = static_cast<unsigned>(bits_x2(code) / 2);
  const unsigned low_bits = bits == 3 ? 2 : bits;
  const std::size_t high_plane = x.size() * low_bits / 8;
  AXON_CHECK(!is_trellis(code) && planes.size() == code_bytes(code, x.size()));
  std::fill(planes.begin(), planes.end(), std::uint8_t{0});
  for (std::size_t i = 0; i < x.size(); ++i) {
    const unsigned index = nearest(book.exact, x[i]);
    const Place low = place(0, low_bits, i);
    planes[low.byte] = static_cast<std::uint8_t>(planes[low.byte] | (index & ((1u << low_bits) - 1)) << low.shift);
    if (bits != 3) continue;
    const Place high = place(high_plane, 1, i);
    planes[high.byte] = static_cast<std::uint8_t>(planes[high.byte] | (index >> 2) << high.shift);
  }
}

void read_indices(Code code, std::span<const std::uint8_t> planes, std::span<std::uint8_t> indices) {
  const auto bits = static_cast<unsigned>(bits_x2(code) / 2);
  const unsigned low_bits = bits == 3 ? 2 : bits;
  const std::size_t high_plane = indices.size() * low_bits / 8;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const Place low = place(0, low_bits, i);
    unsigned index = (static_cast<unsigned>(planes[low.byte]) >> low.shift) & ((1u << low_bits) - 1);
    if (bits == 3) {
      const Place high = place(high_plane, 1, i);
      index |= ((static_cast<unsigned>(planes[high.byte]) >> high.shift) & 1u) << 2;
    }
    indices[i] = static_cast<std::uint8_t>(index);
  }
}

}  // namespace axon::turboquant
