#pragma once
// A small JSON document as a tree: other programs' config files, whose keys we look up instead of reading in order.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace axon {

class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;  // in the document's order, no key twice

  // Nothing, true/false, a whole number from 0, a whole number below 0 (or "-0"), any other number, text, ...
  using Data = std::variant<std::nullptr_t, bool, std::uint64_t, std::int64_t, double, std::string, Array, Object>;

  JsonValue() : data_(nullptr) {}
  explicit JsonValue(Data data) : data_(std::move(data)) {}

  // Null when the value is of another kind.
  template <class T>
  const T* get() const {
    return std::get_if<T>(&data_);
  }
  bool is_null() const { return get<std::nullptr_t>() != nullptr; }
  // The value under `key`; null when there is none, or when this is no object.
  const JsonValue* find(std::string_view key) const;
  // As it would be written, cut to `max` bytes: for messages.
  std::string brief(std::size_t max = 60) const;

 private:
  Data data_;
};

// Values in one document; a tree costs at most some 100 bytes a value beside its text.
inline constexpr std::size_t kMaxJsonValues = 100'000;

// kCorrupt for a syntax error, a doubled key or nesting beyond `max_depth`; kUnsupported beyond kMaxJsonValues.
Result<JsonValue> read_json_value(std::string_view text, std::string_view what, std::size_t max_depth = 16);

}  // namespace axon
