#pragma once
// Numbers in the small texts that operating systems print: whole, unsigned, or none at all.

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace axon {

// Without the spaces and line ends around it.
inline std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// All of `text` as a number of 64 bits; no value for "max", signs, trailing words, too many digits.
inline std::optional<std::uint64_t> whole_number(std::string_view text) {
  text = trimmed(text);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace axon
