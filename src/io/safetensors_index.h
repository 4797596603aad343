#pragma once
// model.safetensors.index.json: which tensor is in which shard of a model.

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace axon {

inline constexpr std::string_view kSafetensorsIndexName = "model.safetensors.index.json";

struct SafetensorsIndex {
  std::vector<std::string> shards;                             // in order of first mention; file names, no folders
  std::map<std::string, std::size_t, std::less<>> weight_map;  // tensor -> position in `shards`
};

// {"metadata": {anything}, "weight_map": {tensor: file}}. kCorrupt for anything else, for a file name that is not a
// plain *.safetensors name, and for doubled tensors; kUnsupported beyond 65,536 tensors; kNotFound, kIo.
Result<SafetensorsIndex> read_safetensors_index(const std::string& path);

}  // namespace axon
