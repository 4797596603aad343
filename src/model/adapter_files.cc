// Reading adapters: where the files are, whether each tensor fits the model, and its values.

#include "model/adapter_files.h"

#include <cmath>
#include <filesystem>
#include <map>

#include "base/random.h"
#include "model/adapter_names.h"
#include "quant/turboquant_rotation.h"

namespace axon {
namespace {

using Part = AdapterTensor::Part;

constexpr std::uint64_t kConfigBytesMax = 1u << 20;
constexpr std::string_view kConfigName = "adapter_config.json";

// The files behind a path, and what the config beside the weights says.
struct Located {
  AdapterForm form = AdapterForm::kOriginal;
  std::string weights;
  std::optional<AdapterConfig> config;
};

Result<std::string> first_there(const std::filesystem::path& folder, std::initializer_list<const char*> names) {
  std::error_code ignored;
  std::string looked_for;
  for (const char* name : names) {
    if (std::filesystem::exists(folder / name, ignored)) return (folder / name).string();
    looked_for += fmt::format("{}{}", looked_for.empty() ? "" : " or ", name);
  }
  if (std::filesystem::exists(folder / "adapter_model.bin", ignored)) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: adapter_model.bin is a program's memory, which is not read: save the adapter as safetensors",
                      folder.string());
  }
  return make_error(ErrorCode::kNotFound, "{}: no adapter: {} is not there", folder.string(), looked_for);
}

Result<Located> locate(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no such adapter (expected a folder with adapter_config.json, or a .safetensors file)", path);
  }
  const bool is_folder = fs::is_directory(path, ignored);
  const fs::path folder = is_folder ? fs::path(path) : fs::path(path).parent_path();
  Located out;
  const std::string config = (folder / kConfigName).string();
  if (fs::exists(config, ignored)) {
    out.config = AXON_TRY(parse_adapter_config(AXON_TRY(read_small_file(config, kConfigBytesMax)), config));
    out.form = out.config->form;
  }
  if (!is_folder) {
    out.weights = path;
    return out;
  }
  switch (out.form) {
    case AdapterForm::kPeft: out.weights = AXON_TRY(first_there(folder, {"adapter_model.safetensors"})); break;
    case AdapterForm::kMlxLm: out.weights = AXON_TRY(first_there(folder, {"adapters.safetensors"})); break;
    case AdapterForm::kOriginal:
      out.weights = AXON_TRY(first_there(folder, {"adapters.safetensors", "final_adapter.safetensors"}));
      break;
  }
  return out;
}

// As PEFT names it: each expert of a stack is a layer of its own.
std::string module_name(AdapterForm form, const AdaptedLinear& linear, std::size_t expert) {
  if (form != AdapterForm::kPeft || linear.experts == 0) return linear.name;
  return fmt::format("{}.experts.{}", linear.name, expert);
}

std::string_view name_of(Part part) {
  switch (part) {
    case Part::kA: return "A";
    case Part::kB: return "B";
    case Part::kMagnitude: break;
  }
  return "magnitude";
}

}  // namespace

Result<AdapterForm> detect_adapter(const std::string& path) { return AXON_TRY(locate(path)).form; }

// From the names in a file to the sources of a set.
class AdapterReader {
 public:
  AdapterReader(AdapterFiles& out, const Located& located, const Config& model)
      : out_(out), located_(located), model_(model) {}

  Status read(std::optional<double> scale) {
    AXON_TRY(gather());
    AXON_TRY(choose_kind());
    for (const TensorSpec& spec : tensor_list(model_)) {
      const auto found = layers_.find(spec.name);
      if (found == layers_.end() || spec.use != TensorUse::kMatrix) continue;
      AXON_TRY(add(spec, found->second));
    }
    AXON_TRY(set_scales(scale));
    return check_finite();
  }

 private:
  struct Entry {
    const std::string* name = nullptr;
    const TensorView* view = nullptr;
  };
  // Of one layer: each part of each expert, or, under -1, of all there is.
  using Parts = std::map<std::pair<std::int64_t, Part>, Entry>;

  Error wrong(const Entry& entry, const std::string& expected) const {
    return make_error(ErrorCode::kCorrupt, "{}: tensor {} is {} {}, expected {}", out_.path_, *entry.name,
                      axon::name_of(entry.view->dtype), to_string(entry.view->shape), expected);
  }

