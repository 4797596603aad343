#pragma once
// Session: one sequence being read and continued. It owns all that changes: state, activations, logits, history.

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "memory/arena.h"
#include "model/model.h"
#include "state/saved_state.h"
#include "state/sequence_state.h"

namespace axon {

struct SessionOptions {
  std::size_t context = 4096;       // the most tokens the sequence may have
  std::size_t prefill_chunk = 256;  // tokens in one pass
  Arithmetic arithmetic = Arithmetic::kFast;
  std::size_t logits_rows = 1;    // positions whose logits are wanted at once
  std::optional<KvType> kv = {};  // none: float32 in exact arithmetic, else half precision
  AdapterNeeds adapters = {};     // of the model's

  KvType kv_type() const { return kv.value_or(arithmetic == Arithmetic::kExact ? DType::kF32 : DType::kF16); }
};

class Session {
 public:
  // Calls visit(account, carver); the carver has measured what create() will reserve. check() has passed.
  static void plan(const Config& config, const SessionOptions& options,
                   const std::function<void(std::string_view, const Carver&)>& visit);
  // kUnsupported for a KV type that cannot hold the model's vectors.
  static Status check(const Config& config, const SessionOptions& options);
  // `model` and `device` must outlive the session.
  static Result<Session> create(const Model& model, Device& device, Ledger& ledger, const SessionOptions& options);

  // Called after every piece of a long prompt; false stops (kCancelled), and what was read so far stays read.
  using Progress = std::function<bool(std::size_t done, std::size_t total)>;

  // Reads `ids` after all that came before. Refuses (kInvalidArgument, with both numbers) what would pass the context,
  // and ids outside the vocabulary. `read` (may be null) is set to the number of ids that were taken in.
  Status prefill(std::span<const std::uint32_t> ids, const Progress& progress = {}, std::size_t* read = nullptr);
  // Reads one token; the caller has checked that there is room. Allocates nothing and cannot fail.
  void step(std::uint32_t id);

  // Logits after the last token read, [V]. The caller may change them.
  std::span<float> logits();
  // Logits of the last prefill piece's rows [first, first + rows); rows <= logits_rows. For scoring.
  Mat<float> logits_of(std::size_t first, std::size_t rows);

  std::size_t position() const { return static_cast<std::size_t>(state_.position()); }
  std::size_t room() const { return options_.context - position(); }
  const SessionOptions& options() const { return options_; }
  const Model& model() const { return *model_; }
  void reset() { state_.reset(); }
  SequenceState& state() { return state_; }

  // Writes what the sequence remembers (state/saved_state.h). kIo, and then the older file is as it was.
  Status save(const std::string& path, const StateNotes& notes) const { return save_state(state_, notes, path); }
  // Goes on where a saved sequence stopped; `model` is this model's fingerprint. Logits are there once a token has been
  // read. Errors as SavedState::restore; then the session is as after reset().
  Status restore(const SavedState& saved, std::string_view model);

 private:
  Session() = default;
  void forward(std::span<const std::uint32_t> ids);

  const Model* model_ = nullptr;
  Device* device_ = nullptr;
  SessionOptions options_;
  SequenceState state_;
  Arena workspace_arena_, logits_arena_;
  ModelWorkspace workspace_;
  Mat<float> logits_;     // [logits_rows, V]
  std::size_t last_ = 0;  // rows of the last pass
};

}  // namespace axon
