#pragma once
// run --state FILE: the conversation that a run goes on with, and the file that it is left in.

#include <string>
#include <vector>

#include "cli/common.h"
#include "state/saved_state.h"

namespace axon::cli {

class StateFile {
 public:
  StateFile() = default;  // none was asked for: nothing is read or written
  // Says what can be wrong before a model is loaded: a file that does not fit this run, or one that cannot be written.
  // Engine::plan has passed for these options.
  static Result<StateFile> open(const RunOptions& options, const OpenedModel& model, const EngineOptions& engine);

  bool asked() const { return !path_.empty(); }
  bool goes_on() const { return remembered_ > 0; }  // there is a conversation already

  // Brings session and sampler to where the file was written. What belongs to the conversation and was not read yet.
  Result<std::vector<TokenId>> restore(Engine& engine);
  // A new conversation begins, with this system message or none.
  void begin(std::string_view system);
  // Writes the conversation as it is now. After an error the older file stands.
  Status save(Engine& engine, std::span<const TokenId> unread);

  std::string line() const { return line(remembered_); }  // as in the file
  std::string line(std::size_t tokens) const;             // "state: FILE, 52 tokens remembered"
  Json json() const;

 private:
  std::string path_, model_, made_with_, system_;
  std::optional<SavedState> saved_;
  std::size_t restored_ = 0, remembered_ = 0;  // tokens, unread ones included
  bool written_ = false;
};

}  // namespace axon::cli