  // Every tensor of the file finds its layer, or is an error.
  Status gather() {
    std::map<std::string, const TensorSpec*, std::less<>> specs;
    const std::vector<TensorSpec> list = tensor_list(model_);
    for (const TensorSpec& spec : list) {
      if (spec.use == TensorUse::kMatrix) specs[spec.name] = &spec;
    }
    for (const auto& [name, view] : out_.tensors_.tensors()) {
      const std::optional<AdapterName> parsed = parse_adapter_name(out_.form_, name);
      if (!parsed) {
        const AdapterName example{.layer = "NAME"};
        return make_error(ErrorCode::kCorrupt, "{}: tensor {} is no part of an adapter in {} form, expected {}",
                          out_.path_, name, axon::name_of(out_.form_), to_string(out_.form_, example));
      }
      const auto spec = specs.find(parsed->layer);
      if (spec == specs.end()) {
        return make_error(ErrorCode::kCorrupt, "{}: tensor {}: the model has no layer \"{}\" that takes an adapter",
                          out_.path_, name, parsed->layer);
      }
      const bool stack = spec->second->shape.rank() == 3;
      const std::uint64_t experts = stack ? spec->second->shape[0] : 0;
      if (parsed->expert.has_value() != (stack && out_.form_ == AdapterForm::kPeft) ||
          parsed->expert.value_or(0) >= std::max<std::uint64_t>(experts, 1)) {
        return make_error(ErrorCode::kCorrupt, "{}: tensor {}: \"{}\" has {} experts", out_.path_, name, parsed->layer,
                          experts);
      }
      const std::int64_t expert = parsed->expert ? static_cast<std::int64_t>(*parsed->expert) : -1;
      const auto [at, added] = layers_[parsed->layer].try_emplace({expert, parsed->part}, Entry{&name, &view});
      if (!added) {
        return make_error(ErrorCode::kCorrupt, "{}: tensors {} and {} are the same part", out_.path_, *at->second.name,
                          name);
      }
    }
    if (!layers_.empty()) return Ok{};
    return make_error(ErrorCode::kCorrupt, "{}: no tensors, expected an adapter's", out_.path_);
  }

  // What the config says, or whether there are magnitudes.
  Status choose_kind() {
    const Entry* magnitude = nullptr;
    for (const auto& [layer, parts] : layers_) {
      for (const auto& [key, entry] : parts) {
        if (key.second == Part::kMagnitude && magnitude == nullptr) magnitude = &entry;
      }
    }
    const bool dora = located_.config ? located_.config->dora : magnitude != nullptr;
    if (!dora && magnitude != nullptr) {
      return make_error(ErrorCode::kCorrupt, "{}: tensor {} is of DoRA, but {} says LoRA", out_.path_, *magnitude->name,
                        kConfigName);
    }
    out_.shape_.kind = dora ? AdapterKind::kDora : AdapterKind::kLora;
    return Ok{};
  }

  Status add(const TensorSpec& spec, const Parts& parts) {
    const bool stack = spec.shape.rank() == 3;
    AdaptedLinear linear{.name = spec.name,
                         .in = static_cast<std::size_t>(spec.cols()),
                         .out = static_cast<std::size_t>(spec.shape[stack ? 1 : 0]),
                         .experts = stack ? static_cast<std::size_t>(spec.shape[0]) : 0,
                         .rank = 0};
    const bool dora = out_.shape_.kind == AdapterKind::kDora, rotate = AXON_TRY(wants_rotation(spec, dora));
    for (std::size_t e = 0; e < linear.count(); ++e) {
      for (const Part part : {Part::kA, Part::kB, Part::kMagnitude}) {
        if (part == Part::kMagnitude && !dora) continue;
        const bool whole = !stack || out_.form_ != AdapterForm::kPeft;  // one tensor for all experts
        const auto found = parts.find({whole ? -1 : static_cast<std::int64_t>(e), part});
        if (found == parts.end()) return missing(linear, part, e, parts.begin()->second);
        AXON_TRY(add(linear, part, e, found->second, rotate ? spec.heads : Heads::kNone));
      }
    }
    out_.shape_.linears.push_back(std::move(linear));
    return Ok{};
  }

  Error missing(const AdaptedLinear& linear, Part part, std::size_t expert, const Entry& there) const {
    const bool one = linear.experts != 0 && out_.form_ == AdapterForm::kPeft;
    const AdapterName name{
        .layer = linear.name, .part = part, .expert = one ? std::optional<std::size_t>(expert) : std::nullopt};
    return make_error(ErrorCode::kCorrupt, "{}: tensor {} ({}) is missing, though {} is there", out_.path_,
                      to_string(out_.form_, name), name_of(part), *there.name);
  }

