#pragma once
// The alphabet of byte-level BPE files: every byte spelled as one printable character, as GPT-2's encoder.py made it
// up.
// '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF stand for themselves; the other bytes, in order, are U+0100..U+0143.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace axon::byte_level {

// The byte that a character spells; none for a character outside the alphabet.
std::optional<unsigned char> byte_of(char32_t character);
// The character, as UTF-8, that spells a byte.
std::string spelling(unsigned char byte);

// Turns a spelling (valid UTF-8) into its bytes, at `out` unless that is null; never longer than the spelling. Returns
// their number, or none when a character is outside the alphabet (then `out` holds rubbish).
std::optional<std::size_t> to_bytes(std::string_view spelled, char* out);

}  // namespace axon::byte_level
