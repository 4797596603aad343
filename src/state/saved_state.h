#pragma once
// A sequence in a file: what it remembers, and what it takes to go on as if it had never stopped.
//
// The file is safetensors. Metadata: format "bit-axon state", version "1", position (tokens that have passed), model
// (fingerprint of the weights), kv (the KV type), ring (slots of the KV rings), codebook (hex turboquant::codebook_id,
// for compressed types), made_with, values of the caller's as "value.NAME", and checksum (hex, over all the rest).
//   layer_3.kv.k, layer_3.kv.v   F16 or F32 [H, used, A]   float rings; used = min(position, slots)
//   layer_3.kv                   U8 [H, bytes]             compressed: for each head its header, the tiles that hold
//                                                          codes, and the tail's K, K scales, V, V scales in use
//   layer_0.ssm.h                F32 [N, E]
//   layer_0.ssm.tail             F32 [K-1, E]
//   unread                       U32 [tokens]              of the sequence, but not read yet
//   seen                         U64 [words]               bit t: the sampler counts token t
// So a short conversation makes a small file, and what is written does not depend on the CPU.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "state/sequence_state.h"

namespace axon {

// What goes into the file beside the state.
struct StateNotes {
  std::string model;                               // a fingerprint: the state means nothing to other weights
  std::string made_with;                           // the options of the maker, as refusals quote them; UTF-8
  std::map<std::string, std::string> values = {};  // the maker's own
  std::span<const std::uint32_t> unread = {};
  std::span<const std::uint64_t> seen = {};
};

// Replaces the file at `path`, or leaves it as it was: kIo with the reason. Takes no memory that grows with the state.
Status save_state(const SequenceState& state, const StateNotes& notes, const std::string& path);

// Where a state is to go on.
struct StateTarget {
  std::span<const LayerStateShape> shapes;
  KvType kv;
  std::string_view model;        // fingerprint
  std::uint64_t context = 0;     // the most tokens
  std::uint64_t vocab_size = 0;  // of the model: unread tokens are below
};

// A file of save_state's. Opening reads the header only.
class SavedState {
 public:
  // kNotFound, kIo; kCorrupt for what is no safetensors file, no saved state, or contradicts itself; kUnsupported for
  // another version.
  static Result<SavedState> open(const std::string& path);
  // The same of bytes that outlive the result; `what` names them in messages.
  static Result<SavedState> parse(std::span<const std::byte> bytes, std::string_view what);

  std::uint64_t position() const { return position_; }
  const std::string& made_with() const { return made_with_; }
  // Null when the maker gave none of that name.
  const std::string* value(std::string_view name) const;
  std::vector<std::uint32_t> unread() const;  // as restore() checked them
  std::vector<std::uint64_t> seen() const;

  // Whether all fits: kInvalidArgument (kUnsupported for another codebook) names the thing, what the file has and what
  // is wanted; kCorrupt for shapes that contradict the position.
  Status check(const StateTarget& target) const;
  // check(), then everything into `state`, a piece of the file in memory at a time. Shapes and KV type are the state's
  // own. kCorrupt when bytes are not those that were written. After an error the state is empty.
  Status restore(StateTarget target, SequenceState& state) const;

 private:
  SavedState() = default;
  Status read_metadata();
  Status check_tensors(const StateTarget& target) const;
  Status copy(SequenceState& state) const;
  Status check_contents(const StateTarget& target, const SequenceState& state) const;
  Error mismatch(ErrorCode code, std::string_view thing, std::string_view got, std::string_view expected) const;

  MappedFile file_;
  Safetensors tensors_;
  std::string what_, model_, kv_, ring_, codebook_, made_with_;
  std::uint64_t position_ = 0, checksum_ = 0;
};

}  // namespace axon
