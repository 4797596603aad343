#include "plan/train_plan.h"

#include <algorithm>

#include "generate/engine.h"
#include "plan/report.h"

namespace axon {
namespace {

// Rows of logits that the loss holds at once, with their gradients: T x V never exists.
constexpr std::uint64_t kLossRows = 256;

struct Optimizer {
  std::string_view name, what;
  Precision state;  // of one adapter parameter
};
const std::vector<Optimizer>& optimizers() {
  static const std::vector<Optimizer> list = {
      {"adamw", "two float32 moments", {"", 1, 8, ""}},
      // Block-wise 8-bit optimizers (arXiv 2110.02861): two bytes, and two float32 scales for each 2,048.
      {"adamw8bit", "two 8-bit moments, a float32 scale each for 2,048 of them", {"", 2048, 2 * (2048 + 4), ""}},
      {"sgd", "no state", {"", 1, 0, ""}}};
  return list;
}

// Adds accounts; a sum that does not fit 64 bits is remembered.
class TrainAccounts {
 public:
  void add(std::string name, std::optional<std::uint64_t> bytes, std::string text, bool estimate) {
    overflow_ = overflow_ || !bytes || *bytes >= std::uint64_t{1} << 60;
    const Bytes sum{overflow_ ? 0 : *bytes};
    out.accounts.push_back({.name = std::move(name), .bytes = sum, .estimate = estimate, .terms = {{text, sum}}});
  }
  bool overflow() const { return overflow_; }
  Footprint out;

 private:
  bool overflow_ = false;
};

std::optional<std::uint64_t> product(std::initializer_list<std::uint64_t> factors) {
  std::optional<std::uint64_t> out = 1;
  for (const std::uint64_t f : factors) out = out ? checked_mul(*out, f) : std::nullopt;
  return out;
}

// One term for each kind of site: rank x (in + out).
void add_adapters(const EstimateShape& shape, const TrainChoice& choice, const std::string& name, TrainAccounts& to,
                  std::optional<std::uint64_t>& parameters) {
  Account account{.name = name, .bytes = {}, .estimate = false, .terms = {}};
  parameters = 0;
  for (const AdapterSite& site : shape.sites) {
    const auto width = checked_add(site.in, site.out);
    const auto values = width ? product({*width, choice.settings.rank, site.count}) : std::nullopt;
    const auto sum = values && parameters ? checked_add(*parameters, *values) : std::nullopt;
    parameters = sum;
    if (!sum || *sum >= std::uint64_t{1} << 56) {
      parameters.reset();
      return;
    }
    account.terms.push_back({fmt::format("{} x {}: rank {} x ({} + {}) x 4 B", site.count, site.name,
                                         choice.settings.rank, grouped(site.in), grouped(site.out)),
                             Bytes{*values * 4}});
    account.bytes += Bytes{*values * 4};
  }
  to.out.accounts.push_back(std::move(account));
}

void add_activations(const EstimateShape& shape, const TrainChoice& choice, TrainAccounts& to) {
  const std::string tokens =
      fmt::format("{} x {} tokens", grouped(choice.settings.batch_size), grouped(choice.settings.max_seq_len));
  to.add("block inputs",
         product({shape.layers, choice.settings.batch_size, choice.settings.max_seq_len, shape.hidden_size, 2}),
         fmt::format("{} blocks x {} x {} x 2 B (bf16){}", shape.layers, tokens, grouped(shape.hidden_size),
                     choice.checkpointing ? ": what is kept; the rest is computed again" : ""),
         true);
  if (choice.checkpointing) {
    to.add("activations",
           product({choice.settings.batch_size, choice.settings.max_seq_len, shape.widest_layer_values, 2, 4}),
           fmt::format("{} x {} values of the widest block, and their gradients, x 4 B", tokens,
                       grouped(shape.widest_layer_values)),
           true);
    return;
  }
  const auto values = checked_add(shape.all_layers_values, shape.widest_layer_values);
  to.add("activations",
         values ? product({choice.settings.batch_size, choice.settings.max_seq_len, *values, 4}) : std::nullopt,
         fmt::format("{} x ({} values of all blocks + gradients of the widest, {}) x 4 B", tokens,
                     grouped(shape.all_layers_values), grouped(shape.widest_layer_values)),
         true);
}

// An estimate does not tell them apart.
Status check_estimated(const TrainChoice& choice, std::string_view target) {
  const train::TrainSettings &s = choice.settings, plain;
  const bool ours = s.objective != plain.objective || s.adapter != plain.adapter || s.dropout != plain.dropout ||
                    !s.targets.empty() || s.pack || s.compat || s.chunk != plain.chunk || choice.data.examples != 0 ||
                    choice.validation.examples != 0;
  if (!ours) return Ok{};
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: this program does not train it, and the estimate knows only --rank, --max-seq-len, "
                    "--batch-size, --optimizer and --no-checkpointing of a training",
                    target);
}

const Optimizer* find_optimizer(std::string_view name) {
  for (const Optimizer& o : optimizers()) {
    if (o.name == name) return &o;
  }
  return nullptr;
}

}  // namespace