  // One part: its shape, of which the first that is met says the layer's rank.
  Status add(AdaptedLinear& linear, Part part, std::size_t expert, const Entry& entry, Heads rotate) {
    const bool stacked = linear.experts != 0 && out_.form_ != AdapterForm::kPeft;
    // mlx-lm multiplies x from the left by A [in, R], but gathers experts as [R, in].
    const bool rank_last =
        part == Part::kA ? out_.form_ != AdapterForm::kPeft && !stacked : out_.form_ == AdapterForm::kPeft || stacked;
    const std::size_t wide = part == Part::kA ? linear.in : linear.out;
    if (linear.rank == 0) linear.rank = AXON_TRY(rank_of(linear, entry, stacked, rank_last));
    std::vector<std::uint64_t> dims;
    if (stacked) dims.push_back(linear.experts);
    if (part == Part::kMagnitude) {
      dims.push_back(wide);
    } else if (rank_last) {
      dims.insert(dims.end(), {wide, linear.rank});
    } else {
      dims.insert(dims.end(), {linear.rank, wide});
    }
    const Shape expected = AXON_TRY(Shape::create(dims));
    const DType dtype = entry.view->dtype;
    const bool real = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
    if (!real || !(entry.view->shape == expected)) {
      return wrong(entry, fmt::format("F32, F16 or BF16 {}", to_string(expected)));
    }
    const std::uint64_t size = expected.elements() / (stacked ? linear.experts : 1);
    const bool turned =
        (part == Part::kA && rotate == Heads::kInCols) || (part == Part::kB && rotate == Heads::kInRows);
    out_.sources_.push_back({.view = entry.view,
                             .first = stacked ? expert * size : 0,
                             .transposed = part != Part::kMagnitude && rank_last,
                             .factor = 1.0f,
                             .rotate = turned});
    return Ok{};
  }

  Result<std::size_t> rank_of(const AdaptedLinear& linear, const Entry& entry, bool stacked, bool rank_last) const {
    const Shape& shape = entry.view->shape;
    const std::size_t dims = stacked ? 3 : 2;
    const std::uint64_t rank = shape.rank() == dims ? shape[rank_last ? dims - 1 : dims - 2] : 0;
    if (rank < 1 || rank > kAdapterRankMax) {
      const std::string sides = rank_last ? fmt::format("{}, rank", linear.in) : fmt::format("rank, {}", linear.in);
      return wrong(entry, stacked ? fmt::format("[{}, {}]", linear.experts, sides) : fmt::format("[{}]", sides));
    }
    if (!located_.config) return static_cast<std::size_t>(rank);
    const std::size_t said = located_.config->rank_of(module_name(out_.form_, linear, 0));
    if (rank != said) return wrong(entry, fmt::format("rank {}, as {} says", said, kConfigName));
    return static_cast<std::size_t>(rank);
  }

  // The rotated basis of attention (convert/fold_rotation.h) is the model's or the adapter's alone.
  Result<bool> wants_rotation(const TensorSpec& spec, bool dora) const {
    const auto& metadata = out_.tensors_.metadata();
    const bool rotated = metadata.contains("kv_rotation");
    if (rotated && metadata.find("kv_rotation")->second != kKvRotationName) {
      return make_error(ErrorCode::kUnsupported, "{}: kv_rotation is \"{}\", expected \"{}\"", out_.path_,
                        metadata.find("kv_rotation")->second, kKvRotationName);
    }
    if (spec.heads == Heads::kNone || rotated == model_.kv_rotated) return false;
    AXON_TRY(turboquant::check_head_dim(model_.head_dim()));
    if (!dora || spec.heads == Heads::kInCols) return true;
    return make_error(ErrorCode::kUnsupported,
                      "{}: magnitudes of {} are of the rows of {}, but this model's attention is in {}: an adapter of "
                      "this kind fits only the other",
                      out_.path_, spec.name, rotated ? "rotated weights" : "weights as they were trained",
                      model_.kv_rotated ? "the rotated basis" : "its own basis");
  }

  Result<double> original_scale() const {
    const auto found = out_.tensors_.metadata().find("scale");
    if (found == out_.tensors_.metadata().end()) return kOriginalScale;
    char* end = nullptr;
    const double scale = std::strtod(found->second.c_str(), &end);
    if (!found->second.empty() && *end == '\0' && std::isfinite(scale)) return scale;
    return make_error(ErrorCode::kCorrupt, "{}: the scale is \"{}\", expected a number", out_.path_, found->second);
  }

