#include <algorithm>
#include <numeric>

#include "architectures/builder.h"
#include "architectures/file_weights.h"
#include "architectures/gguf_tensors.h"

namespace axon {
namespace {

constexpr std::uint64_t kMaxSize = std::uint64_t{1} << 40;  // of contexts and windows

enum class Mixer {
  kAttention,  // in every layer
  kLatent,
  kMamba,
  kMamba2,
  kMambaOrAttention,  // layers without key/value heads are recurrent
  kMamba2OrAttention,
  kMamba2AndAttention,  // side by side in every layer
  kMamba2AttentionOrNeither,
  kDeltaOrAttention,  // every full_attention_interval-th attends
  kRwkv,
};

// Which layers slide when attention.sliding_window is there: of each `period` all but the last; 1: none; 0: all.
struct Windows {
  std::uint64_t period = 1;
  std::uint64_t otherwise = 0;  // the window when the key is absent
};

struct GgufFamily {
  std::string_view name;  // general.architecture
  Mixer mixer = Mixer::kAttention;
  Windows windows = {};
};

// Names: gguf-py's constants.py. Windows and layer patterns: load_arch_hparams of each model in llama.cpp's src/models,
// but for llama, phi3 and starcoder2, where llama.cpp attends to everything and the models' own code slides.
constexpr GgufFamily kFamilies[] = {
    {"llama", Mixer::kAttention, {.period = 0}},
    {"mistral3"},
    {"qwen2"},
    {"qwen2moe"},
    {"qwen2vl"},
    {"qwen3"},
    {"qwen3moe"},
    {"qwen3vl"},
    {"qwen3vlmoe"},
    {"gemma"},
    {"gemma2", Mixer::kAttention, {.period = 2, .otherwise = 4096}},
    {"gemma3", Mixer::kAttention, {.period = 6}},
    {"phi2"},
    {"phi3", Mixer::kAttention, {.period = 0}},
    {"phimoe"},
    {"gpt-oss", Mixer::kAttention, {.period = 2}},
    {"granite"},
    {"granitemoe"},
    {"starcoder2", Mixer::kAttention, {.period = 0}},
    {"olmo"},
    {"olmo2", Mixer::kAttention, {.period = 4}},
    {"olmoe"},
    {"command-r"},
    {"cohere2", Mixer::kAttention, {.period = 4}},
    {"stablelm"},
    {"falcon"},
    {"internlm2"},
    {"exaone"},
    {"smollm3"},
    {"glm4"},
    {"gpt2"},
    {"gptneox"},
    {"bitnet"},
    {"seed_oss"},
    {"deepseek"},
    {"deepseek2", Mixer::kLatent},
    {"mamba", Mixer::kMamba},
    {"mamba2", Mixer::kMamba2},
    {"jamba", Mixer::kMambaOrAttention},
    {"granitehybrid", Mixer::kMamba2OrAttention},
    {"falcon-h1", Mixer::kMamba2AndAttention},
    {"nemotron_h", Mixer::kMamba2AttentionOrNeither},
    {"nemotron_h_moe", Mixer::kMamba2AttentionOrNeither},
    {"qwen3next", Mixer::kDeltaOrAttention},
    {"rwkv6", Mixer::kRwkv},
    {"rwkv7", Mixer::kRwkv},
};

JsonValue as_json(const GgufValue& value) {
  const auto list = [](const auto& values) {
    JsonValue::Array out;
    for (const auto x : values) out.push_back(JsonValue(JsonValue::Data(x)));
    return JsonValue(JsonValue::Data(std::move(out)));
  };
  if (const auto whole = value.whole()) return JsonValue(JsonValue::Data(*whole));
  if (const auto wholes = value.wholes()) return list(*wholes);
  if (const auto* x = value.get<std::int64_t>()) return JsonValue(JsonValue::Data(*x));
  if (const auto* x = value.get<double>()) return JsonValue(JsonValue::Data(*x));
  if (const auto* x = value.get<bool>()) return JsonValue(JsonValue::Data(*x));
  if (const auto* x = value.get<GgufValue::Signed>()) return list(*x);
  if (const auto* x = value.get<GgufValue::Reals>()) return list(*x);
  if (const auto* x = value.get<std::string>()) return JsonValue(JsonValue::Data(*x));
  return JsonValue(JsonValue::Data(value.brief()));
}

// The keys under `prefix`, as an object that Fields can check; the keys keep their full names.
JsonValue metadata_under(const Gguf& file, std::string_view prefix) {
  JsonValue::Object out;
  for (const auto& [key, value] : file.metadata()) {
    if (key.starts_with(prefix)) out.emplace_back(key, as_json(value));
  }
  return JsonValue(JsonValue::Data(std::move(out)));
}

struct Recurrence {
  std::uint64_t taps = 0, inner = 0, state = 0, time_rank = 0, groups = 0;
  std::uint64_t shared() const { return groups * state; }  // B, and as much for C
};

class Reader {
 public:
  Reader(const Gguf& file, const GgufFamily& family, const Fields& fields)
      : file_(file), family_(family), fields_(fields), builder_(family.name, fields) {}
  Result<Architecture> read();

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", family_.name, name); }
  Result<std::vector<std::uint64_t>> per_layer(std::string_view name, std::uint64_t otherwise) const;
  bool attends() const;
  Status read_sizes();
  Status read_attention();
  Status read_windows();
  Status read_recurrence();
  Status read_latent();
  Result<LayerMemory> rwkv();
  LayerMemory attention(std::size_t layer);
  LayerMemory recurrent();
  Result<Layer> layer(std::size_t i);
  Status read_tensors();

