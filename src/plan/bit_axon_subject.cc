#include "plan/bit_axon_subject.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "convert/convert.h"
#include "memory/mapped_file.h"
#include "plan/bit_axon_terms.h"
#include "plan/report.h"

namespace axon {
namespace {

// Beyond what `run` takes, sizes could leave 64 bits.
constexpr std::uint64_t kChunkMax = 65'536, kThreadsMax = 1024, kTokensMax = std::uint64_t{1} << 40;

Status check_range(std::string_view option, std::uint64_t number, std::uint64_t max) {
  if (number >= 1 && number <= max) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "{} must be from 1 to {}, but is {}", option, max, number);
}

// The name by which `run` knows a precision, where it does: "Q4" and "int4" are its q4.
std::string run_name(const std::string& weights) {
  if (parse_weight_format(weights).ok()) return weights;
  Result<Precision> known = parse_precision(weights);
  return known.ok() ? known.value().name : weights;
}

// The engine's type of that name, where it has one that holds this model's vectors.
Result<KvType> run_kv(const Config& config, std::string_view kv) {
  const KvType type = AXON_TRY(parse_kv_type(AXON_TRY(parse_kv_format(kv)).name));
  for (const LayerStateShape& shape : state_shapes(config, 1)) {
    if (shape.attention) AXON_TRY(check_kv_type(type, shape.head_dim));
  }
  return type;
}

std::string window_text(std::uint64_t window) { return window == 0 ? "all" : fmt::format("{}", window); }

class BitAxonSubject : public Subject {
 public:
  // `files`: absent for a model that does not exist yet.
  BitAxonSubject(Config config, std::optional<ModelFiles> files, std::optional<TokenizerShape> tokenizer,
                 SubjectFacts facts)
      : config_(config), files_(std::move(files)), tokenizer_(std::move(tokenizer)), facts_(std::move(facts)) {
    describe();
  }

  const SubjectFacts& facts() const override { return facts_; }

  Status add_adapter(const std::string& path, std::optional<double> scale) override {
    adapter_.emplace(AXON_TRY(AdapterFiles::open(path, config_, scale)));
    adapter_options_ = fmt::format(" --adapter {}", shell_word(path));
    if (scale) adapter_options_ += fmt::format(" --adapter-scale {}", *scale);
    return Ok{};
  }

  Result<Footprint> footprint(const RunChoice& asked) const override {
    RunChoice choice = asked;
    choice.weights = run_name(asked.weights);
    const Config config = AXON_TRY(chosen_config(choice));
    const EngineOptions options = AXON_TRY(engine_options(choice, config));
    const EnginePlan plan = AXON_TRY(engine_plan(config, options));
    Footprint out;
    out.accounts = explained(config, plan, options, tokenizer_.has_value());
    AXON_TRY(replace_weights(config, choice, out));
    AXON_TRY(replace_kv(config, options, choice, out));
    if (choice.window && *choice.window != config_.swa_window_size) {
      out.notes.push_back(fmt::format("the window of {} is not the one that the model was made with ({})",
                                      grouped(config.swa_window_size), grouped(config_.swa_window_size)));
    }
    return out;
  }

  Result<TrainingShape> training() const override {
    TrainingShape shape{.sites = adapter_sites(),
                        .layers = config_.num_layers,
                        .hidden_size = config_.hidden_dim,
                        .vocab_size = config_.vocab_size,
                        .widest_layer_values = 0,
                        .all_layers_values = 0};
    for (const LayerKind kind : layer_kinds(config_)) {
      const std::uint64_t values = saved_values(kind);
      shape.widest_layer_values = std::max(shape.widest_layer_values, values);
      shape.all_layers_values += values;
    }
    return shape;
  }