  // The set has one scale: the largest. Where another is said, B has the ratio.
  Status set_scales(std::optional<double> told) {
    const double one = told ? *told : located_.config ? 0 : AXON_TRY(original_scale());
    const bool by_module = !told && located_.config;
    std::vector<double> scales;  // of each expert of each layer
    double largest = 0;
    for (const AdaptedLinear& linear : out_.shape_.linears) {
      for (std::size_t e = 0; e < linear.count(); ++e) {
        const std::string module = module_name(out_.form_, linear, e);
        scales.push_back(by_module ? located_.config->scale_of(module) : one);
        if (!std::isfinite(static_cast<float>(scales.back()))) {
          return make_error(ErrorCode::kCorrupt, "{}: the scale of {} is {}, expected one within float32", out_.path_,
                            module, scales.back());
        }
        if (std::fabs(scales.back()) > std::fabs(largest)) largest = scales.back();
      }
    }
    out_.shape_.scale = static_cast<float>(largest);
    const std::size_t parts = out_.shape_.kind == AdapterKind::kDora ? 3 : 2;
    AXON_CHECK(out_.sources_.size() == parts * scales.size());
    for (std::size_t i = 0; i < scales.size() && largest != 0; ++i) {
      out_.sources_[parts * i + 1].factor = static_cast<float>(scales[i] / largest);
    }
    return Ok{};
  }

  Status check_finite() const {
    for (const auto& [name, view] : out_.tensors_.tensors()) {
      const std::uint64_t elements = view.shape.elements();
      for (std::uint64_t i = 0; i < elements; ++i) {
        const float value = load_float(view.dtype, view.bytes.data(), i);
        if (std::isfinite(value)) continue;
        return make_error(ErrorCode::kCorrupt, "{}: tensor {}: element {} is {}, expected finite values", out_.path_,
                          name, i, value);
      }
      view.file->drop(view.bytes);
    }
    return Ok{};
  }

  AdapterFiles& out_;
  const Located& located_;
  const Config& model_;
  std::map<std::string, Parts, std::less<>> layers_;
};

Result<AdapterFiles> AdapterFiles::open(const std::string& path, const Config& config, std::optional<double> scale) {
  const Located located = AXON_TRY(locate(path));
  AdapterFiles out;
  out.form_ = located.form;
  out.path_ = located.weights;
  out.tensors_ = AXON_TRY(Safetensors::open(located.weights));
  out.dropout_ = located.config ? located.config->dropout : 0;
  out.head_dim_ = config.head_dim();
  out.model_rotated_ = config.kv_rotated;
  AXON_TRY(AdapterReader(out, located, config).read(scale));
  return out;
}

Bytes AdapterFiles::bytes() const {
  Carver carver;
  AdapterSet(carver, shape_);
  return carver.peak();
}

std::uint64_t AdapterFiles::digest() const {
  std::uint64_t h = hash64(fmt::format("{}", shape_.scale));
  for (const auto& [name, view] : tensors_.tensors()) {
    h = mix64(h ^ hash64(name));
    h = mix64(h ^ hash64({reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()}));
    view.file->drop(view.bytes);
  }
  return h;
}

void AdapterFiles::load(AdapterSet& set) const {
  AXON_CHECK(set.tensors().size() == sources_.size());
  std::optional<turboquant::Rotation> rotation;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const Source& source = sources_[i];
    const AdapterTensor& to = set.tensors()[i];
    const std::span<float> values = set.values_of(to);
    for (std::size_t r = 0; r < to.rows; ++r) {
      for (std::size_t c = 0; c < to.cols; ++c) {
        const std::uint64_t at = source.first + (source.transposed ? c * to.rows + r : r * to.cols + c);
        values[r * to.cols + c] = load_float(source.view->dtype, source.view->bytes.data(), at) * source.factor;
      }
    }
    source.view->file->drop(source.view->bytes);
    if (!source.rotate) continue;
    if (!rotation) rotation.emplace(head_dim_);
    for (std::size_t at = 0; at < values.size(); at += head_dim_) {
      const std::span<float> head = values.subspan(at, head_dim_);
      model_rotated_ ? rotation->apply(head) : rotation->invert(head);
    }
  }
}

}  // namespace axon