  const Gguf& file_;
  const GgufFamily& family_;
  const Fields& fields_;
  Builder builder_;
  GgufExperts experts_;
  std::uint64_t layers_ = 0, hidden_ = 0;
  std::vector<std::uint64_t> heads_, kv_heads_, windows_, feed_forward_;
  std::uint64_t key_dim_ = 0, value_dim_ = 0, latent_ = 0, interval_ = 4;
  Recurrence recurrence_;
};

// One number for all layers, or one for each.
Result<std::vector<std::uint64_t>> Reader::per_layer(std::string_view name, std::uint64_t otherwise) const {
  const std::string full = key(name);
  const JsonValue* value = fields_.find(full);
  if (value == nullptr || value->get<JsonValue::Array>() == nullptr) {
    const std::uint64_t number = AXON_TRY(fields_.zero_or_more(full, otherwise));
    return std::vector<std::uint64_t>(layers_, number);
  }
  std::vector<std::uint64_t> out = AXON_TRY(fields_.counts(full));
  const bool small = std::all_of(out.begin(), out.end(), [](std::uint64_t x) { return x <= Fields::kMax; });
  if (out.size() == layers_ && small) return out;
  return fields_.wrong(full,
                       fmt::format("one number up to {}, or one for each of the {} layers", Fields::kMax, layers_));
}

Status Reader::read_sizes() {
  layers_ = AXON_TRY(fields_.count(key("block_count"), Fields::kMaxLayers));
  const std::uint64_t blocks = gguf_blocks(file_);
  if (blocks != layers_) {
    return fields_.wrong(key("block_count"), fmt::format("{}, the number of layers that have tensors", blocks));
  }
  Architecture& model = builder_.model();
  hidden_ = AXON_TRY(fields_.count(key("embedding_length")));
  model.hidden_size = hidden_;
  model.context_max = AXON_TRY(fields_.zero_or_more(key("context_length"), 0, kMaxSize));
  experts_.count = AXON_TRY(fields_.zero_or_more(key("expert_count"), 0, 1u << 16));
  if (experts_.count != 0) experts_.used = AXON_TRY(fields_.count(key("expert_used_count"), experts_.count));
  feed_forward_ = AXON_TRY(per_layer("feed_forward_length", 0));

  const GgufTensor* embedding = file_.find_tensor("token_embd.weight");
  const GgufValue* tokens = file_.find("tokenizer.ggml.tokens");
  std::uint64_t rows = embedding == nullptr ? 0 : embedding->dims[1];
  if (tokens != nullptr && tokens->array_size().value_or(0) != 0) rows = *tokens->array_size();
  model.vocab_size = AXON_TRY(fields_.zero_or_more(key("vocab_size"), rows, std::uint64_t{1} << 32));
  model.tied_head = file_.find_tensor("output.weight") == nullptr;
  return Ok{};
}

bool Reader::attends() const {
  return family_.mixer != Mixer::kMamba && family_.mixer != Mixer::kMamba2 && family_.mixer != Mixer::kRwkv;
}

Status Reader::read_attention() {
  if (!fields_.has(key("attention.head_count"))) return fields_.wrong(key("attention.head_count"), "a number");
  heads_ = AXON_TRY(per_layer("attention.head_count", 0));
  const std::uint64_t heads = *std::max_element(heads_.begin(), heads_.end());
  if (heads == 0 || heads > (1u << 16)) return fields_.wrong(key("attention.head_count"), "from 1 to 65536");
  const bool all_alike = !fields_.has(key("attention.head_count_kv"));
  kv_heads_ = all_alike ? heads_ : AXON_TRY(per_layer("attention.head_count_kv", 0));
  for (std::size_t i = 0; i < layers_; ++i) {
    const bool may_rest = family_.mixer == Mixer::kMambaOrAttention || family_.mixer == Mixer::kMamba2OrAttention ||
                          family_.mixer == Mixer::kMamba2AttentionOrNeither ||
                          family_.mixer == Mixer::kDeltaOrAttention;
    if (may_rest && kv_heads_[i] == 0) continue;
    if (kv_heads_[i] == 0 || heads_[i] == 0 || heads_[i] % kv_heads_[i] != 0) {
      return fields_.wrong(key("attention.head_count_kv"),
                           fmt::format("a divisor of the {} heads of layer {}", heads_[i], i));
    }
  }
  const std::uint64_t size = heads_[0] == 0 ? 0 : hidden_ / heads_[0];  // as llama.cpp has it
  const auto length = [&](std::string_view name) -> Result<std::uint64_t> {
    if (size == 0) return fields_.count(key(name), 1u << 16);
    return fields_.count_or(key(name), size, 1u << 16);
  };
  key_dim_ = AXON_TRY(length("attention.key_length"));
  value_dim_ = AXON_TRY(length("attention.value_length"));
  return Ok{};
}

Status Reader::read_windows() {
  const std::uint64_t otherwise = family_.windows.otherwise;
  const std::uint64_t window = AXON_TRY(fields_.zero_or_more(key("attention.sliding_window"), otherwise, kMaxSize));
  windows_.assign(layers_, 0);
  if (window == 0) return Ok{};
  const std::string name = key("attention.sliding_window_pattern");
  const JsonValue* pattern = fields_.find(name);
  if (pattern != nullptr && pattern->get<JsonValue::Array>() != nullptr) {
    const std::vector<std::uint64_t> slides = AXON_TRY(per_layer("attention.sliding_window_pattern", 0));
    for (std::size_t i = 0; i < layers_; ++i) windows_[i] = slides[i] != 0 ? window : 0;
    return Ok{};
  }
  const std::uint64_t period = AXON_TRY(fields_.zero_or_more(name, family_.windows.period));
  for (std::size_t i = 0; i < layers_; ++i) windows_[i] = period == 0 || i % period + 1 < period ? window : 0;
  return Ok{};
}

Status Reader::read_recurrence() {
  recurrence_.taps = AXON_TRY(fields_.count(key("ssm.conv_kernel"), 256));
  recurrence_.inner = AXON_TRY(fields_.count(key("ssm.inner_size")));
  recurrence_.state = AXON_TRY(fields_.count(key("ssm.state_size"), 1u << 16));
  recurrence_.time_rank = AXON_TRY(fields_.count(key("ssm.time_step_rank")));
  recurrence_.groups = AXON_TRY(fields_.zero_or_more(key("ssm.group_count"), 0, 1u << 16));
  const bool grouped = family_.mixer != Mixer::kMamba && family_.mixer != Mixer::kMambaOrAttention;
  if (grouped && recurrence_.groups == 0) return fields_.wrong(key("ssm.group_count"), "from 1");
  if (family_.mixer != Mixer::kDeltaOrAttention) return Ok{};
  interval_ = AXON_TRY(fields_.count_or(key("full_attention_interval"), 4));
  return Ok{};
}

// The latent and the position part of the key, which all heads share.
Status Reader::read_latent() {
  const std::uint64_t rank = AXON_TRY(fields_.count(key("attention.kv_lora_rank")));
  const std::uint64_t position = AXON_TRY(fields_.count(key("rope.dimension_count"), 1u << 16));
  latent_ = rank + position;
  // Files for the absorbed form say the sizes of heads apart, and the latent's as key_length.
  key_dim_ = AXON_TRY(fields_.count_or(key("attention.key_length_mla"), key_dim_, 1u << 16));
  value_dim_ = AXON_TRY(fields_.count_or(key("attention.value_length_mla"), value_dim_, 1u << 16));
  if (key_dim_ < position) return fields_.wrong(key("rope.dimension_count"), fmt::format("at most {}", key_dim_));
  const std::uint64_t heads = heads_[0], expanded = heads * (key_dim_ - position + value_dim_);
  builder_.width(2 * hidden_ + heads * key_dim_ + latent_ + expanded + heads * value_dim_);
  return Ok{};
}

LayerMemory Reader::attention(std::size_t i) {
  const std::uint64_t memory = kv_heads_[i] * (key_dim_ + value_dim_);
  builder_.width(2 * hidden_ + heads_[i] * key_dim_ + memory + heads_[i] * value_dim_);
  return {.kv_heads = kv_heads_[i], .key_dim = key_dim_, .value_dim = value_dim_, .window = windows_[i]};
}

LayerMemory Reader::recurrent() {
  const Recurrence& r = recurrence_;
  const std::uint64_t convolved = r.inner + 2 * r.shared();
  std::uint64_t width = 0;
  if (r.groups == 0) {  // in_proj, x_proj, dt_proj; then the convolved copy and the output
    width = 2 * r.inner + (r.time_rank + 2 * r.state) + r.inner + r.inner + r.inner;
  } else if (family_.mixer == Mixer::kDeltaOrAttention) {
    width = (2 * r.shared() + 2 * r.inner + 2 * r.time_rank) + convolved + r.inner;
  } else {
    width = (r.inner + convolved + r.time_rank) + convolved + r.inner;
  }
  builder_.width(2 * hidden_ + width);
  return {.state_values = r.inner * r.state, .conv_values = convolved * (r.taps - 1)};
}

// Each head has a square of state; what shifts is the last token's input of both halves of a layer.
Result<LayerMemory> Reader::rwkv() {
  const std::uint64_t size = AXON_TRY(fields_.count(key("wkv.head_size"), 1u << 14));
  if (hidden_ % size != 0) {
    return fields_.wrong(key("wkv.head_size"), fmt::format("a divisor of embedding_length ({})", hidden_));
  }
  const std::uint64_t shifts = AXON_TRY(fields_.count_or(key("token_shift_count"), 2, 2));
  const std::uint64_t projected = family_.name == "rwkv7" ? 7 : 5;  // r, w, k, v, g; a and the first layer's values
  builder_.width(2 * hidden_ + projected * hidden_ + hidden_ + hidden_);
  return LayerMemory{.state_values = hidden_ * size, .conv_values = shifts * hidden_};
}

Result<Layer> Reader::layer(std::size_t i) {
  const bool has_heads = attends() && kv_heads_[i] != 0;
  const auto attending = [&] {
    return Layer{.kind = windows_[i] != 0 ? "sliding attention" : "attention", .memory = attention(i)};
  };
  switch (family_.mixer) {
    case Mixer::kAttention: return attending();
    case Mixer::kLatent: return Layer{.kind = "latent attention", .memory = {.latent_dim = latent_}};
    case Mixer::kMamba: return Layer{.kind = "mamba", .memory = recurrent()};
    case Mixer::kMamba2: return Layer{.kind = "mamba2", .memory = recurrent()};
    case Mixer::kMambaOrAttention:
      if (has_heads) return attending();
      return Layer{.kind = "mamba", .memory = recurrent()};
    case Mixer::kMamba2OrAttention:
      if (has_heads) return attending();
      return Layer{.kind = "mamba2", .memory = recurrent()};
    case Mixer::kMamba2AndAttention: {
      LayerMemory both = attention(i);
      const LayerMemory mixer = recurrent();
      both.state_values = mixer.state_values;
      both.conv_values = mixer.conv_values;
      return Layer{.kind = "attention and mamba2", .memory = both};
    }
    case Mixer::kMamba2AttentionOrNeither:
      if (has_heads) return attending();
      if (feed_forward_[i] != 0) return Layer{.kind = "feed forward", .memory = {}};
      return Layer{.kind = "mamba2", .memory = recurrent()};
    case Mixer::kDeltaOrAttention:
      if ((i + 1) % interval_ != 0) return Layer{.kind = "delta rule", .memory = recurrent()};
      if (has_heads) return attending();
      return fields_.wrong(key("attention.head_count_kv"), fmt::format("from 1 in layer {}", i));
    case Mixer::kRwkv: break;
  }
  return Layer{.kind = "rwkv", .memory = AXON_TRY(rwkv())};
}

Status Reader::read_tensors() {
  Architecture& model = builder_.model();
  model.tensors = AXON_TRY(gguf_groups(file_, experts_, fields_.what()));
  const std::uint64_t inner = gguf_feed_forward_width(file_, experts_);
  if (inner != 0) builder_.width(2 * hidden_ + inner);
  const FileWeights weights = file_weights(file_);
  if (weights.types.empty()) return Ok{};
  const std::string& type = weights.types.front().name;
  std::string native(type.size(), ' ');
  std::transform(type.begin(), type.end(), native.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  model.native_weights = native == "f32" ? "fp32" : native == "f16" ? "fp16" : native;  // as precisions are called
  return Ok{};
}

Result<Architecture> Reader::read() {
  AXON_TRY(read_sizes());
  if (attends()) {
    AXON_TRY(read_attention());
    AXON_TRY(read_windows());
  }
  const bool recurs = family_.mixer != Mixer::kAttention && family_.mixer != Mixer::kLatent;
  if (recurs && family_.mixer != Mixer::kRwkv) AXON_TRY(read_recurrence());
  if (family_.mixer == Mixer::kLatent) AXON_TRY(read_latent());
  for (std::size_t i = 0; i < layers_; ++i) builder_.layer(AXON_TRY(layer(i)));
  AXON_TRY(read_tensors());
  return builder_.finish();
}

std::string known_gguf_families() {
  std::vector<std::string_view> names;
  for (const GgufFamily& family : kFamilies) names.push_back(family.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Result<Architecture> gguf_architecture(const Gguf& file, std::string_view what) {
  const GgufValue* value = file.find("general.architecture");
  const std::string* name = value == nullptr ? nullptr : value->get<std::string>();
  if (name == nullptr) {
    return make_error(
        ErrorCode::kInvalidArgument, "{}: general.architecture {}", what,
        value == nullptr ? std::string("is missing") : fmt::format("must be text, but is {}", value->brief()));
  }
  const auto* family =
      std::find_if(std::begin(kFamilies), std::end(kFamilies), [&](const auto& f) { return f.name == *name; });
  if (family == std::end(kFamilies)) {
    return make_error(ErrorCode::kUnsupported, "{}: general.architecture {} is unknown; known are {}", what,
                      value->brief(), known_gguf_families());
  }
  const JsonValue metadata = metadata_under(file, *name + ".");
  const Fields fields(metadata, what);
  return Reader(file, *family, fields).read();
}

}  // namespace axon
