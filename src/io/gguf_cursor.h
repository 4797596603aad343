#pragma once
// Reading little-endian fields one after another from untrusted bytes: a field that does not fit is an error that names
// it, before anything is allocated for it.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "io/safetensors_header.h"

namespace axon {

class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  // Messages name the entry being read: "tensor 3 \"blk.0.attn_q.weight\"". `kind` must outlive its use; an empty one
  // stands for the head of the file.
  void enter(std::string_view kind, std::uint64_t index) { kind_ = kind, index_ = index, name_ = {}; }
  void call(std::string_view name) { name_ = name; }

  template <class... Args>
  Error fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) const {
    std::string place = fmt::format("{}: ", what_);
    if (!kind_.empty()) {
      place += name_.empty() ? fmt::format("{} {}: ", kind_, index_) : fmt::format("{} {}: ", kind_, quoted(name_));
    }
    return {code, place + fmt::format(format, std::forward<Args>(args)...)};
  }

  template <class T>
  Result<T> number(std::string_view field) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    if (left() < sizeof(T)) return ends(field, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  // Length (8 bytes) and characters; lives as long as the bytes.
  Result<std::string_view> text(std::string_view field);
  // Over `count` elements of `size` bytes.
  Status skip(std::string_view field, std::uint64_t count, std::size_t size);

 private:
  Error ends(std::string_view field, std::uint64_t size) const {
    return fail(ErrorCode::kCorrupt, "{}: needs {} bytes at position {}, but the file has {}", field, size, at_,
                bytes_.size());
  }

  std::span<const std::byte> bytes_;
  std::string_view what_;
  std::size_t at_ = 0;
  std::string_view kind_, name_;
  std::uint64_t index_ = 0;
};

}  // namespace axon
