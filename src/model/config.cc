#include "model/config.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/bytes.h"
#include "io/json.h"
#include "quant/turboquant_rotation.h"

namespace axon {
namespace {

// One row a key: parsing, printing and --set read the same table.
struct Field {
  std::string_view key;
  std::uint64_t Config::*number;  // null for the three that follow
  bool Config::*flag;
  double Config::*real;
  std::uint64_t max;
  bool required;
  std::string_view word = {};  // a flag that is this string where it is set and absent where it is not
};

constexpr Field number(std::string_view key, std::uint64_t Config::*member, std::uint64_t max, bool required = true) {
  return {key, member, nullptr, nullptr, max, required};
}

// The limits are far above any model and keep every product of two of them inside 64 bits.
constexpr std::array kFields = {
    number("vocab_size", &Config::vocab_size, 1u << 24),
    number("hidden_dim", &Config::hidden_dim, 1u << 18),
    number("num_layers", &Config::num_layers, 1024),
    number("num_heads", &Config::num_heads, 4096),
    number("d_source_model", &Config::d_source_model, 1u << 18),
    number("ssm_d_state", &Config::ssm_d_state, 4096),
    number("ssm_d_conv", &Config::ssm_d_conv, 64),
    number("ssm_expand", &Config::ssm_expand, 16),
    number("ssm_scan_step", &Config::ssm_scan_step, 1u << 20, false),
    number("swa_window_size", &Config::swa_window_size, 1u << 30),
    number("moe_num_experts", &Config::moe_num_experts, 1024),
    number("moe_top_k", &Config::moe_top_k, 1024),
    number("moe_intermediate_dim", &Config::moe_intermediate_dim, 1u << 20),
    Field{"moe_shared_expert", nullptr, &Config::moe_shared_expert, nullptr, 0, true},
    Field{"weight_tying", nullptr, &Config::weight_tying, nullptr, 0, true},
    number("max_seq_len", &Config::max_seq_len, 1u << 30),
    Field{"rms_norm_eps", nullptr, nullptr, &Config::rms_norm_eps, 0, true},
    // The number is the rotation's: another choice of signs or factors would be another word.
    Field{"kv_rotation", nullptr, &Config::kv_rotated, nullptr, 0, false, kKvRotationName},
};

// The value in JSON; empty for a key that is left out.
std::string value_of(const Config& config, const Field& field) {
  if (field.number != nullptr) return fmt::format("{}", config.*field.number);
  if (field.real != nullptr) return fmt::format("{}", config.*field.real);
  if (field.word.empty()) return config.*field.flag ? "true" : "false";
  return config.*field.flag ? json_quote(field.word) : "";
}

// Book-keeping of other programs: says nothing that the tensors do not say themselves.
constexpr std::array<std::string_view, 8> kForeign = {
    "quantization", "quantization_config",  "architectures", "torch_dtype",
    "dtype",        "transformers_version", "_name_or_path", "model_type"};

class ConfigReader : public JsonHandler {
 public:
  Config config;

  // read_json puts the document's name before what these say.
  Status start_object() override { return enter("an object"); }
  Status end_object() override { return leave(); }
  Status start_array() override { return enter("an array"); }
  Status end_array() override { return leave(); }
  Status key(std::string_view key) override {
    if (depth_ > 1) return Ok{};
    field_ = nullptr;
    foreign_ = false;
    for (std::size_t i = 0; i < kFields.size(); ++i) {
      if (kFields[i].key != key) continue;
      if (seen_[i]) return make_error(ErrorCode::kInvalidArgument, "key {} comes twice", key);
      seen_[i] = true;
      field_ = &kFields[i];
      return Ok{};
    }
    for (const std::string_view known : kForeign) foreign_ = foreign_ || known == key;
    model_type_ = key == "model_type";
    if (foreign_) return Ok{};
    return make_error(ErrorCode::kInvalidArgument, "unknown key {}", json_quote(key.substr(0, 80)));
  }
  Status string(std::string_view v) override {
    if (depth_ == 1 && model_type_ && v != "bit_axon" && v != "bit-axon") {
      return make_error(ErrorCode::kUnsupported, "model_type {} is not one this program runs (bit_axon)",
                        json_quote(v.substr(0, 80)));
    }
    if (depth_ == 1 && field_ != nullptr && !field_->word.empty()) {
      if (v != field_->word) return value(json_quote(v.substr(0, 80)));
      config.*field_->flag = true;
      return Ok{};
    }
    return value("a string");
  }
  Status unsigned_integer(std::uint64_t v) override {
    if (depth_ == 1 && field_ != nullptr && field_->number != nullptr) {
      if (v < 1 || v > field_->max) {
        return make_error(ErrorCode::kInvalidArgument, "{} must be from 1 to {}, but is {}", field_->key, field_->max,
                          v);
      }
      config.*field_->number = v;
      return Ok{};
    }
    if (depth_ == 1 && field_ != nullptr && field_->real != nullptr) return real(static_cast<double>(v));
    return value("a number");
  }
  Status negative_integer(std::int64_t v) override {
    if (depth_ == 1 && field_ != nullptr && field_->flag == nullptr) {
      return make_error(ErrorCode::kInvalidArgument, "{} must be positive, but is {}", field_->key, v);
    }
    return value("a number");
  }
  Status real(double v) override {
    if (depth_ == 1 && field_ != nullptr && field_->real != nullptr) {
      if (!(static_cast<float>(v) > 0.0f && v <= 1.0)) {  // it is used in float32
        return make_error(ErrorCode::kInvalidArgument, "{} must be above 0 and at most 1, but is {}", field_->key, v);
      }
      config.*field_->real = v;
      return Ok{};
    }
    return value("a fraction");
  }
  Status boolean(bool v) override {
    if (depth_ == 1 && field_ != nullptr && field_->flag != nullptr && field_->word.empty()) {
      config.*field_->flag = v;
      return Ok{};
    }
    return value("true or false");
  }
  Status null() override { return value("null"); }

