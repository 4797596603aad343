#include "plan/architecture_subject.h"

#include <algorithm>

#include "plan/report.h"
#include "plan/train_plan.h"

namespace axon {
namespace {

Error too_large(const std::string& target, std::string_view what) {
  return make_error(ErrorCode::kInvalidArgument, "{}: {} do not fit 64 bits", target, what);
}

// The precision of each group when nothing is changed: as published.
Precision native(const Architecture& model, const TensorGroup& group) {
  const std::string name = model.native_weights.empty() ? "bf16" : model.native_weights;
  // Models published in few bits keep some parts in 16: gpt-oss all but its experts, DeepSeek-V3 both ends and routers.
  const bool outer = group.part == Part::kEmbedding || group.part == Part::kHead || group.part == Part::kRouter;
  const bool coded = name == "mxfp4" ? group.part == Part::kExperts : name != "fp8" || !outer;
  Result<Precision> precision = parse_precision(group.matrix && coded ? name : "bf16");
  return precision.ok() ? precision.value() : Precision{};
}

// Layers that remember alike.
struct MemoryTally {
  std::string kind;
  LayerMemory memory;
  std::uint64_t layers = 0;
};
bool alike(const LayerMemory& a, const LayerMemory& b) {
  return a.kv_heads == b.kv_heads && a.key_dim == b.key_dim && a.value_dim == b.value_dim &&
         a.latent_dim == b.latent_dim && a.window == b.window && a.state_values == b.state_values &&
         a.conv_values == b.conv_values;
}
std::vector<MemoryTally> tally(const std::vector<Layer>& layers) {
  std::vector<MemoryTally> out;
  for (const Layer& layer : layers) {
    const auto same = std::find_if(out.begin(), out.end(), [&](const MemoryTally& t) {
      return t.kind == layer.kind && alike(t.memory, layer.memory);
    });
    if (same != out.end()) {
      ++same->layers;
    } else {
      out.push_back({layer.kind, layer.memory, 1});
    }
  }
  return out;
}

class ForeignSubject : public Subject {
 public:
  explicit ForeignSubject(ForeignModel model) : model_(std::move(model)) {
    if (model_.architecture) layers_ = tally(model_.architecture->layers);
    describe();
  }

  const SubjectFacts& facts() const override { return facts_; }

  Result<Footprint> footprint(const RunChoice& choice) const override {
    Footprint out;
    const KvFormat kv = AXON_TRY(parse_kv_format(choice.kv));
    AXON_TRY(add_weights(choice, out));
    if (model_.architecture) {
      AXON_TRY(add_caches(choice, kv, out));
      AXON_TRY(add_estimates(choice, out));
    } else {
      out.notes.push_back(fmt::format("not counted: what the model keeps of a sequence ({})", model_.cache_unknown));
    }
    out.notes.push_back("not counted: the program that runs the model, its code and its runtime");
    out.cannot_run = fmt::format("this program does not run the family {}", facts_.family);
    return out;
  }

  Result<Footprint> training(const TrainChoice& choice) const override {
    if (!model_.architecture) {
      return make_error(ErrorCode::kInvalidArgument, "{}: training needs shapes: {}", model_.target,
                        model_.cache_unknown);
    }
    const Architecture& a = *model_.architecture;
    EstimateShape shape{.sites = {},
                        .layers = a.layers.size(),
                        .hidden_size = a.hidden_size,
                        .vocab_size = a.vocab_size,
                        .widest_layer_values = a.widest_values,
                        .all_layers_values = a.widest_values * a.layers.size()};
    for (const TensorGroup& g : a.tensors) {
      const bool adapted = g.part == Part::kAttention || g.part == Part::kFeedForward ||
                           g.part == Part::kSharedExpert || g.part == Part::kRecurrent;
      if (g.matrix && adapted && g.rows > 1) shape.sites.push_back({g.name, g.cols, g.rows, g.count});
    }
    return estimated_training(*this, shape, choice);
  }

  std::string command(const RunChoice& choice) const override {
    std::string out = fmt::format("bit-axon plan {}", shell_word(model_.target));
    if (choice.context != 0) out += fmt::format(" --context {}", choice.context);
    if (choice.weights != "keep") out += fmt::format(" --weights {}", choice.weights);
    if (choice.kv != "fp16") out += fmt::format(" --kv {}", choice.kv);
    if (choice.window) {
      out += fmt::format(" --attention-window {}", *choice.window == 0 ? "all" : fmt::format("{}", *choice.window));
    }
    if (choice.prefill_chunk != RunChoice{}.prefill_chunk) {
      out += fmt::format(" --prefill-chunk {}", choice.prefill_chunk);
    }
    return out;
  }

