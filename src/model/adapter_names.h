#pragma once
// The names of an adapter's tensors in files, both ways.

#include <optional>
#include <string>
#include <string_view>

#include "model/adapter_config.h"
#include "model/adapters.h"

namespace axon {

struct AdapterName {
  std::string layer;  // "layer_3.ssm.in_proj"
  AdapterTensor::Part part = AdapterTensor::Part::kA;
  std::optional<std::size_t> expert = {};  // PEFT's form: one of a stack
};

// Nothing for a name that is none of an adapter's.
std::optional<AdapterName> parse_adapter_name(AdapterForm form, std::string_view name);
std::string to_string(AdapterForm form, const AdapterName& name);

}  // namespace axon
