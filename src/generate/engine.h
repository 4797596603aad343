#pragma once
// Engine: everything that a run needs, planned as one list of accounts and granted by one ledger.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "generate/sampler.h"
#include "generate/session.h"
#include "kernels/cpu/cpu_device.h"
#include "model/adapter_files.h"
#include "model/model_files.h"
#include "tokenizer/tokenizer.h"

namespace axon {

// What the program takes beside its accounts: code, C and C++ libraries, stacks, heap of small objects. Measured as the
// resident set of a run less its accounts (docs/memory.md), rounded up; the rest of the contract is exact.
inline constexpr Bytes kProcessBytes = 12_MiB;

// The longest stretch of text without a place to split it, and what encoding it takes for a moment: 60 bytes a byte.
inline constexpr std::size_t kPieceBytesMax = 32 << 10;
inline constexpr Bytes kEncodeBytes = 2_MiB;

struct EngineOptions {
  WeightFormat weights;
  SessionOptions session;
  SamplingOptions sampling;
  std::size_t threads = 1;
  Bytes text;                        // texts and ids that the command holds beside the session
  std::vector<KvType> more_kv = {};  // sessions beside the first that differ in how they hold keys and values alone
  Bytes process = kProcessBytes;     // 0 for an engine beside another one in the same process
  const AdapterFiles* adapter = nullptr;  // opened for this model; must outlive plan() and create(). Null: none
};

struct PlanLine {
  std::string account;
  Bytes bytes;
  std::vector<CarvedPiece> pieces;  // of what was carved; weights and bounds have none
};

struct EnginePlan {
  WeightsPlan weights;
  std::vector<PlanLine> lines;  // one an account, in the order of printing
  Bytes total() const;
};

class Engine {
 public:
  // From headers alone. Without a tokenizer its line is missing.
  static Result<EnginePlan> plan(const ModelFiles& files, const TokenizerShape* tokenizer,
                                 const EngineOptions& options) {
    return plan(files.config, files.tensors, tokenizer, options);
  }
  static Result<EnginePlan> plan(const Config& config, const Safetensors& tensors, const TokenizerShape* tokenizer,
                                 const EngineOptions& options);

  // Executes the plan: reserves every line, loads, and stands ready. `tokenizer_json` is the text that was measured.
  // kOverBudget when the ledger's limit is below the plan.
  static Result<std::unique_ptr<Engine>> create(ModelFiles files, const TokenizerShape* tokenizer,
                                                std::string_view tokenizer_json, const EnginePlan& plan,
                                                const EngineOptions& options, Bytes limit,
                                                const Model::Progress& progress = {});

  const Ledger& ledger() const { return ledger_; }
  const Model& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  std::size_t sessions() const { return sessions_.size(); }
  Session& session(std::size_t i = 0) { return sessions_[i]; }                      // then more_kv, in its order
  const AdapterSet* adapters() const { return adapters_ ? &*adapters_ : nullptr; }  // null: none
  Sampler& sampler() { return *sampler_; }
  cpu::CpuDevice& device() { return *device_; }

 private:
  explicit Engine(Bytes limit) : ledger_(limit) {}
  Ledger ledger_;  // first, so that it outlives what it granted
  Reservation process_, text_;
  std::unique_ptr<cpu::CpuDevice> device_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<Model> model_;
  Arena adapters_arena_;
  std::optional<AdapterSet> adapters_;
  std::vector<Session> sessions_;
  Arena sampler_arena_;
  std::optional<Sampler> sampler_;
};

// The largest shapes of a pass of `tokens` tokens through weights that are held as planned. `adapters`: null for none.
cpu::DeviceLimits device_limits(const Config& config, const WeightsPlan& weights, std::size_t tokens,
                                const AdapterShape* adapters = nullptr);

}  // namespace axon
