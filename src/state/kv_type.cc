#include "state/kv_type.h"

#include <vector>

namespace axon {

std::string_view KvType::what() const {
  if (layout != nullptr) return layout->what;
  return dtype == DType::kF32 ? "IEEE single precision" : "IEEE half precision";
}

std::span<const KvType> kv_types() {
  static const std::vector<KvType> all = [] {
    std::vector<KvType> types = {DType::kF32, DType::kF16, KvType(turboquant::int8_layout())};
    for (const turboquant::Layout& layout : turboquant::layouts()) types.emplace_back(layout);
    return types;
  }();
  return all;
}

Result<KvType> parse_kv_type(std::string_view text) {
  std::string names;
  for (const KvType& type : kv_types()) {
    if (type.name() == text) return type;
    names += (names.empty() ? "" : ", ") + std::string(type.name());
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown KV cache type \"{}\": there are {}", text, names);
}

Status check_kv_type(const KvType& type, std::size_t head_dim) {
  if (type.layout == nullptr) return Ok{};
  if (const Status checked = turboquant::check_head_dim(head_dim); !checked.ok()) {
    return make_error(ErrorCode::kUnsupported,
                      "a {} cache cannot hold this model's vectors: {}; fp16 and fp32 hold any", type.name(),
                      checked.error().message);
  }
  return Ok{};
}

}  // namespace axon