  std::string command(const RunChoice& choice) const override {
    std::string options = fmt::format(" --context {}", choice.context != 0 ? choice.context : config_.max_seq_len);
    if (choice.window) options += fmt::format(" --attention-window {}", window_text(*choice.window));
    if (choice.prefill_chunk != RunChoice{}.prefill_chunk) {
      options += fmt::format(" --prefill-chunk {}", choice.prefill_chunk);
    }
    const std::string name = run_name(choice.weights);
    Result<KvType> kv = run_kv(config_, choice.kv);
    const bool runnable = parse_weight_format(name).ok() && kv.ok();
    const std::string weights = name == "keep" ? "" : fmt::format(" --weights {}", name);
    const std::string target = shell_word(facts_.target);
    options += adapter_options_;
    if (choice.exact) options += " --exact";
    if (!runnable || kv.value() != SessionOptions{.arithmetic = arithmetic(choice)}.kv_type()) {
      options += fmt::format(" --kv {}", choice.kv);
    }
    if (!runnable) return fmt::format("bit-axon plan {}{}{}", target, weights, options);
    if (files_) return fmt::format("bit-axon run --model {}{}{}", target, weights, options);
    if (facts_.evidence != "preset") return fmt::format("bit-axon plan {}{}{}", target, weights, options);
    const std::string folder = fmt::format("{}-{}", facts_.target, name == "keep" ? "bf16" : name);
    return fmt::format("bit-axon init --preset {}{} -o {} && bit-axon run --model {}{}", facts_.target, weights, folder,
                       folder, options);
  }

 private:
  void describe() {
    const ParameterCount count = count_parameters(config_);
    facts_.family = "bit_axon";
    facts_.parameters = count.total;
    facts_.active = count.active;
    facts_.context_max = config_.max_seq_len;
    facts_.runs_here = true;
    for (const LayerKind kind : layer_kinds(config_)) {
      const std::string name(name_of(kind));
      if (facts_.layers.empty() || facts_.layers.back().kind != name) {
        facts_.layers.push_back({name, 0, kind.mixer == Mixer::kSwa ? config_.swa_window_size : 0});
      }
      ++facts_.layers.back().count;
    }
  }

  Result<Config> chosen_config(const RunChoice& choice) const {
    Config config = config_;
    if (choice.window) {
      config.swa_window_size = *choice.window == 0 ? config.max_seq_len : *choice.window;
      AXON_TRY(check_config(config, facts_.target));
    }
    if (choice.context > config.max_seq_len) {
      return make_error(ErrorCode::kInvalidArgument, "--context {} is more than the model's max_seq_len {}",
                        choice.context, config.max_seq_len);
    }
    return config;
  }

  static Arithmetic arithmetic(const RunChoice& choice) {
    return choice.exact ? Arithmetic::kExact : Arithmetic::kFast;
  }

  // As `run` makes them of the same options. Without a KV type of the engine, with its default.
  Result<EngineOptions> engine_options(const RunChoice& choice, const Config& config) const {
    AXON_TRY(check_range("--prefill-chunk", choice.prefill_chunk, kChunkMax));
    AXON_TRY(check_range("--threads", choice.threads, kThreadsMax));
    AXON_TRY(check_range("--max-tokens", choice.max_tokens, kTokensMax));
    EngineOptions options;
    Result<WeightFormat> format = parse_weight_format(choice.weights);
    if (format.ok()) {
      options.weights = format.value();
    } else {
      AXON_TRY(parse_precision(choice.weights));
    }
    options.threads = choice.threads;
    options.session = {.context = choice.context != 0 ? choice.context : config.max_seq_len,
                       .prefill_chunk = choice.prefill_chunk,
                       .arithmetic = arithmetic(choice),
                       .logits_rows = 1};
    if (Result<KvType> kv = run_kv(config, choice.kv); kv.ok()) options.session.kv = kv.value();
    options.text = Bytes{4 * (options.session.context + choice.max_tokens)};
    if (adapter_) options.adapter = &*adapter_;
    return options;
  }