  Status finish(std::string_view what) const {
    if (!object_) return make_error(ErrorCode::kInvalidArgument, "{}: expected one JSON object", what);
    for (std::size_t i = 0; i < kFields.size(); ++i) {
      if (kFields[i].required && !seen_[i]) {
        return make_error(ErrorCode::kInvalidArgument, "{}: key {} is missing", what, kFields[i].key);
      }
    }
    return Ok{};
  }

 private:
  Status enter(std::string_view kind) {
    if (depth_ == 0) object_ = kind == "an object";
    if (depth_ == 0 && !object_) return make_error(ErrorCode::kInvalidArgument, "expected one JSON object");
    if (depth_ == 1) AXON_TRY(value(kind));
    ++depth_;
    return Ok{};
  }
  Status leave() {
    --depth_;
    return Ok{};
  }
  Status value(std::string_view kind) const {
    if (depth_ != 1 || foreign_) return Ok{};
    const std::string wanted = field_ == nullptr           ? "something else"
                               : !field_->word.empty()     ? json_quote(field_->word)
                               : field_->number != nullptr ? "a whole number"
                               : field_->flag != nullptr   ? "true or false"
                                                           : "a number";
    return make_error(ErrorCode::kInvalidArgument, "{} must be {}, but is {}", field_ == nullptr ? "?" : field_->key,
                      wanted, kind);
  }

  const Field* field_ = nullptr;
  std::array<bool, kFields.size()> seen_{};
  std::size_t depth_ = 0;
  bool foreign_ = false, model_type_ = false, object_ = false;
};

}  // namespace

Status check_config(const Config& c, std::string_view what) {
  if (c.hidden_dim % c.num_heads != 0) {
    return make_error(ErrorCode::kInvalidArgument, "{}: hidden_dim {} is not a multiple of num_heads {}", what,
                      c.hidden_dim, c.num_heads);
  }
  if (c.moe_top_k > c.moe_num_experts) {
    return make_error(ErrorCode::kInvalidArgument, "{}: moe_top_k {} is more than moe_num_experts {}", what,
                      c.moe_top_k, c.moe_num_experts);
  }
  if (!c.moe_shared_expert) {
    return make_error(ErrorCode::kUnsupported, "{}: moe_shared_expert is false, but every model of this family has one",
                      what);
  }
  if (c.kv_rotated && !turboquant::supports_head_dim(c.head_dim())) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: kv_rotation needs a head_dim that is a multiple of 16, at most {}, but hidden_dim {} / "
                      "num_heads {} is {}",
                      what, turboquant::kMaxHeadDim, c.hidden_dim, c.num_heads, c.head_dim());
  }
  // 2^46 weights are 128 TiB in bf16: past this, sums of sizes could leave 64 bits.
  const auto experts = checked_mul(3 * c.moe_num_experts * c.moe_intermediate_dim, c.hidden_dim);
  const auto mixer = checked_mul(c.ssm_intermediate_dim(), 3 * c.hidden_dim + 4 * c.ssm_d_state + c.ssm_d_conv + 8);
  const auto layer = experts && mixer ? checked_add(*experts, *mixer) : std::nullopt;
  const auto layers = layer ? checked_mul(*layer, c.num_layers) : std::nullopt;
  const auto total = layers ? checked_add(*layers, 2 * c.vocab_size * c.d_source_model) : std::nullopt;
  if (!total || *total > (std::uint64_t{1} << 46)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: the shapes multiply to more than 2^46 weights", what);
  }
  return Ok{};
}

