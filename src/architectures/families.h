#pragma once
// The table of families: who reads which model_type.

#include <vector>

#include "architectures/builder.h"

namespace axon {

std::vector<Family> transformer_families();  // attention in every layer
std::vector<Family> recurrent_families();    // state-space and RWKV models, and hybrids with attention layers

}  // namespace axon
