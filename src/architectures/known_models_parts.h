#pragma once
// The list of known models in two parts. A config holds what the published config.json holds, less what shapes nothing
// (token ids, rope, dropout). What a published config leaves to its model code's defaults is left out here too.

#include <vector>

#include "architectures/known_models.h"

namespace axon {

std::vector<KnownModel> known_attention_models();  // attention in every layer
std::vector<KnownModel> known_recurrent_models();  // state-space and RWKV models, and hybrids

}  // namespace axon
