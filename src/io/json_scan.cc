#include "io/json_scan.h"

#include <algorithm>

namespace axon {
namespace {

// The index of the quote that ends the string that starts at `begin`, or the text's size.
std::size_t string_end(std::string_view text, std::size_t begin) {
  std::size_t i = begin;
  while (i < text.size() && text[i] != '"') i += text[i] == '\\' ? 2u : 1u;
  return std::min(i, text.size());
}

Error too_long(std::string_view what, std::size_t at, std::string_view part, std::size_t length, std::size_t limit) {
  return make_error(ErrorCode::kUnsupported, "{}: at byte {}: {} of {} bytes; at most {} are supported", what, at, part,
                    length, limit);
}

}  // namespace

Status scan_json(std::string_view text, std::string_view what) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t quote = std::min(text.find('"', at), text.size());
    const std::string_view between = text.substr(at, quote - at);
    if (between.size() > kMaxJsonBetween) {
      return too_long(what, at, "a stretch without strings", between.size(), kMaxJsonBetween);
    }
    const std::size_t nul = between.find('\0');
    if (nul != std::string_view::npos) {
      return make_error(ErrorCode::kCorrupt, "{}: not valid JSON at byte {}: a NUL", what, at + nul);
    }
    if (quote == text.size()) break;
    const std::size_t end = string_end(text, quote + 1);
    if (end - quote - 1 > kMaxJsonString) return too_long(what, quote, "a string", end - quote - 1, kMaxJsonString);
    at = end + 1;
  }
  return Ok{};
}

}  // namespace axon
