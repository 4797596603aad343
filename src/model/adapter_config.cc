#include "model/adapter_config.h"

#include <cmath>
#include <optional>

#include "io/json.h"
#include "io/json_value.h"

namespace axon {
namespace {

// One object of the document, for messages: "adapter_config.json: lora_parameters.scale is true, expected a number".
class Fields {
 public:
  Fields(const JsonValue& object, std::string_view what, std::string_view prefix)
      : object_(object), what_(what), prefix_(prefix) {}

  // Null when it is absent or null.
  const JsonValue* find(std::string_view key) const {
    const JsonValue* value = object_.find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  Error wrong(std::string_view key, const JsonValue& value, std::string_view expected) const {
    return make_error(ErrorCode::kCorrupt, "{}: {}{} is {}, expected {}", what_, prefix_, key, value.brief(), expected);
  }
  Error missing(std::string_view key, std::string_view expected) const {
    return make_error(ErrorCode::kCorrupt, "{}: {}{} is missing, expected {}", what_, prefix_, key, expected);
  }
  Error unsupported(std::string_view key, std::string_view why) const {
    return make_error(ErrorCode::kUnsupported, "{}: {}{} is {}: {}", what_, prefix_, key, object_.find(key)->brief(),
                      why);
  }

  // Of an object under `key`.
  Error wrong_entry(std::string_view key, const std::string& name, const JsonValue& value,
                    std::string_view expected) const {
    return make_error(ErrorCode::kCorrupt, "{}: {}{} has {} for {}, expected {}", what_, prefix_, key, value.brief(),
                      JsonValue(name).brief(), expected);
  }
  Error not_plain(std::string_view key, const std::string& name) const {
    return make_error(ErrorCode::kUnsupported,
                      "{}: {}{} has {}: a layer's name is understood there, a regular expression is not", what_,
                      prefix_, key, JsonValue(name).brief());
  }

  Result<bool> flag(std::string_view key) const {
    const JsonValue* value = find(key);
    if (value == nullptr) return false;
    const bool* flag = value->get<bool>();
    return flag != nullptr ? Result<bool>(*flag) : wrong(key, *value, "true or false");
  }
  Result<double> number(std::string_view key, std::optional<double> otherwise = {}) const {
    constexpr std::string_view kExpected = "a number";
    const JsonValue* value = find(key);
    if (value == nullptr) return otherwise ? Result<double>(*otherwise) : missing(key, kExpected);
    const std::optional<double> number = number_of(*value);
    return number ? Result<double>(*number) : wrong(key, *value, kExpected);
  }
  Result<std::size_t> rank(std::string_view key) const {
    const std::string expected = fmt::format("a whole number from 1 to {}", kAdapterRankMax);
    const JsonValue* value = find(key);
    if (value == nullptr) return missing(key, expected);
    const std::uint64_t* number = value->get<std::uint64_t>();
    if (number == nullptr || *number < 1 || *number > kAdapterRankMax) return wrong(key, *value, expected);
    return static_cast<std::size_t>(*number);
  }
  Result<std::string> text(std::string_view key) const {
    const JsonValue* value = find(key);
    if (value == nullptr) return std::string();
    const std::string* text = value->get<std::string>();
    return text != nullptr ? Result<std::string>(*text) : wrong(key, *value, "a text");
  }
  Result<double> dropout(std::string_view key) const {
    const double p = AXON_TRY(number(key, 0.0));
    return p >= 0 && p < 1 ? Result<double>(p) : wrong(key, *find(key), "a probability from 0 to below 1");
  }

  static std::optional<double> number_of(const JsonValue& value) {
    if (const auto* n = value.get<std::uint64_t>()) return static_cast<double>(*n);
    if (const auto* n = value.get<std::int64_t>()) return static_cast<double>(*n);
    const double* n = value.get<double>();
    return n != nullptr && std::isfinite(*n) ? std::optional<double>(*n) : std::nullopt;
  }

 private:
  const JsonValue& object_;
  std::string_view what_, prefix_;
};

// PEFT reads these keys as regular expressions that the end of a layer's name matches. Those that mean one name are
// understood: letters, digits, "_", "-", dots with or without a backslash, "^" before and "$" behind.
std::optional<std::string> plain_name(std::string_view key) {
  if (key.starts_with('^')) key.remove_prefix(1);
  if (key.ends_with('$')) key.remove_suffix(1);
  std::string name;
  for (std::size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '\\' && i + 1 < key.size() && key[i + 1] == '.') continue;
    const bool letter = (key[i] >= 'a' && key[i] <= 'z') || (key[i] >= 'A' && key[i] <= 'Z');
    const bool plain = letter || (key[i] >= '0' && key[i] <= '9') || key[i] == '_' || key[i] == '-' || key[i] == '.';
    if (!plain) return std::nullopt;
    name += key[i];
  }
  return name.empty() ? std::nullopt : std::optional<std::string>(name);
}

Result<AdapterConfig::Pattern> read_pattern(const Fields& fields, std::string_view key, bool ranks) {
  AdapterConfig::Pattern pattern;
  const JsonValue* value = fields.find(key);
  if (value == nullptr) return pattern;
  const auto* object = value->get<JsonValue::Object>();
  if (object == nullptr) return fields.wrong(key, *value, "an object of layers and numbers");
  for (const auto& [layer, number] : *object) {
    const std::optional<std::string> name = plain_name(layer);
    if (!name) return fields.not_plain(key, layer);
    const std::optional<double> n = Fields::number_of(number);
    const auto* whole = number.get<std::uint64_t>();
    if (!n || (ranks && (whole == nullptr || *whole < 1 || *whole > kAdapterRankMax))) {
      return fields.wrong_entry(key, layer, number, ranks ? "a whole number from 1" : "a number");
    }
    pattern.emplace_back(*name, *n);
  }
  return pattern;
}

const double* find(const AdapterConfig::Pattern& pattern, std::string_view layer) {
  for (const auto& [name, number] : pattern) {
    if (!layer.ends_with(name)) continue;
    if (layer.size() == name.size() || layer[layer.size() - name.size() - 1] == '.') return &number;
  }
  return nullptr;
}

bool is_empty(const JsonValue& value) {
  const bool* flag = value.get<bool>();
  const auto* array = value.get<JsonValue::Array>();
  const auto* object = value.get<JsonValue::Object>();
  return (flag != nullptr && !*flag) || (array != nullptr && array->empty()) || (object != nullptr && object->empty());
}

// What would change the function beside W + s B A.
Status check_plain(const Fields& fields) {
  const std::string bias = AXON_TRY(fields.text("bias"));
  if (!bias.empty() && bias != "none") return fields.unsupported("bias", "the layers of this model have none");
  for (const char* key : {"lora_bias", "use_qalora", "fan_in_fan_out", "modules_to_save", "layer_replication",
                          "trainable_token_indices", "target_parameters", "alora_invocation_tokens"}) {
    const JsonValue* value = fields.find(key);
    if (value != nullptr && !is_empty(*value)) return fields.unsupported(key, "only plain LoRA and DoRA are read");
  }
  const JsonValue* init = fields.find("init_lora_weights");
  const std::string* kind = init == nullptr ? nullptr : init->get<std::string>();
  if (kind == nullptr) return Ok{};
  for (const char* changing : {"pissa", "olora", "loftq", "corda", "lora_ga"}) {
    if (kind->starts_with(changing)) {
      return fields.unsupported("init_lora_weights", "it changes the model's own weights, which are not here");
    }
  }
  return Ok{};
}

Result<AdapterConfig> read_peft(const Fields& fields) {
  const JsonValue* type = fields.find("peft_type");
  if (type->get<std::string>() == nullptr || *type->get<std::string>() != "LORA") {
    return fields.unsupported("peft_type", "only LORA is read");
  }
  AXON_TRY(check_plain(fields));
  AdapterConfig config;
  config.form = AdapterForm::kPeft;
  config.rank = AXON_TRY(fields.rank("r"));
  config.alpha = AXON_TRY(fields.number("lora_alpha"));
  config.dropout = AXON_TRY(fields.dropout("lora_dropout"));
  config.dora = AXON_TRY(fields.flag("use_dora"));
  config.rank_stabilised = AXON_TRY(fields.flag("use_rslora"));
  config.rank_pattern = AXON_TRY(read_pattern(fields, "rank_pattern", /*ranks=*/true));
  config.alpha_pattern = AXON_TRY(read_pattern(fields, "alpha_pattern", /*ranks=*/false));
  config.base_model = AXON_TRY(fields.text("base_model_name_or_path"));
  return config;
}

Result<AdapterConfig> read_mlx_lm(const Fields& fields, std::string_view what) {
  AdapterConfig config;
  config.form = AdapterForm::kMlxLm;
  const std::string type = AXON_TRY(fields.text("fine_tune_type"));
  if (!type.empty() && type != "lora" && type != "dora") {
    return fields.unsupported("fine_tune_type", "only lora and dora are read");
  }
  config.dora = type == "dora";
  const JsonValue* parameters = fields.find("lora_parameters");
  if (parameters == nullptr) return fields.missing("lora_parameters", "an object with rank and scale");
  if (parameters->get<JsonValue::Object>() == nullptr) {
    return fields.wrong("lora_parameters", *parameters, "an object with rank and scale");
  }
  const Fields inner(*parameters, what, "lora_parameters.");
  config.rank = AXON_TRY(inner.rank("rank"));
  config.scale = AXON_TRY(inner.number("scale"));
  config.dropout = AXON_TRY(inner.dropout("dropout"));
  config.base_model = AXON_TRY(fields.text("model"));
  return config;
}

std::string number_text(double value) {
  if (std::fabs(value) < 1e15 && value == std::floor(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{}", value);
}

std::string pattern_text(const AdapterConfig::Pattern& pattern) {
  std::string out;
  for (const auto& [name, number] : pattern) {
    out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", json_quote(name), number_text(number));
  }
  return "{" + out + "}";
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const std::string& name : names) quoted.push_back(json_quote(name));
  return fmt::format("[{}]", fmt::join(quoted, ", "));
}

using Lines = std::vector<std::pair<std::string_view, std::string>>;

std::string object_text(const Lines& lines, std::string_view indent) {
  std::string out = "{";
  for (const auto& [key, value] : lines) {
    out += fmt::format("{}\n{}  \"{}\": {}", out.size() > 1 ? "," : "", indent, key, value);
  }
  return out + fmt::format("\n{}}}", indent);
}

}  // namespace

std::string_view name_of(AdapterForm form) {
  switch (form) {
    case AdapterForm::kPeft: return "PEFT";
    case AdapterForm::kMlxLm: return "mlx-lm";
    case AdapterForm::kOriginal: break;
  }
  return "original";
}

std::size_t AdapterConfig::rank_of(std::string_view layer) const {
  const double* own = find(rank_pattern, layer);
  return own == nullptr ? rank : static_cast<std::size_t>(*own);
}

double AdapterConfig::scale_of(std::string_view layer) const {
  if (form == AdapterForm::kMlxLm) return scale;
  const double* own = find(alpha_pattern, layer);
  const double r = static_cast<double>(rank_of(layer));
  return (own == nullptr ? alpha : *own) / (rank_stabilised ? std::sqrt(r) : r);
}

Result<AdapterConfig> parse_adapter_config(std::string_view text, std::string_view what) {
  const JsonValue document = AXON_TRY(read_json_value(text, what));
  const Fields fields(document, what, "");
  if (fields.find("peft_type") != nullptr) return read_peft(fields);
  if (fields.find("lora_parameters") != nullptr || fields.find("fine_tune_type") != nullptr) {
    return read_mlx_lm(fields, what);
  }
  return make_error(ErrorCode::kCorrupt,
                    "{}: neither PEFT's (it has peft_type) nor mlx-lm's (it has fine_tune_type and lora_parameters)",
                    what);
}

std::string to_json(const AdapterConfigText& text) {
  const AdapterConfig& c = text.config;
  if (c.form == AdapterForm::kMlxLm) {
    const Lines parameters = {{"rank", fmt::format("{}", c.rank)},
                              {"dropout", number_text(c.dropout)},
                              {"scale", number_text(c.scale)},
                              {"keys", quoted_list(text.targets)}};
    return object_text({{"model", json_quote(c.base_model)},
                        {"fine_tune_type", c.dora ? "\"dora\"" : "\"lora\""},
                        {"num_layers", fmt::format("{}", text.layers)},
                        {"lora_parameters", object_text(parameters, "  ")}},
                       "") +
           "\n";
  }
  // All that PEFT's LoraConfig saves, so that an older or newer one finds what it looks for.
  return object_text({{"alpha_pattern", pattern_text(c.alpha_pattern)},
                      {"auto_mapping", "null"},
                      {"base_model_name_or_path", json_quote(c.base_model)},
                      {"bias", "\"none\""},
                      {"fan_in_fan_out", "false"},
                      {"inference_mode", "true"},
                      {"init_lora_weights", "true"},
                      {"layers_pattern", "null"},
                      {"layers_to_transform", "null"},
                      {"lora_alpha", number_text(c.alpha)},
                      {"lora_dropout", number_text(c.dropout)},
                      {"modules_to_save", "null"},
                      {"peft_type", "\"LORA\""},
                      {"r", fmt::format("{}", c.rank)},
                      {"rank_pattern", pattern_text(c.rank_pattern)},
                      {"revision", "null"},
                      {"target_modules", quoted_list(text.targets)},
                      {"task_type", "\"CAUSAL_LM\""},
                      {"use_dora", c.dora ? "true" : "false"},
                      {"use_rslora", c.rank_stabilised ? "true" : "false"}},
                     "") +
         "\n";
}

}  // namespace axon
