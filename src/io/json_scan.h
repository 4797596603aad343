#pragma once
// A look over a JSON text before it is parsed: the JSON library keeps each string, and the blanks between strings, in
// memory several times over, so a hostile text must not have long ones.

#include <cstddef>
#include <string_view>

#include "base/error.h"

namespace axon {

inline constexpr std::size_t kMaxJsonString = std::size_t{1} << 20;   // bytes between the quotes, escapes counted
inline constexpr std::size_t kMaxJsonBetween = std::size_t{1} << 16;  // bytes from one string to the next

// kUnsupported when a string or a stretch between two is longer than the bounds above; kCorrupt for a NUL outside
// strings, which the JSON library takes for the end of the text. Says nothing else about the grammar. `what` names the
// text in messages.
Status scan_json(std::string_view text, std::string_view what);

}  // namespace axon
