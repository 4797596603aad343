#pragma once
// Our own models as subjects of a plan: the numbers come from the lists that load, allocate and write.

#include "model/config.h"
#include "plan/subject.h"

namespace axon {

// A folder with config.json and weights, or a .safetensors file in one.
Result<std::unique_ptr<Subject>> bit_axon_files(const std::string& path);
// A model that does not exist yet, as `init` would write it. `tokenizer_path`: copied beside it when its ids fit the
// vocabulary; empty for none. `evidence`: "preset" or "config.json"; `target`: as typed.
Result<std::unique_ptr<Subject>> bit_axon_config(const Config& config, const std::string& target,
                                                 const std::string& evidence, const std::string& tokenizer_path);

}  // namespace axon