 private:
  void describe() {
    facts_.target = model_.target;
    facts_.title = model_.title;
    facts_.evidence = model_.evidence;
    facts_.source = model_.source;
    facts_.family = model_.architecture ? model_.architecture->family : "unknown";
    if (model_.architecture) {
      const Architecture::Count count = model_.architecture->parameters();
      facts_.parameters = count.total;
      facts_.active = count.active;
      facts_.context_max = model_.architecture->context_max;
      for (const MemoryTally& t : layers_) facts_.layers.push_back({t.kind, t.layers, t.memory.window});
      facts_.stored = model_.architecture->native_weights;
    } else if (model_.files && !model_.files->packed) {
      facts_.parameters = model_.files->elements();
    }
    if (model_.files) {
      facts_.stored.clear();
      for (const FileWeights::Type& type : model_.files->types) {
        if (facts_.stored.size() > 60) continue;
        facts_.stored += fmt::format("{}{} {}", facts_.stored.empty() ? "" : ", ", type.name, to_string(type.bytes));
      }
    }
  }

  Status add_weights(const RunChoice& choice, Footprint& out) const {
    if (choice.weights == "keep" && model_.files) {
      for (const FileWeights::Type& type : model_.files->types) {
        out.accounts.push_back({.name = fmt::format("weights: {}", type.name),
                                .bytes = type.bytes,
                                .estimate = false,
                                .terms = {{fmt::format("{} tensors of {} as stored, {} elements", grouped(type.tensors),
                                                       type.name, grouped(type.elements)),
                                           type.bytes}}});
      }
      return Ok{};
    }
    if (!model_.architecture) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: --weights {} needs the model's shapes, and only its files' bytes are known ({})",
                        model_.target, choice.weights, model_.cache_unknown);
    }
    const Architecture& a = *model_.architecture;
    std::optional<Precision> wanted;
    if (choice.weights != "keep") wanted = AXON_TRY(parse_precision(choice.weights));
    for (const TensorGroup& group : a.tensors) {
      // Routers decide and are small: no format touches them.
      const bool coded = group.matrix && group.part != Part::kRouter;
      const Precision held = wanted && coded ? *wanted : native(a, group);
      const auto one = held.bytes(group.rows, group.cols);
      const auto bytes = one ? checked_mul(*one, group.count) : std::nullopt;
      if (!bytes) return too_large(model_.target, group.name);
      Account& account = account_of(out, fmt::format("weights: {}", name_of(group.part)));
      const auto sum = checked_add(account.bytes.count, *bytes);
      if (!sum) return too_large(model_.target, "the weights");
      account.bytes = {*sum};
      account.terms.push_back({fmt::format("{} x {} [{}, {}], {:.4g} bits a weight", grouped(group.count), group.name,
                                           grouped(group.rows), grouped(group.cols), held.bits()),
                               Bytes{*bytes}});
    }
    order_by_part(out.accounts);
    return Ok{};
  }

  // Embedding first, norms last, whatever the reader's order was.
  static void order_by_part(std::vector<Account>& accounts) {
    const auto part = [](const Account& account) {
      int p = 0;
      while (p < static_cast<int>(Part::kNorm) &&
             account.name != fmt::format("weights: {}", name_of(static_cast<Part>(p)))) {
        ++p;
      }
      return p;
    };
    std::stable_sort(accounts.begin(), accounts.end(),
                     [&](const Account& x, const Account& y) { return part(x) < part(y); });
  }

  static Account& account_of(Footprint& out, const std::string& name) {
    for (Account& account : out.accounts) {
      if (account.name == name) return account;
    }
    return out.accounts.emplace_back(Account{.name = name, .bytes = {}, .estimate = false, .terms = {}});
  }

  std::uint64_t context_of(const RunChoice& choice) const {
    if (choice.context != 0) return choice.context;
    return model_.architecture->context_max != 0 ? model_.architecture->context_max : 4096;
  }

