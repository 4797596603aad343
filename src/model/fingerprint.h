#pragma once
// Which model a saved state belongs to.

#include <string>
#include <string_view>

#include "io/safetensors.h"
#include "model/config.h"

namespace axon {

// Hex, 16 digits. Covers the numbers of the config that shape the function (not max_seq_len, the window or the order of
// work), each tensor's name, type, shape and 192 of its bytes (first, middle, last), and `precision`: the form in which
// the weights are held. So other weights of the same shapes are told apart without reading them, unless they differ
// only in a few places.
std::string fingerprint(const Config& config, const Safetensors& tensors, std::string_view precision);

}  // namespace axon