Status check_optimizer(std::string_view name) {
  if (find_optimizer(name) != nullptr) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "unknown optimizer \"{}\": there are adamw, adamw8bit and sgd", name);
}

Status check_trainable(const TrainChoice& choice) {
  if (choice.optimizer != "adamw") {
    return make_error(ErrorCode::kInvalidArgument,
                      "train has AdamW alone; {} can be planned for other families' models only", choice.optimizer);
  }
  if (choice.checkpointing) return Ok{};
  return make_error(ErrorCode::kInvalidArgument,
                    "train always keeps block inputs and computes blocks again; --no-checkpointing can be planned for "
                    "other families' models only");
}

std::string typed(const TrainChoice& choice) {
  const train::TrainSettings &s = choice.settings, plain;
  std::string out = fmt::format("--weights {} --rank {} --batch-size {} --max-seq-len {}", choice.weights, s.rank,
                                s.batch_size, s.max_seq_len);
  if (s.objective != plain.objective) out += " --method orpo";
  if (s.adapter != plain.adapter) out += " --adapter dora";
  if (s.dropout != plain.dropout) out += fmt::format(" --dropout {}", s.dropout);
  if (!s.targets.empty()) out += fmt::format(" --targets {}", shell_word(fmt::format("{}", fmt::join(s.targets, ","))));
  if (s.pack) out += " --pack";
  if (s.chunk != plain.chunk) out += fmt::format(" --chunk {}", s.chunk);
  if (s.compat) out += " --compat";
  if (s.exact) out += " --exact";
  if (choice.optimizer != "adamw") out += fmt::format(" --optimizer {}", choice.optimizer);
  if (!choice.checkpointing) out += " --no-checkpointing";
  return out;
}

Result<Footprint> train_footprint(const Subject& subject, const TrainChoice& choice) {
  AXON_TRY(check_optimizer(choice.optimizer));
  return subject.training(choice);
}

Result<Footprint> estimated_training(const Subject& subject, const EstimateShape& shape, const TrainChoice& choice) {
  AXON_TRY(check_estimated(choice, subject.facts().target));
  RunChoice base;
  base.weights = choice.weights;
  base.threads = choice.threads;
  base.context = 1;
  const Footprint run = AXON_TRY(subject.footprint(base));

  TrainAccounts to;
  for (const Account& account : run.accounts) {
    const bool weights = account.name.starts_with("weights") || account.name == account::kConversion;
    if (weights || account.name == account::kTokenizer) to.out.accounts.push_back(account);
  }
  std::optional<std::uint64_t> parameters;
  add_adapters(shape, choice, "adapters", to, parameters);
  if (!parameters)
    return make_error(ErrorCode::kInvalidArgument, "rank {} gives adapters beyond 64 bits", choice.settings.rank);
  const Optimizer& optimizer = *find_optimizer(choice.optimizer);
  to.add("adapter gradients", product({*parameters, 4}), fmt::format("{} x 4 B", grouped(*parameters)), false);
  to.add("optimizer state", optimizer.state.bytes(1, *parameters),
         fmt::format("{} x {}: {}", grouped(*parameters), optimizer.name, optimizer.what), false);
  add_activations(shape, choice, to);
  const auto tokens = product({choice.settings.batch_size, choice.settings.max_seq_len});
  const std::uint64_t rows = std::min(kLossRows, tokens.value_or(kLossRows));
  to.add("loss", product({rows, shape.vocab_size, 2, 4}),
         fmt::format("{} tokens at once x {} logits and their gradients x 4 B", rows, grouped(shape.vocab_size)), true);
  to.add("kv cache", 0, "none: attention looks back within the batch that is being computed", false);
  to.add("batch", product({choice.settings.batch_size, choice.settings.max_seq_len, 2, 4}),
         fmt::format("{} x {} ids and labels x 4 B", choice.settings.batch_size, grouped(choice.settings.max_seq_len)),
         true);
  to.add(std::string(account::kProcess), kProcessBytes.count, "code, libraries, stacks, small heap objects", true);
  if (to.overflow()) {
    return make_error(ErrorCode::kInvalidArgument, "batch {} x {} tokens does not fit 64 bits",
                      choice.settings.batch_size, choice.settings.max_seq_len);
  }
  to.out.cannot_run = "this program trains models of its own family alone";
  return std::move(to.out);
}

Result<Bytes> full_fine_tuning(const Subject& subject) {
  const auto bytes = checked_mul(subject.facts().parameters, 12);
  if (!bytes || *bytes == 0) {
    return make_error(ErrorCode::kInvalidArgument, "{}: the number of parameters is not known", subject.facts().target);
  }
  return Bytes{*bytes};
}

}  // namespace axon
