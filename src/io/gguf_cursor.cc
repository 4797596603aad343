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

}  // namespace axon