Result<Config> parse_config(std::string_view json, std::string_view what) {
  ConfigReader reader;
  AXON_TRY(read_json(json, what, reader));
  AXON_TRY(reader.finish(what));
  AXON_TRY(check_config(reader.config, what));
  return reader.config;
}

std::string to_json(const Config& config) {
  std::string out;
  for (const Field& field : kFields) {
    const std::string value = value_of(config, field);
    if (!value.empty()) out += fmt::format("{}  \"{}\": {}", out.empty() ? "{\n" : ",\n", field.key, value);
  }
  return out + "\n}\n";
}

std::span<const std::string_view> preset_names() {
  static constexpr std::array<std::string_view, 5> kNames = {"nano", "small", "medium", "3b", "6b"};
  return kNames;
}

Result<Config> preset(std::string_view name) {
  // "6b" is the original's full preset; "3b" the same with the expert width that makes it 3.2B parameters.
  Config c{.vocab_size = 32000,
           .hidden_dim = 2560,
           .num_layers = 24,
           .num_heads = 32,
           .d_source_model = 2048,
           .ssm_d_state = 16,
           .ssm_d_conv = 4,
           .ssm_expand = 3,
           .ssm_scan_step = 64,
           .swa_window_size = 4096,
           .moe_num_experts = 8,
           .moe_top_k = 2,
           .moe_intermediate_dim = 4096,
           .moe_shared_expert = true,
           .weight_tying = true,
           .max_seq_len = 65536,
           .rms_norm_eps = 1e-6};
  if (name == "6b") return c;
  if (name == "3b") {
    c.moe_intermediate_dim = 1792;
    return c;
  }
  if (name == "medium") {
    c.hidden_dim = 2048, c.num_layers = 12, c.num_heads = 16, c.d_source_model = 1536, c.ssm_d_state = 12;
    c.moe_num_experts = 6, c.moe_intermediate_dim = 3072;
    return c;
  }
  if (name == "small") {
    c.vocab_size = 1024, c.hidden_dim = 256, c.num_layers = 4, c.num_heads = 4, c.d_source_model = 128;
    c.ssm_d_state = 4, c.ssm_d_conv = 2, c.ssm_expand = 2, c.swa_window_size = 64, c.moe_num_experts = 4;
    c.moe_intermediate_dim = 512;
    return c;
  }
  if (name == "nano") {
    c.vocab_size = 8192, c.hidden_dim = 320, c.num_layers = 12, c.num_heads = 4, c.d_source_model = 256;
    c.swa_window_size = 512, c.moe_intermediate_dim = 320;
    return c;
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown preset {}: there are nano, small, medium, 3b and 6b", name);
}

Result<Config> with_setting(const Config& config, std::string_view setting) {
  const std::size_t equals = setting.find('=');
  if (equals == std::string_view::npos) {
    return make_error(ErrorCode::kInvalidArgument, "--set {}: expected KEY=VALUE", setting);
  }
  const std::string_view key = setting.substr(0, equals), value = setting.substr(equals + 1);
  for (const Field& field : kFields) {
    if (field.key != key) continue;
    // Through the one parser: the value replaces the key's in the printed config.
    std::string json = "{";
    for (const Field& other : kFields) {
      const std::string text = other.key != key     ? value_of(config, other)
                               : other.word.empty() ? std::string(value)
                                                    : json_quote(value);
      if (other.key != key && text.empty()) continue;
      json += fmt::format("{}\"{}\": {}", json.size() > 1 ? ", " : "", other.key, text);
    }
    return parse_config(json + "}", fmt::format("--set {}", setting));
  }
  std::string known;
  for (const Field& field : kFields) known += fmt::format("{}{}", known.empty() ? "" : ", ", field.key);
  return make_error(ErrorCode::kInvalidArgument, "--set {}: unknown key; there are {}", setting, known);
}

std::string_view name_of(LayerKind kind) {
  if (kind.mixer == Mixer::kSsm) return kind.moe ? "ssm_moe" : "ssm";
  return kind.moe ? "swa_moe" : "swa";
}

std::vector<LayerKind> layer_kinds(const Config& config) {
  const std::uint64_t third = config.num_layers / 3;
  std::vector<LayerKind> kinds;
  for (std::uint64_t i = 0; i < config.num_layers; ++i) {
    kinds.push_back(i < third       ? LayerKind{Mixer::kSsm, false}
                    : i < 2 * third ? LayerKind{Mixer::kSwa, true}
                                    : LayerKind{Mixer::kSsm, true});
  }
  return kinds;
}

}  // namespace axon
