#include "tokenizer/byte_level.h"

#include <array>

#include "base/utf8.h"

namespace axon::byte_level {
namespace {

constexpr char32_t kFirstStandIn = 0x100;

constexpr bool is_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> characters{};
  std::array<unsigned char, 68> stand_ins{};  // the bytes of U+0100...
  constexpr Alphabet() {
    std::size_t used = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (is_itself(byte)) {
        characters[byte] = byte;
      } else {
        characters[byte] = kFirstStandIn + static_cast<char32_t>(used);
        stand_ins[used++] = static_cast<unsigned char>(byte);
      }
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

std::optional<unsigned char> byte_of(char32_t character) {
  if (character < kFirstStandIn) {
    if (!is_itself(character)) return std::nullopt;
    return static_cast<unsigned char>(character);
  }
  const std::size_t index = character - kFirstStandIn;
  if (index >= kAlphabet.stand_ins.size()) return std::nullopt;
  return kAlphabet.stand_ins[index];
}

std::string spelling(unsigned char byte) {
  const char32_t character = kAlphabet.characters[byte];
  if (character < 0x80) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
}

std::optional<std::size_t> to_bytes(std::string_view spelled, char* out) {
  std::size_t count = 0;
  while (!spelled.empty()) {
    const std::size_t length = utf8::step(spelled).length;
    const auto byte = byte_of(utf8::code_point(spelled.substr(0, length)));
    if (!byte) return std::nullopt;
    if (out != nullptr) out[count] = static_cast<char>(*byte);
    ++count;
    spelled.remove_prefix(length);
  }
  return count;
}

}  // namespace axon::byte_level
