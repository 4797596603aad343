#include "architectures/architecture.h"

#include <algorithm>

#include "architectures/builder.h"
#include "architectures/families.h"

namespace axon {

std::string_view name_of(Part part) {
  switch (part) {
    case Part::kEmbedding: return "embedding";
    case Part::kHead: return "head";
    case Part::kAttention: return "attention";
    case Part::kFeedForward: return "feed forward";
    case Part::kExperts: return "experts";
    case Part::kSharedExpert: return "shared expert";
    case Part::kRouter: return "router";
    case Part::kRecurrent: return "recurrent mixers";
    case Part::kNorm: return "norms";
  }
  return "";
}

Architecture::Count Architecture::parameters() const {
  Count count;
  for (const TensorGroup& group : tensors) {
    count.total += group.elements();
    count.active += group.elements() * group.active / group.of;
  }
  return count;
}

std::uint64_t Architecture::attention_layers() const {
  return static_cast<std::uint64_t>(std::count_if(layers.begin(), layers.end(), [](const Layer& layer) {
    return layer.memory.kv_heads != 0 || layer.memory.latent_dim != 0;
  }));
}

std::uint64_t Architecture::recurrent_layers() const {
  return static_cast<std::uint64_t>(
      std::count_if(layers.begin(), layers.end(), [](const Layer& layer) { return layer.memory.state_values != 0; }));
}

const std::vector<Family>& families() {
  static const std::vector<Family> table = [] {
    std::vector<Family> out = transformer_families();
    for (const Family& family : recurrent_families()) out.push_back(family);
    return out;
  }();
  return table;
}

const std::vector<std::string_view>& known_families() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> out;
    for (const Family& family : families()) out.push_back(family.name);
    return out;
  }();
  return names;
}

Result<Architecture> read_architecture(const JsonValue& config, std::string_view what) {
  if (config.get<JsonValue::Object>() == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected an object, but got {}", what, config.brief());
  }
  const Fields fields(config, what);
  const std::string type = AXON_TRY(fields.text_or("model_type", ""));
  if (type.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: model_type is missing: it says which family this is", what);
  }
  for (const Family& family : families()) {
    if (family.name == type) return family.read(fields);
  }
  return make_error(ErrorCode::kUnsupported, "{}: model_type \"{}\" is unknown; known are {}", what, type.substr(0, 80),
                    fmt::join(known_families(), ", "));
}

}  // namespace axon
