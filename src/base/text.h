#pragma once
// Text for people: what may be shown of names that come from files, and numbers with commas.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace axon {

// Valid UTF-8 without control characters: names come from files and end on terminals and in pages. What is neither
// becomes U+FFFD, a line break a space.
std::string printable(std::string_view text);
// For the content of elements of HTML and SVG and for their quoted attributes: printable(), and escaped.
std::string escaped(std::string_view text);
// Code points: the columns that printable text without wide characters takes.
std::size_t display_width(std::string_view text);

// 12,345
std::string grouped(std::uint64_t number);

}  // namespace axon
