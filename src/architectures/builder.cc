#include "architectures/builder.h"

#include <algorithm>

#include "base/bytes.h"

namespace axon {

const JsonValue* Fields::find(std::string_view key) const {
  const JsonValue* value = object_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool Fields::is_null(std::string_view key) const {
  const JsonValue* value = object_.find(key);
  return value != nullptr && value->is_null();
}

Error Fields::wrong(std::string_view key, std::string_view expected) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return make_error(ErrorCode::kInvalidArgument, "{}: {} is missing", what_, key);
  return make_error(ErrorCode::kInvalidArgument, "{}: {} must be {}, but is {}", what_, key, expected, value->brief());
}

Result<std::uint64_t> Fields::count(std::string_view key, std::uint64_t max) const {
  const JsonValue* value = find(key);
  const std::uint64_t* number = value == nullptr ? nullptr : value->get<std::uint64_t>();
  if (number == nullptr || *number < 1 || *number > max) return wrong(key, fmt::format("a number from 1 to {}", max));
  return *number;
}

Result<std::uint64_t> Fields::count_or(std::string_view key, std::uint64_t otherwise, std::uint64_t max) const {
  if (!has(key)) return otherwise;
  return count(key, max);
}

Result<std::uint64_t> Fields::zero_or_more(std::string_view key, std::uint64_t otherwise, std::uint64_t max) const {
  if (!has(key)) return otherwise;
  const std::uint64_t* number = find(key)->get<std::uint64_t>();
  if (number == nullptr || *number > max) return wrong(key, fmt::format("a number from 0 to {}", max));
  return *number;
}

Result<bool> Fields::flag_or(std::string_view key, bool otherwise) const {
  if (!has(key)) return otherwise;
  const bool* flag = find(key)->get<bool>();
  if (flag == nullptr) return wrong(key, "true or false");
  return *flag;
}

Result<double> Fields::real_or(std::string_view key, double otherwise) const {
  if (!has(key)) return otherwise;
  const auto* whole = find(key)->get<std::uint64_t>();
  const auto* real = find(key)->get<double>();
  const double value = whole != nullptr ? static_cast<double>(*whole) : real != nullptr ? *real : -1;
  if (!(value >= 0 && value <= 1e9)) return wrong(key, "a number from 0 to 1e9");
  return value;
}

Result<std::string> Fields::text_or(std::string_view key, std::string_view otherwise) const {
  if (!has(key)) return std::string(otherwise);
  const std::string* text = find(key)->get<std::string>();
  if (text == nullptr) return wrong(key, "text");
  return *text;
}

Result<std::vector<std::uint64_t>> Fields::counts(std::string_view key) const {
  std::vector<std::uint64_t> out;
  if (!has(key)) return out;
  const auto* list = find(key)->get<JsonValue::Array>();
  if (list == nullptr) return wrong(key, "a list of numbers");
  for (const JsonValue& value : *list) {
    const std::uint64_t* number = value.get<std::uint64_t>();
    if (number == nullptr) return wrong(key, "a list of whole numbers from 0");
    out.push_back(*number);
  }
  return out;
}

Result<std::vector<std::string>> Fields::texts(std::string_view key) const {
  std::vector<std::string> out;
  if (!has(key)) return out;
  const auto* list = find(key)->get<JsonValue::Array>();
  if (list == nullptr) return wrong(key, "a list of texts");
  for (const JsonValue& value : *list) {
    const std::string* text = value.get<std::string>();
    if (text == nullptr) return wrong(key, "a list of texts");
    out.push_back(*text);
  }
  return out;
}

Result<std::string> native_weights(const Fields& fields) {
  if (fields.has("quantization_config")) {
    const JsonValue* value = fields.find("quantization_config");
    if (value->get<JsonValue::Object>() == nullptr) return fields.wrong("quantization_config", "an object");
    const Fields quantization(*value, fmt::format("{}: quantization_config", fields.what()));
    std::string method = AXON_TRY(quantization.text_or("quant_method", ""));
    return method == "mxfp4" || method == "fp8" ? std::move(method) : std::string();
  }
  const std::string_view key = fields.has("torch_dtype") ? "torch_dtype" : "dtype";  // the newer name
  const std::string type = AXON_TRY(fields.text_or(key, ""));
  if (type == "bfloat16") return std::string("bf16");
  if (type == "float16") return std::string("fp16");
  return std::string(type == "float32" ? "fp32" : "");
}

Builder::Builder(std::string_view family, const Fields& fields) : what_(fields.what()) {
  model_.family = family;
  model_.name = fields.what();
  Result<std::string> native = axon::native_weights(fields);
  if (native.ok()) {
    model_.native_weights = std::move(native).value();
  } else {
    error_ = native.error();
  }
}

void Builder::matrix(std::string_view name, Part part, std::uint64_t rows, std::uint64_t cols, std::uint64_t count,
                     bool bias) {
  add({.name = fmt::format("{}.weight", name),
       .part = part,
       .rows = rows,
       .cols = cols,
       .count = count,
       .matrix = true});
  if (bias) vector(fmt::format("{}.bias", name), part, rows, count);
}

void Builder::vector(std::string_view name, Part part, std::uint64_t size, std::uint64_t count) {
  add({.name = std::string(name), .part = part, .rows = 1, .cols = size, .count = count});
}

void Builder::tensor(std::string_view name, Part part, std::uint64_t rows, std::uint64_t cols, std::uint64_t count) {
  add({.name = std::string(name), .part = part, .rows = rows, .cols = cols, .count = count});
}

void Builder::share(std::uint64_t active, std::uint64_t of) {
  AXON_CHECK(of > 0 && active <= of);
  active_ = active, of_ = of;
}

void Builder::add(TensorGroup group) {
  group.active = active_;
  group.of = of_;
  if (group.rows == 0 || group.cols == 0 || group.count == 0) return;
  for (TensorGroup& other : model_.tensors) {
    if (other.name == group.name && other.part == group.part && other.rows == group.rows && other.cols == group.cols &&
        other.active == group.active && other.of == group.of) {
      const auto sum = checked_add(other.count, group.count);
      overflow_ = overflow_ || !sum;
      other.count = sum.value_or(0);
      return;
    }
  }
  model_.tensors.push_back(std::move(group));
}

void Builder::layer(Layer layer) { model_.layers.push_back(std::move(layer)); }

void Builder::width(std::uint64_t values) { model_.widest_values = std::max(model_.widest_values, values); }

Result<Architecture> Builder::finish() {
  if (error_) return *error_;
  if (model_.layers.empty()) return make_error(ErrorCode::kInvalidArgument, "{}: there are no layers", what_);
  std::uint64_t total = 0;
  for (const TensorGroup& group : model_.tensors) {
    const auto one = checked_mul(group.rows, group.cols);
    const auto all = one ? checked_mul(*one, group.count) : std::nullopt;
    // times `active`, and times 8 bytes a parameter, must still fit
    const auto scaled = all ? checked_mul(*all, std::max<std::uint64_t>(group.active, 64)) : std::nullopt;
    const auto sum = scaled ? checked_add(total, *scaled) : std::nullopt;
    if (!sum || overflow_) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {} would have {} x {} x {} elements: too many to count",
                        what_, group.name, group.count, group.rows, group.cols);
    }
    total = *sum;
  }
  return std::move(model_);
}

}  // namespace axon
