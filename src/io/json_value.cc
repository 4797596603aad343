#include "io/json_value.h"

#include <algorithm>

#include "io/json.h"

namespace axon {
namespace {

class TreeBuilder : public JsonHandler {
 public:
  JsonValue root;

  Status start_object() override { return open(JsonValue::Object{}); }
  Status end_object() override { return close(); }
  Status start_array() override { return open(JsonValue::Array{}); }
  Status end_array() override { return close(); }
  Status key(std::string_view key) override { return open_.back().key = key, Ok{}; }
  Status string(std::string_view v) override { return add(std::string(v)); }
  Status unsigned_integer(std::uint64_t v) override { return add(v); }
  Status negative_integer(std::int64_t v) override { return add(v); }
  Status real(double v) override { return add(v); }
  Status boolean(bool v) override { return add(v); }
  Status null() override { return add(nullptr); }

 private:
  struct Open {
    JsonValue::Data data;
    std::string key;  // of the value to come, in an object
  };
  Status open(JsonValue::Data data) {
    AXON_TRY(counted());
    open_.push_back({std::move(data), {}});
    return Ok{};
  }
  Status close() {
    JsonValue::Data data = std::move(open_.back().data);
    open_.pop_back();
    if (const auto* object = std::get_if<JsonValue::Object>(&data)) AXON_TRY(no_key_twice(*object));
    return put(JsonValue(std::move(data)));
  }
  // Once for an object, sorted: comparing each key with all before it would take minutes at kMaxJsonValues.
  static Status no_key_twice(const JsonValue::Object& object) {
    std::vector<std::string_view> keys;
    keys.reserve(object.size());
    for (const auto& [key, value] : object) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return Ok{};
    return make_error(ErrorCode::kCorrupt, "key {} comes twice", json_quote(twice->substr(0, 80)));
  }
  Status add(JsonValue::Data data) {
    AXON_TRY(counted());
    return put(JsonValue(std::move(data)));
  }
  Status put(JsonValue value) {
    if (open_.empty()) {
      root = std::move(value);
    } else if (auto* array = std::get_if<JsonValue::Array>(&open_.back().data)) {
      array->push_back(std::move(value));
    } else {
      std::get<JsonValue::Object>(open_.back().data).emplace_back(std::move(open_.back().key), std::move(value));
    }
    return Ok{};
  }
  Status counted() {
    if (++values_ <= kMaxJsonValues) return Ok{};
    return make_error(ErrorCode::kUnsupported, "more than {} values", kMaxJsonValues);
  }
  std::vector<Open> open_;
  std::size_t values_ = 0;
};

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  const Object* object = get<Object>();
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : *object) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string JsonValue::brief(std::size_t max) const {
  const auto text = [](const auto& v) -> std::string {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, std::nullptr_t>) return "null";
    if constexpr (std::is_same_v<T, bool>) return v ? "true" : "false";
    if constexpr (std::is_same_v<T, std::string>) return json_quote(std::string_view(v).substr(0, 1000));
    if constexpr (std::is_same_v<T, Array>) return fmt::format("a list of {}", v.size());
    if constexpr (std::is_same_v<T, Object>) return "an object";
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) return fmt::format("{}", v);
  };
  std::string out = std::visit(text, data_);
  if (out.size() <= max) return out;
  while (max > 0 && (static_cast<unsigned char>(out[max]) & 0xC0) == 0x80) --max;  // between characters
  return out.substr(0, max) + "...";
}

Result<JsonValue> read_json_value(std::string_view text, std::string_view what, std::size_t max_depth) {
  TreeBuilder builder;
  AXON_TRY(read_json(text, what, builder, max_depth));
  return std::move(builder.root);
}

}  // namespace axon