  Result<EnginePlan> engine_plan(const Config& config, const EngineOptions& options) const {
    const TokenizerShape* tokenizer = tokenizer_ ? &*tokenizer_ : nullptr;
    if (files_) return Engine::plan(config, files_->tensors, tokenizer, options);
    // Written in the wished precision; so nothing is converted at the start.
    const ConvertPlan written = plan_init(config, options.weights, options.threads);
    const ModelFiles files = AXON_TRY(as_if_written(config, written, facts_.target));
    EngineOptions kept = options;
    kept.weights = {};
    return Engine::plan(config, files.tensors, tokenizer, kept);
  }

  Status replace_weights(const Config& config, const RunChoice& choice, Footprint& out) const {
    if (parse_weight_format(choice.weights).ok()) return Ok{};
    const Precision precision = AXON_TRY(parse_precision(choice.weights));
    const std::vector<Account> weights = AXON_TRY(weights_at(config, precision));
    const auto is_weights = [](const Account& a) {
      return a.name.starts_with("weights: ") || a.name == account::kConversion;
    };
    out.accounts.erase(std::remove_if(out.accounts.begin(), out.accounts.end(), is_weights), out.accounts.end());
    out.accounts.insert(out.accounts.begin(), weights.begin(), weights.end());
    out.cannot_run = fmt::format("this version has no kernels for {} weights", precision.name);
    return Ok{};
  }

  // What the engine has no cache for is reckoned by formula.
  Status replace_kv(const Config& config, const EngineOptions& options, const RunChoice& choice, Footprint& out) const {
    const KvFormat format = AXON_TRY(parse_kv_format(choice.kv));
    const Result<KvType> kv = run_kv(config, choice.kv);
    if (kv.ok()) return Ok{};
    const auto shapes = state_shapes(config, options.session.context);
    for (Account& account : out.accounts) {
      if (account.name != account::kKvCache) continue;
      account = {.name = account.name, .bytes = {}, .estimate = true, .terms = {}};
      for (const LayerStateShape& s : shapes) {
        if (!s.attention) continue;
        const auto bytes = kv_bytes(format, s.heads, s.head_dim, s.head_dim, s.capacity);
        if (!bytes) return make_error(ErrorCode::kInvalidArgument, "the kv cache does not fit 64 bits");
        account.bytes += Bytes{*bytes};
      }
      const auto layers = std::count_if(shapes.begin(), shapes.end(), [](const auto& s) { return s.attention; });
      account.terms = {{fmt::format("{} layers x {} tokens x {} heads, {}: {}", layers,
                                    grouped(std::min<std::uint64_t>(options.session.context, config.swa_window_size)),
                                    config.num_heads, format.name, format.what),
                        account.bytes}};
    }
    if (!out.cannot_run.empty()) out.cannot_run += "; ";
    out.cannot_run +=
        parse_kv_type(format.name).ok() ? kv.error().message : fmt::format("this version has no {} cache", format.name);
    return Ok{};
  }

  // The linear layers that the original adapts: projections of mixers and shared experts, and the two at the ends.
  std::vector<AdapterSite> adapter_sites() const {
    std::vector<AdapterSite> sites;
    for (const TensorSpec& spec : tensor_list(config_)) {
      const std::string& name = spec.name;
      if (spec.use != TensorUse::kMatrix || name.find("switch_mlp") != std::string::npos || name.ends_with("x_proj")) {
        continue;
      }
      const std::size_t dot = name.starts_with("layer_") ? name.find('.') + 1 : 0;
      const std::string stem = name.substr(dot);
      const auto same = std::find_if(sites.begin(), sites.end(), [&](const AdapterSite& s) {
        return s.name == stem && s.in == spec.cols() && s.out == spec.rows();
      });
      if (same != sites.end()) {
        ++same->count;
      } else {
        sites.push_back({stem, spec.cols(), spec.rows(), 1});
      }
    }
    return sites;
  }

