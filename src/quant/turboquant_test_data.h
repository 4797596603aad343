#pragma once
// Random vectors and the measures that the tests of TurboQuant share.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "quant/turboquant.h"

namespace axon::turboquant {

inline constexpr std::size_t kDim = 80;

// [count, kDim] standard normal; their directions are uniform on the sphere.
inline std::vector<float> gaussian(std::size_t count, std::uint64_t stream) {
  const CounterRng rng(80, stream);
  std::vector<float> out(count * kDim);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = rng.normal(i);
  return out;
}

inline std::span<const float> row(const std::vector<float>& rows, std::size_t i) {
  return {rows.data() + i * kDim, kDim};
}

inline double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// |a - b|^2 / |a|^2
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  double error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
  }
  return error / dot(a, a);
}

inline std::vector<float> round_trip(const Coder& coder, std::span<const float> x) {
  std::vector<std::uint8_t> codes(code_bytes(coder.code, x.size()));
  std::vector<float> back(x.size());
  const auto scale = coder.encode(x, codes);
  coder.decode(codes, scale.value(), back);
  return back;
}

// E |x - x^|^2 / |x|^2 where the decoder knows the norm of x: x^ = |x| / sqrt(A) c.
inline double distortion(Code code, const std::vector<float>& rows) {
  const Coder coder{.code = code};
  std::vector<std::uint8_t> codes(code_bytes(code, kDim));
  std::vector<float> back(kDim);
  double sum = 0;
  for (std::size_t i = 0; i < rows.size() / kDim; ++i) {
    const auto x = row(rows, i);
    if (!coder.encode(x, codes)) return -1;
    coder.decode(codes, static_cast<float>(std::sqrt(dot(x, x) / static_cast<double>(kDim))), back);
    sum += relative_error(x, back);
  }
  return sum / static_cast<double>(rows.size() / kDim);
}

}  // namespace axon::turboquant
