#pragma once
// UTF-8, byte by byte: what is well formed (Unicode 15, table 3-7), where it is not, and U+FFFD for what is not.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace axon::utf8 {

enum class Kind {
  kWhole,       // one character
  kBroken,      // bytes that no continuation could save: a maximal subpart, which becomes one U+FFFD
  kIncomplete,  // a proper prefix of a character, and the text ends
};
struct Step {
  Kind kind;
  std::size_t length;  // in bytes, at least 1
};

// What stands at the start of `text`, which is not empty.
Step step(std::string_view text);

// The offset of the first byte that does not belong to a well-formed character; none if all do.
std::optional<std::size_t> first_error(std::string_view text);

// The code point of a whole character, `character` being exactly its bytes.
char32_t code_point(std::string_view character);

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Writes `text` to `out`, broken parts as U+FFFD, up to an incomplete character at the end; at most 3 bytes for each
// byte read. Returns the number of bytes read and of bytes written.
struct Converted {
  std::size_t read;
  std::size_t written;
};
Converted convert(std::string_view text, char* out);

}  // namespace axon::utf8
