#pragma once
// Sizes of memory as their own type, and the checked arithmetic that every size from a file goes through.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include <fmt/format.h>

namespace axon {

// A size of memory. Its own type, so that bytes, element counts and MiB cannot be mixed up.
struct Bytes {
  std::uint64_t count = 0;
  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes other) {
    count += other.count;
    return *this;
  }
  constexpr Bytes& operator-=(Bytes other) {
    count -= other.count;
    return *this;
  }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return a += b; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return a -= b; }
};

inline namespace literals {
constexpr Bytes operator""_B(unsigned long long n) { return {n}; }
constexpr Bytes operator""_KiB(unsigned long long n) { return {n << 10}; }
constexpr Bytes operator""_MiB(unsigned long long n) { return {n << 20}; }
constexpr Bytes operator""_GiB(unsigned long long n) { return {n << 30}; }
}  // namespace literals

inline std::string to_string(Bytes b) {
  if (b < 1_KiB) return fmt::format("{} B", b.count);
  if (b < 1_MiB) return fmt::format("{:.1f} KiB", static_cast<double>(b.count) / 0x1p10);
  if (b < 1_GiB) return fmt::format("{:.1f} MiB", static_cast<double>(b.count) / 0x1p20);
  return fmt::format("{:.2f} GiB", static_cast<double>(b.count) / 0x1p30);
}

// Unsigned products and sums that may come from a file: no value if they do not fit 64 bits.
inline std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}
inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = 0;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace axon
