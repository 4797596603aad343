#pragma once
// The number of a token in its vocabulary.

#include <cstdint>

namespace axon {

using TokenId = std::uint32_t;

}  // namespace axon