  Status add_caches(const RunChoice& choice, const KvFormat& format, Footprint& out) const {
    const std::uint64_t context = context_of(choice);
    Account cache{.name = "kv cache", .bytes = {}, .estimate = false, .terms = {}};
    Account state{.name = "recurrent state", .bytes = {}, .estimate = true, .terms = {}};
    Account conv{.name = "conv state", .bytes = {}, .estimate = true, .terms = {}};
    for (const MemoryTally& t : layers_) {
      const std::uint64_t window = choice.window.value_or(t.memory.window);
      const std::uint64_t tokens = window == 0 ? context : std::min(context, window);
      AXON_TRY(add_cache(format, t, tokens, cache));
      AXON_TRY(add_state(t, t.memory.state_values, state));
      AXON_TRY(add_state(t, t.memory.conv_values, conv));
    }
    out.accounts.push_back(std::move(cache));
    if (state.bytes > 0_B) out.accounts.push_back(std::move(state));
    if (conv.bytes > 0_B) out.accounts.push_back(std::move(conv));
    const std::uint64_t made_for = model_.architecture->context_max;
    if (made_for != 0 && context > made_for) {
      out.notes.push_back(fmt::format("a context of {} is beyond the {} that the model was made for", grouped(context),
                                      grouped(made_for)));
    }
    return Ok{};
  }

  Status add_cache(const KvFormat& format, const MemoryTally& t, std::uint64_t tokens, Account& cache) const {
    const LayerMemory& m = t.memory;
    if (m.kv_heads == 0 && m.latent_dim == 0) return Ok{};
    const bool latent = m.latent_dim != 0;
    const auto one = latent ? kv_bytes(format, 1, m.latent_dim, 0, tokens)
                            : kv_bytes(format, m.kv_heads, m.key_dim, m.value_dim, tokens);
    AXON_TRY(add(cache, t,
                 latent ? fmt::format("{} tokens x {} latent values, {}", grouped(tokens), m.latent_dim, format.name)
                        : fmt::format("{} tokens x {} heads x ({} + {}), {}", grouped(tokens), m.kv_heads, m.key_dim,
                                      m.value_dim, format.name),
                 one));
    return Ok{};
  }

  // Held in float32 by the programs that run such models.
  Status add_state(const MemoryTally& t, std::uint64_t values, Account& account) const {
    if (values == 0) return Ok{};
    return add(account, t, fmt::format("{} values x 4 B", grouped(values)), checked_mul(values, 4));
  }

  Status add(Account& account, const MemoryTally& t, const std::string& text,
             std::optional<std::uint64_t> bytes_of_one) const {
    const auto bytes = bytes_of_one ? checked_mul(*bytes_of_one, t.layers) : std::nullopt;
    const auto sum = bytes ? checked_add(account.bytes.count, *bytes) : std::nullopt;
    if (!sum || *sum >= std::uint64_t{1} << 62) return too_large(model_.target, "the bytes of the " + account.name);
    account.terms.push_back({fmt::format("{} layers of {} x {}", t.layers, t.kind, text), Bytes{*bytes}});
    account.bytes = {*sum};
    return Ok{};
  }

  Status add_estimates(const RunChoice& choice, Footprint& out) const {
    const Architecture& a = *model_.architecture;
    const std::uint64_t chunk = std::min(choice.prefill_chunk, context_of(choice));
    const auto values = checked_mul(a.widest_values, chunk);
    const auto bytes = values ? checked_mul(*values, 4) : std::nullopt;
    if (!bytes) return too_large(model_.target, "the activations");
    out.accounts.push_back({.name = "workspace",
                            .bytes = Bytes{*bytes},
                            .estimate = true,
                            .terms = {{fmt::format("{} tokens at once x {} values in the widest layer x 4 B",
                                                   grouped(chunk), grouped(a.widest_values)),
                                       Bytes{*bytes}}}});
    out.accounts.push_back(
        {.name = "logits",
         .bytes = Bytes{a.vocab_size * 4},
         .estimate = true,
         .terms = {{fmt::format("a row of {} x 4 B", grouped(a.vocab_size)), Bytes{a.vocab_size * 4}}}});
    return Ok{};
  }

  ForeignModel model_;
  std::vector<MemoryTally> layers_;
  SubjectFacts facts_;
};

}  // namespace

std::unique_ptr<Subject> foreign_subject(ForeignModel model) {
  return std::make_unique<ForeignSubject>(std::move(model));
}

}  // namespace axon
