#pragma once
// A counter-based random number generator: value i of stream `key` depends on nothing but (key, i). So results do not
// depend on the number of threads or on batching. SplitMix64's finaliser (Steele, Lea, Flood 2014) over the counter.

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace axon {

constexpr std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// FNV-1a: gives a name (of a tensor, say) its own stream.
constexpr std::uint64_t hash64(std::string_view text) {
  std::uint64_t h = 0xCBF29CE484222325ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return h;
}

class CounterRng {
 public:
  explicit constexpr CounterRng(std::uint64_t seed, std::uint64_t stream = 0)
      : key_(mix64(mix64(seed + 0x9E3779B97F4A7C15ull) ^ mix64(stream ^ 0xD1B54A32D192ED03ull))) {}
  constexpr std::uint64_t bits(std::uint64_t i) const { return mix64(key_ + (i + 1) * 0x9E3779B97F4A7C15ull); }
  // Uniform in [0, 1).
  constexpr double uniform(std::uint64_t i) const { return static_cast<double>(bits(i) >> 11) * 0x1p-53; }
  // Uniform in [-limit, limit), from 24 bits.
  constexpr float symmetric(std::uint64_t i, float limit) const {
    return (static_cast<float>(static_cast<std::int32_t>(bits(i) >> 40)) * 0x1p-23f - 1.0f) * limit;
  }
  // Standard normal (Box and Muller), from the two halves of one draw.
  float normal(std::uint64_t i) const {
    const std::uint64_t b = bits(i);
    const double u = static_cast<double>((b >> 32) + 1) * 0x1p-32;
    const double v = static_cast<double>(b & 0xFFFFFFFFu) * 0x1p-32;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v));
  }

 private:
  std::uint64_t key_;
};

}  // namespace axon