  // Values a token that a block keeps for its backward pass, its input aside.
  std::uint64_t saved_values(LayerKind kind) const {
    const std::uint64_t D = config_.hidden_dim, E = config_.ssm_intermediate_dim(), F = config_.moe_intermediate_dim;
    std::uint64_t values = D;  // normed
    if (kind.mixer == Mixer::kSwa) {
      values += 4 * D;  // q, k, v, attended
    } else {
      // xz, convolved, dt, y; and the state before each chunk of the scan
      values += 5 * E + E * config_.ssm_d_state / std::max<std::uint64_t>(1, config_.ssm_scan_step);
    }
    if (kind.moe) values += 2 * D + (config_.moe_top_k + 1) * 3 * F;  // middle, normed; gate, up, product
    return values;
  }

  Config config_;
  std::optional<ModelFiles> files_;
  std::optional<TokenizerShape> tokenizer_;
  SubjectFacts facts_;
  std::optional<AdapterFiles> adapter_;
  std::string adapter_options_;  // as typed
};

// What the weights are stored in, the largest share first: "U32 with scales" says less than "q4 g64".
std::string stored_forms(const ModelFiles& files) {
  std::map<std::string, std::uint64_t> bytes;
  std::set<std::string, std::less<>> used;
  for (const TensorSpec& spec : tensor_list(files.config)) {
    Result<StoredTensor> stored = find_stored(spec, files.tensors, used);
    if (!stored.ok() || stored.value().file == nullptr || !spec.is_matrix()) continue;
    const Affine& affine = stored.value().affine;
    const std::string form = affine.bits == 0 ? std::string(name_of(stored.value().dtype))
                                              : fmt::format("q{} g{}", affine.bits, affine.group_size);
    for (const auto& part : stored.value().parts) bytes[form] += part.size();
  }
  const auto largest =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return largest == bytes.end() ? "" : largest->first;
}

Result<std::optional<TokenizerShape>> measure_tokenizer(const std::string& path) {
  if (path.empty()) return std::optional<TokenizerShape>();
  const MappedFile file = AXON_TRY(MappedFile::open(path));
  return std::optional<TokenizerShape>(AXON_TRY(Tokenizer::measure(file.text(), path)));
}

}  // namespace

Result<std::unique_ptr<Subject>> bit_axon_files(const std::string& path) {
  ModelFiles files = AXON_TRY(open_model(path));
  std::optional<TokenizerShape> tokenizer = AXON_TRY(measure_tokenizer(files.tokenizer_path));
  if (tokenizer && tokenizer->vocab_size() > files.config.vocab_size) {
    return make_error(ErrorCode::kInvalidArgument, "{}: has {} ids, but the model's vocab_size is {}",
                      files.tokenizer_path, tokenizer->vocab_size(), files.config.vocab_size);
  }
  SubjectFacts facts;
  facts.target = path;
  facts.title = std::filesystem::path(files.folder).lexically_normal().filename().string();
  if (facts.title.empty() || facts.title == ".") facts.title = path;
  facts.evidence = "files";
  facts.stored = stored_forms(files);
  const Config config = files.config;
  return std::unique_ptr<Subject>(
      std::make_unique<BitAxonSubject>(config, std::move(files), std::move(tokenizer), std::move(facts)));
}

Result<std::unique_ptr<Subject>> bit_axon_config(const Config& config, const std::string& target,
                                                 const std::string& evidence, const std::string& tokenizer_path) {
  std::optional<TokenizerShape> tokenizer = AXON_TRY(measure_tokenizer(tokenizer_path));
  if (tokenizer && tokenizer->vocab_size() > config.vocab_size) tokenizer.reset();
  SubjectFacts facts;
  facts.target = target;
  facts.title = evidence == "preset" ? fmt::format("Bit-Axon {}", target) : target;
  facts.evidence = evidence;
  facts.stored = "nothing yet; as init writes it, bf16 unless --weights says otherwise";
  return std::unique_ptr<Subject>(
      std::make_unique<BitAxonSubject>(config, std::nullopt, std::move(tokenizer), std::move(facts)));
}

}  // namespace axon
