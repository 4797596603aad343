#include "model/model_files.h"

#include <filesystem>

#include "io/atomic_file.h"

namespace axon {

Result<ModelFiles> open_model(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no such model folder (expected config.json, *.safetensors and tokenizer.json in it)", path);
  }
  const bool is_folder = fs::is_directory(path, ignored);
  const fs::path folder = is_folder ? fs::path(path) : fs::path(path).parent_path();
  const std::string config_path = (folder / "config.json").string();
  if (!fs::exists(config_path, ignored)) {
    return make_error(ErrorCode::kNotFound, "{}: not a model folder: {} is missing", path, config_path);
  }
  ModelFiles files;
  files.folder = folder.string();
  files.config = AXON_TRY(parse_config(AXON_TRY(read_small_file(config_path, 1u << 20)), config_path));
  files.tensors = AXON_TRY(Safetensors::open(path));
  const fs::path tokenizer = folder / "tokenizer.json";
  if (fs::exists(tokenizer, ignored)) files.tokenizer_path = tokenizer.string();
  return files;
}

}  // namespace axon
