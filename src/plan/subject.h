#pragma once
// What a plan is about: one of our models, with files or as a preset; another family's model, from its config or the
// headers of its files; or a bare size. Each answers the same question: which accounts, how many bytes.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "plan/precision.h"

namespace axon {

// One run: a cell of the matrix.
struct RunChoice {
  std::uint64_t context = 0;            // tokens; 0: the model's maximum
  std::string weights = "keep";         // as stored or published, or a precision
  std::string kv = "fp16";              // a KvFormat, whatever `exact` says
  std::optional<std::uint64_t> window;  // tokens that attention reaches back, for every layer; 0: all. Absent: as built
  std::uint64_t prefill_chunk = 256;
  std::uint64_t threads = 1;
  std::uint64_t max_tokens = 512;
  bool exact = false;
};

// A term of an account: its formula with the numbers in it. The terms of an account sum to it.
struct Term {
  std::string text;  // "8 layers x 2 x 4,096 tokens x 32 heads x 80 x 2 B"
  Bytes bytes;
};

struct Account {
  std::string name;
  Bytes bytes;
  bool estimate = false;  // not from a list that allocates
  std::vector<Term> terms;
};

struct Footprint {
  std::vector<Account> accounts;  // in the order of printing
  std::vector<std::string> notes;
  std::string cannot_run;  // why this program cannot run it as asked; empty when it can
  Bytes total() const;
  bool estimate() const;
  const Account& largest() const;
  const Account* find(std::string_view account) const;  // null when there is none
};

// What is known of a model before any choice.
struct SubjectFacts {
  std::string target;  // as typed
  std::string title;
  std::string family;  // "bit_axon", "llama", ...; "unknown" for a bare size
  std::string
      evidence;        // "files", "preset", "config.json", "GGUF header", "safetensors headers", "known model", "size"
  std::string source;  // where the config stands, for a known model
  std::uint64_t parameters = 0, active = 0;  // 0: not known
  std::uint64_t context_max = 0;             // 0: not said
  std::string stored;                        // "q4 g64", "bf16", "Q4_K 4.1 GiB, Q6_K 0.6 GiB"
  struct LayerKind {
    std::string kind;  // "ssm", "sliding attention"
    std::uint64_t count = 0;
    std::uint64_t window = 0;  // attention's; 0: all or none
  };
  std::vector<LayerKind> layers;
  bool runs_here = false;  // this program runs it
};

// A linear layer that an adapter may sit on, `count` times.
struct AdapterSite {
  std::string name;
  std::uint64_t in = 0, out = 0, count = 1;
};

// What training needs beside the weights.
struct TrainingShape {
  std::vector<AdapterSite> sites;
  std::uint64_t layers = 0, hidden_size = 0, vocab_size = 0;
  std::uint64_t widest_layer_values = 0;  // activations a token that the largest layer keeps for its backward pass
  std::uint64_t all_layers_values = 0;    // of all layers together: without checkpointing
};

class Subject {
 public:
  virtual ~Subject() = default;
  virtual const SubjectFacts& facts() const = 0;
  // kInvalidArgument for a choice that contradicts the model (a context beyond its maximum, a precision that is not
  // known for it); every number that does not fit 64 bits is one, too.
  virtual Result<Footprint> footprint(const RunChoice& choice) const = 0;
  // Weights alone, as they lie in memory in `weights`.
  virtual Result<TrainingShape> training() const = 0;
  // From here on, a run with this adapter (docs/adapters.md). Errors as AdapterFiles::open; kUnsupported for a model
  // that this program does not run.
  virtual Status add_adapter(const std::string& path, std::optional<double> scale);
  // What to type to run `choice`, or, where this program cannot, to see its plan.
  virtual std::string command(const RunChoice& choice) const = 0;
};

struct SubjectOptions {
  std::string default_model;  // folder of the shipped model, and whose tokenizer presets get
  bool fallback = false;      // unknown family or bare size: allow the formula of hidden size and layers
  std::uint64_t layers = 0, hidden_size = 0;  // for the fallback
};

// One word of a shell, in quotes where it needs them.
std::string shell_word(std::string_view text);

// TARGET: empty (the shipped model), a folder, a config.json, a .safetensors or .gguf file, a preset, a known model's
// name, or a size such as "20b". kNotFound says everything that was tried.
Result<std::unique_ptr<Subject>> open_subject(const std::string& target, const SubjectOptions& options);

}  // namespace axon
