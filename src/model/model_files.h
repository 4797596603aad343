#pragma once
// The files of a model: config.json, *.safetensors, tokenizer.json in one folder. Opening reads headers only.

#include <string>

#include "io/safetensors.h"
#include "model/config.h"

namespace axon {

struct ModelFiles {
  std::string folder;
  Config config;
  Safetensors tensors;
  std::string tokenizer_path;  // empty when the folder has none
};

// `path`: the folder, or a .safetensors file in it. kNotFound says what was looked for.
Result<ModelFiles> open_model(const std::string& path);

}  // namespace axon
