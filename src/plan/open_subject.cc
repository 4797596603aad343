// From what was typed to what it means: a folder, a file, a preset, a known model, a size.

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "architectures/known_models.h"
#include "io/atomic_file.h"
#include "io/safetensors_index.h"
#include "plan/architecture_subject.h"
#include "plan/bit_axon_subject.h"

namespace axon {
namespace {

namespace fs = std::filesystem;
using SubjectResult = Result<std::unique_ptr<Subject>>;

// Quantised checkpoints list their modules in it: far more than a plain config, far less than a tensor.
constexpr std::uint64_t kConfigBytesMax = 4u << 20;

bool there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// The original's config has no model_type; other programs add one.
bool is_bit_axon(const JsonValue& config) {
  if (const JsonValue* type = config.find("model_type"); type != nullptr && type->get<std::string>() != nullptr) {
    return *type->get<std::string>() == "bit_axon" || *type->get<std::string>() == "bit-axon";
  }
  return config.find("d_source_model") != nullptr;
}

bool has_weights(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name == kSafetensorsIndexName || (name.ends_with(".safetensors") && !name.starts_with("."))) return true;
  }
  return false;
}

std::string title_of(const fs::path& path) {
  const std::string name = fs::absolute(path).lexically_normal().filename().string();
  return name.empty() ? fs::absolute(path).lexically_normal().parent_path().filename().string() : name;
}

// An unknown family, reckoned by the fallback formula because the user asked.
SubjectResult by_formula(const std::string& target, const JsonValue& config, const std::optional<FileWeights>& files,
                         const SubjectOptions& options, const Error& unknown) {
  SizeGuess guess{.target = target,
                  .parameters = files && !files->packed ? files->elements() : 0,
                  .fallback = true,
                  .layers = options.layers,
                  .hidden_size = options.hidden_size,
                  .stored = files ? files->bytes() : Bytes{}};
  const auto number = [&](const char* key) {
    const JsonValue* value = config.find(key);
    const std::uint64_t* n = value == nullptr ? nullptr : value->get<std::uint64_t>();
    return n == nullptr ? std::uint64_t{0} : *n;
  };
  if (guess.layers == 0) guess.layers = number("num_hidden_layers");
  if (guess.hidden_size == 0) guess.hidden_size = number("hidden_size");
  if (guess.layers == 0 || guess.hidden_size == 0 || guess.parameters == 0) {
    return Error{unknown.code,
                 unknown.message +
                     ". For the fallback formula its safetensors files, num_hidden_layers and hidden_size "
                     "(or --layers and --hidden-size) would be needed"};
  }
  return size_subject(std::move(guess));
}

SubjectResult foreign_config(const std::string& target, const fs::path& config_path, const JsonValue& config,
                             std::optional<FileWeights> files, const SubjectOptions& options) {
  Result<Architecture> read = read_architecture(config, config_path.string());
  if (!read.ok()) {
    if (read.error().code != ErrorCode::kUnsupported) return read.error();
    if (options.fallback) return by_formula(target, config, files, options, read.error());
    return Error{read.error().code, read.error().message +
                                        ". --fallback reckons with 2 x layers x hidden size x "
                                        "tokens x bytes instead"};
  }
  ForeignModel model;
  model.architecture = std::move(read).value();
  model.target = target;
  model.title = title_of(fs::is_directory(target) ? fs::path(target) : config_path.parent_path());
  model.evidence = files ? fmt::format("config.json and the headers of {} files", files->files) : "config.json";
  model.files = std::move(files);
  return foreign_subject(std::move(model));
}

SubjectResult open_config(const std::string& target, const fs::path& path, const SubjectOptions& options) {
  const std::string text = AXON_TRY(read_small_file(path.string(), kConfigBytesMax));
  const JsonValue config = AXON_TRY(read_json_value(text, path.string()));
  const fs::path folder = path.parent_path();
  const bool weights = fs::is_directory(target) && has_weights(folder);
  if (is_bit_axon(config)) {
    if (weights) return bit_axon_files(target);
    const fs::path tokenizer = folder / "tokenizer.json";
    return bit_axon_config(AXON_TRY(parse_config(text, path.string())), target, "config.json",
                           there(tokenizer) ? tokenizer.string() : "");
  }
  std::optional<FileWeights> files;
  if (weights) files = file_weights(AXON_TRY(Safetensors::open(folder.string())));
  return foreign_config(target, path, config, std::move(files), options);
}

