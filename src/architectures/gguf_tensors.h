#pragma once
// A GGUF file's tensors as an architecture has them: what each is for, and those that differ only by layer together.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "architectures/architecture.h"
#include "io/gguf.h"

namespace axon {

// expert_count and expert_used_count; 0 of 0 when the model has none.
struct GgufExperts {
  std::uint64_t count = 0, used = 0;
};

// From the names that gguf-py's constants.py lists: "blk.3.ffn_gate_exps.weight" is an expert's.
Part gguf_part(std::string_view name);

// Numbers in names become "*". Where a tensor holds all experts of a layer, each counts as one of rows x cols.
// kInvalidArgument when a tensor holds another number of experts than the metadata says.
Result<std::vector<TensorGroup>> gguf_groups(const Gguf& file, const GgufExperts& experts, std::string_view what);

// One more than the highest N of "blk.N.": layers that have tensors.
std::uint64_t gguf_blocks(const Gguf& file);

// Values a token that the widest feed forward holds at once (see Builder::width): gate and up of the dense one, or of
// the experts in use with the shared one and the router's scores.
std::uint64_t gguf_feed_forward_width(const Gguf& file, const GgufExperts& experts);

}  // namespace axon
