#include "base/utf8.h"

#include <cstdint>
#include <cstring>

namespace axon::utf8 {
namespace {

struct Lead {
  std::size_t length;  // of the character; 0: cannot lead
  unsigned char low;   // range of the second byte
  unsigned char high;
};

Lead lead(unsigned char byte) {
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Length of the leading run of ASCII, rounded down to whole words.
std::size_t ascii_words(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080ull) != 0) break;
  }
  return at;
}

}  // namespace

Step step(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {Kind::kWhole, 1};
  const Lead first = lead(byte(0));
  if (first.length == 0) return {Kind::kBroken, 1};
  for (std::size_t i = 1; i < first.length; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, i};
    const bool fits = i == 1 ? byte(1) >= first.low && byte(1) <= first.high : (byte(i) & 0xC0u) == 0x80;
    if (!fits) return {Kind::kBroken, i};
  }
  return {Kind::kWhole, first.length};
}

std::optional<std::size_t> first_error(std::string_view text) {
  std::size_t at = ascii_words(text);
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Step next = step(text.substr(at));
    if (next.kind != Kind::kWhole) return at;
    at += next.length;
    at += ascii_words(text.substr(at));
  }
  return std::nullopt;
}

char32_t code_point(std::string_view character) {
  const auto byte = [character](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(character[i]));
  };
  if (character.size() == 1) return byte(0);
  char32_t point = byte(0) & (0x7Fu >> character.size());
  for (std::size_t i = 1; i < character.size(); ++i) point = point << 6 | (byte(i) & 0x3Fu);
  return point;
}

Converted convert(std::string_view text, char* out) {
  Converted done{0, 0};
  while (done.read < text.size()) {
    const std::string_view rest = text.substr(done.read);
    const Step next = step(rest);
    if (next.kind == Kind::kIncomplete) break;
    const std::string_view bytes = next.kind == Kind::kWhole ? rest.substr(0, next.length) : kReplacement;
    std::memcpy(out + done.written, bytes.data(), bytes.size());
    done.read += next.length;
    done.written += bytes.size();
  }
  return done;
}

}  // namespace axon::utf8
