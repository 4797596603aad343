#pragma once
// How keys and values are held between calls: the --kv of every command.

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "quant/turboquant_layout.h"
#include "tensor/dtype.h"

namespace axon {

struct KvType {
  DType dtype = DType::kF16;                   // of floats: kF16 or kF32
  const turboquant::Layout* layout = nullptr;  // q8 and the TurboQuant types; then dtype means nothing

  KvType() = default;
  KvType(DType floats) : dtype(floats) {}
  explicit KvType(const turboquant::Layout& compressed) : layout(&compressed) {}

  std::string_view name() const { return layout != nullptr ? layout->name : dtype == DType::kF32 ? "fp32" : "fp16"; }
  std::string_view what() const;
  bool operator==(const KvType&) const = default;
};

std::span<const KvType> kv_types();  // fp32, fp16, q8, tq4, tq3.5, tq3, lm3: in falling size
// kInvalidArgument names them all.
Result<KvType> parse_kv_type(std::string_view text);
// kUnsupported for vectors that the type cannot hold.
Status check_kv_type(const KvType& type, std::size_t head_dim);

}  // namespace axon
