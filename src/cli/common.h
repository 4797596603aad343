#pragma once
// What every command needs: messages, progress, interruption, sizes as typed, and the opened model.

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "generate/engine.h"
#include "memory/mapped_file.h"
#include "plan/run_plan.h"

namespace axon::cli {

using Json = nlohmann::ordered_json;

// Prints "error: ..." on stderr and gives the exit status that belongs to it.
int report(const Error& error);
int exit_status(ErrorCode code);

// "64MiB", "8GB" (10^9), "1.5 GiB", "512k" (KiB), "1000000" (bytes).
Result<Bytes> parse_size(std::string_view text);
// "4096", "64k" (65,536), "1M" (1,048,576): tokens.
Result<std::uint64_t> parse_tokens(std::string_view text);
// The same, and 0.
Result<std::uint64_t> parse_depth(std::string_view text);
// kNotFound lists the machines that can be planned for.
Status check_machine(std::string_view name);
// "all" (0) or a number of tokens; no value for an empty text.
Result<std::optional<std::uint64_t>> parse_window(std::string_view text);
Result<std::optional<Bytes>> parse_budget(const std::string& text);

// SIGINT and SIGTERM set the flag instead of ending the program, as long as one lives. A second one ends it at once,
// but for SIGINT in a chat, where people press it twice.
class Interruption {
 public:
  enum class Insistence { kSecondEnds, kOnlyTermination };
  explicit Interruption(Insistence insistence = Insistence::kSecondEnds);
  ~Interruption();
  const std::atomic<bool>& flag() const;
  bool terminated() const;  // it was SIGTERM
  void clear();
};

// A line on stderr, rewritten in place, once an operation has taken a second; silent when stderr is no terminal.
class ProgressLine {
 public:
  explicit ProgressLine(std::string what) : what_(std::move(what)) {}
  ~ProgressLine() { clear(); }
  void update(double fraction, std::string_view detail = {});
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  Clock::time_point start_ = Clock::now(), last_{};
  bool shown_ = false;
};

bool stderr_is_terminal();
bool stdout_is_terminal();
std::string bold(std::string_view text);  // on a terminal
std::string dim(std::string_view text);

// The folder of the model that ships with the program: BIT_AXON_MODEL, or beside the executable's tree.
std::string default_model();
std::size_t thread_count(std::size_t asked);

// A model opened for planning: headers, and the tokenizer's measure.
struct OpenedModel {
  ModelFiles files;
  std::unique_ptr<AdapterFiles> adapter;  // null: none
  MappedFile tokenizer_file;
  std::optional<TokenizerShape> tokenizer;
  const TokenizerShape* shape() const { return tokenizer ? &*tokenizer : nullptr; }
};
// Without a tokenizer, even if there is one.
Result<OpenedModel> open_weights(const ModelOptions& options);
// `needs_tokenizer`: a model without one is an error.
Result<OpenedModel> open_for_run(const ModelOptions& options, bool needs_tokenizer);

// What standard input may hold before it is given up: far more than a context of text, and little memory.
inline constexpr std::size_t kMaxPiped = std::size_t{4} << 20;

// `what` names the text in the message, which counts bytes from the text's own start.
Status check_utf8(std::string_view what, std::string_view text);

// A text that passes the context whatever its tokens are is refused before memory is spent on them.
Status check_length(std::string_view prompt, Engine& engine);

// Options as the engine wants them; checks numbers against the model, which must outlive them.
Result<EngineOptions> engine_options(const ModelOptions& options, const OpenedModel& model);

// Plans, and refuses (kOverBudget with the refusal's text) what does not fit.
// `context_option`: what the command calls the length of its sequence.
Result<RunPlan> plan_or_refuse(const OpenedModel& model, const EngineOptions& options, const std::string& budget,
                               std::string_view context_option = "--context");
Result<std::unique_ptr<Engine>> load_engine(OpenedModel model, const RunPlan& plan, const EngineOptions& options,
                                            const Interruption& interruption);

// Planned and measured, account by account; of several engines in one plan, added up.
Json memory_json(const RunPlan& plan, std::span<const Ledger* const> ledgers);
Json memory_json(const RunPlan& plan, const Ledger& ledger);
std::string memory_table(const RunPlan& plan, const Ledger& ledger);
// One line: "memory: planned 41.2 MiB = ledger peak 41.2 MiB; resident peak 38.0 MiB; budget 64.0 MiB".
std::string memory_line(const RunPlan& plan, std::span<const Ledger* const> ledgers);
std::string memory_line(const RunPlan& plan, const Ledger& ledger);
// What smaller KV caches would save and were measured to cost, in one line; empty where the cache is less than a tenth
// of the plan. "kv cache: 320.0 MiB, fp16; --kv q8 saves 156.0 MiB (perplexity -0.02 %), ..."
std::string smaller_kv_line(const Session& session, const RunPlan& plan);

}  // namespace axon::cli