SubjectResult open_safetensors(const std::string& target, const SubjectOptions& options) {
  const fs::path config_path = fs::path(target).parent_path() / "config.json";
  if (there(config_path)) {
    const std::string text = AXON_TRY(read_small_file(config_path.string(), kConfigBytesMax));
    const JsonValue config = AXON_TRY(read_json_value(text, config_path.string()));
    if (is_bit_axon(config)) return bit_axon_files(target);
    return foreign_config(target, config_path, config, file_weights(AXON_TRY(Safetensors::open(target))), options);
  }
  ForeignModel model;
  model.files = file_weights(AXON_TRY(Safetensors::open(target)));
  model.target = target;
  model.title = title_of(target);
  model.evidence = "safetensors header";
  model.cache_unknown = "there is no config.json beside it";
  return foreign_subject(std::move(model));
}

SubjectResult open_gguf(const std::string& target) {
  const Gguf file = AXON_TRY(Gguf::open(target));
  ForeignModel model;
  model.architecture = AXON_TRY(gguf_architecture(file, target));
  model.files = file_weights(file);
  model.target = target;
  model.title = title_of(target);
  model.evidence = "GGUF header";
  return foreign_subject(std::move(model));
}

SubjectResult open_folder(const std::string& target, const SubjectOptions& options) {
  const fs::path folder(target), config = folder / "config.json";
  if (there(config)) return open_config(target, config, options);
  std::error_code ignored;
  std::vector<std::string> ggufs;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool later_shard = name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
    if (name.ends_with(".gguf") && !later_shard) ggufs.push_back(entry.path().string());
  }
  std::sort(ggufs.begin(), ggufs.end());
  if (ggufs.size() == 1) return open_gguf(ggufs.front());
  if (ggufs.size() > 1) {
    return make_error(ErrorCode::kInvalidArgument, "{}: holds {} GGUF models; name one of them: {}", target,
                      ggufs.size(), fmt::join(ggufs, ", "));
  }
  return make_error(ErrorCode::kNotFound, "{}: no model in this folder: looked for config.json and *.gguf", target);
}

SubjectResult open_known(const KnownModel& known) {
  const JsonValue config = AXON_TRY(read_json_value(known.config, known.name));
  ForeignModel model;
  model.architecture = AXON_TRY(read_architecture(config, known.name));
  model.target = known.name;
  model.title = known.title;
  model.evidence = "known model";
  model.source = known.source;
  return foreign_subject(std::move(model));
}

SubjectResult open_size(const std::string& target, std::uint64_t parameters, const SubjectOptions& options) {
  SizeGuess guess{.target = target,
                  .parameters = parameters,
                  .fallback = options.fallback,
                  .layers = options.layers,
                  .hidden_size = options.hidden_size};
  if (guess.fallback && (guess.layers == 0 || guess.hidden_size == 0)) {
    return make_error(ErrorCode::kInvalidArgument, "--fallback for a bare size needs --layers and --hidden-size");
  }
  return size_subject(std::move(guess));
}

}  // namespace

Result<std::unique_ptr<Subject>> open_subject(const std::string& target, const SubjectOptions& options) {
  if (target.empty()) return bit_axon_files(options.default_model);
  std::error_code ignored;
  if (there(target)) {
    if (fs::is_directory(target, ignored)) return open_folder(target, options);
    if (target.ends_with(".gguf")) return open_gguf(target);
    if (target.ends_with(".safetensors")) return open_safetensors(target, options);
    if (target.ends_with(".json")) return open_config(target, target, options);
    return make_error(ErrorCode::kUnsupported, "{}: expected a folder, config.json, *.safetensors or *.gguf", target);
  }
  const auto presets = preset_names();
  std::string name = target;
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (std::find(presets.begin(), presets.end(), name) != presets.end()) {
    const fs::path tokenizer = fs::path(options.default_model) / "tokenizer.json";
    return bit_axon_config(AXON_TRY(preset(name)), name, "preset", there(tokenizer) ? tokenizer.string() : "");
  }
  if (const KnownModel* known = find_known_model(target)) return open_known(*known);
  if (const auto parameters = parse_parameter_count(target)) return open_size(target, *parameters, options);
  const std::vector<std::string_view> similar = similar_known_models(target);
  return make_error(
      ErrorCode::kNotFound,
      "{}: no such folder or file, nor a preset ({}), nor a known model ({}), nor a size such as 20b", target,
      fmt::join(presets, ", "),
      similar.empty() ? "bit-axon plan --list shows them" : fmt::format("similar: {}", fmt::join(similar, ", ")));
}

}  // namespace axon
