#include "io/gguf_cursor.h"

#include <bit>

namespace axon {

static_assert(std::endian::native == std::endian::little, "fields are copied as they lie in the file");

Result<std::string_view> GgufCursor::text(std::string_view field) {
  const std::uint64_t length = AXON_TRY(number<std::uint64_t>(field));
  if (length > left()) {
    return fail(ErrorCode::kCorrupt, "{}: its length is given as {}, but the file has {} bytes after it", field, length,
                left());
  }
  const std::string_view out(reinterpret_cast<const char*>(bytes_.data()) + at_, static_cast<std::size_t>(length));
  at_ += out.size();
  return out;
}

Status GgufCursor::skip(std::string_view field, std::uint64_t count, std::size_t size) {
  if (count > left() / size) {
    return fail(ErrorCode::kCorrupt, "{}: {} elements of {} bytes do not fit the {} bytes that the file has after it",
                field, count, size, left());
  }
  at_ += static_cast<std::size_t>(count) * size;
  return Ok{};
}

bool is_utf8(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned first = byte(i);
    if (first < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = first < 0xC2 ? 0u : first < 0xE0 ? 2u : first < 0xF0 ? 3u : first < 0xF5 ? 4u : 0u;
    if (length == 0 || length > text.size() - i) return false;
    const unsigned low = first == 0xE0 ? 0xA0u : first == 0xF0 ? 0x90u : 0x80u;   // no longer than needed
    const unsigned high = first == 0xED ? 0x9Fu : first == 0xF4 ? 0x8Fu : 0xBFu;  // no surrogates, up to 10FFFF
    if (byte(i + 1) < low || byte(i + 1) > high) return false;
    for (std::size_t j = 2; j < length; ++j) {
      if ((byte(i + j) & 0xC0u) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

}  // namespace axon
