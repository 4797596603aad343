#include "generate/engine.h"

#include <algorithm>

namespace axon {
namespace {

Carver measure_adapters(const EngineOptions& options) {
  Carver carver;
  if (options.adapter != nullptr) AdapterSet(carver, options.adapter->shape());
  return carver;
}

const AdapterShape* adapter_shape(const EngineOptions& options) {
  return options.adapter == nullptr ? nullptr : &options.adapter->shape();
}

Carver measure_sampler(const Config& config) {
  Carver carver;
  Sampler({}, config.vocab_size, carver);
  return carver;
}

// The account's line, made when there is none.
PlanLine& line_of(std::vector<PlanLine>& lines, std::string_view account) {
  for (PlanLine& line : lines) {
    if (line.account == account) return line;
  }
  return lines.emplace_back(PlanLine{.account = std::string(account), .bytes = {}, .pieces = {}});
}
void add(std::vector<PlanLine>& lines, std::string_view account, Bytes bytes) {
  line_of(lines, account).bytes += bytes;
}
void add(std::vector<PlanLine>& lines, std::string_view account, const Carver& carver) {
  PlanLine& line = line_of(lines, account);
  line.bytes += carver.peak();
  line.pieces.insert(line.pieces.end(), carver.pieces().begin(), carver.pieces().end());
}

// One for each session.
std::vector<SessionOptions> session_options(const EngineOptions& options) {
  std::vector<SessionOptions> out(1 + options.more_kv.size(), options.session);
  for (std::size_t i = 0; i < options.more_kv.size(); ++i) out[1 + i].kv = options.more_kv[i];
  if (options.adapter == nullptr) return out;
  for (SessionOptions& session : out) session.adapters = options.adapter->shape().needs();
  return out;
}

}  // namespace

Bytes EnginePlan::total() const {
  Bytes sum;
  for (const PlanLine& line : lines) sum += line.bytes;
  return sum;
}

cpu::DeviceLimits device_limits(const Config& c, const WeightsPlan& weights, std::size_t tokens,
                                const AdapterShape* adapters) {
  const std::size_t widest =
      std::max({c.ssm_intermediate_dim(), c.hidden_dim, c.d_source_model, c.moe_intermediate_dim});
  std::size_t cols = widest, rank = 0;  // B [R, out] is a weight, too, and the way through it is transposed
  if (adapters != nullptr) {
    for (const AdaptedLinear& linear : adapters->linears) cols = std::max(cols, linear.out);
    rank = adapters->rank_max();
  }
  std::size_t widest_bf16 = 0;
  for (const WeightsPlan::Item& item : weights.items) {
    const Weight held{nullptr, item.spec.rows(), item.spec.cols(), item.dtype, item.affine};
    if (item.spec.is_matrix() && cpu::bf16::takes(held)) widest_bf16 = std::max(widest_bf16, held.cols);
  }
  return {.x_elements_max = tokens * widest,
          .rows_of_x_max = tokens,
          .cols_max = cols,
          .bf16_cols_max = widest_bf16,
          .head_dim_max = c.head_dim(),
          .states_max = c.ssm_d_state,
          .mixed_elements_max = 0,
          .transposed_rows_max = rank};
}

Result<EnginePlan> Engine::plan(const Config& config, const Safetensors& tensors, const TokenizerShape* tokenizer,
                                const EngineOptions& options) {
  const std::vector<SessionOptions> sessions = session_options(options);
  for (const SessionOptions& session : sessions) AXON_TRY(Session::check(config, session));
  EnginePlan plan{.weights = AXON_TRY(plan_weights(config, tensors, options.weights, options.threads)), .lines = {}};
  for (const WeightsPlan::Zone& zone : plan.weights.zones) add(plan.lines, zone.account, zone.bytes());
  if (options.adapter != nullptr) add(plan.lines, account::kAdapters, measure_adapters(options));
  for (const SessionOptions& session : sessions) {
    Session::plan(config, session,
                  [&](std::string_view account, const Carver& carver) { add(plan.lines, account, carver); });
  }
  const std::size_t tokens = std::min(options.session.prefill_chunk, options.session.context);
  add(plan.lines, account::kWorkspace,
      cpu::CpuDevice::scratch(device_limits(config, plan.weights, tokens, adapter_shape(options)), options.threads));
  add(plan.lines, account::kLogits, measure_sampler(config));
  if (plan.weights.conversion > 0_B) add(plan.lines, account::kConversion, plan.weights.conversion);
  if (tokenizer != nullptr) add(plan.lines, account::kTokenizer, tokenizer->bytes());
  add(plan.lines, account::kText, options.text + (tokenizer != nullptr ? kEncodeBytes : Bytes{}));
  if (options.process > 0_B) add(plan.lines, account::kProcess, options.process);
  return plan;
}

Result<std::unique_ptr<Engine>> Engine::create(ModelFiles files, const TokenizerShape* tokenizer,
                                               std::string_view tokenizer_json, const EnginePlan& plan,
                                               const EngineOptions& options, Bytes limit,
                                               const Model::Progress& progress) {
  if (plan.total() > limit) {
    return make_error(ErrorCode::kOverBudget, "needs {}, but the budget is {}", to_string(plan.total()),
                      to_string(limit));
  }
  if (tokenizer != nullptr && tokenizer->vocab_size() > files.config.vocab_size) {
    return make_error(ErrorCode::kInvalidArgument, "{}: has ids up to {}, but the model's vocab_size is {}",
                      files.tokenizer_path, tokenizer->vocab_size() - 1, files.config.vocab_size);
  }
  std::unique_ptr<Engine> engine(new Engine(limit));
  Ledger& ledger = engine->ledger_;
  engine->process_ = AXON_TRY(ledger.reserve(account::kProcess, options.process));
  engine->text_ =
      AXON_TRY(ledger.reserve(account::kText, options.text + (tokenizer != nullptr ? kEncodeBytes : Bytes{})));
  const Config config = files.config;
  const std::size_t tokens = std::min(options.session.prefill_chunk, options.session.context);
  engine->device_ =
      AXON_TRY(cpu::CpuDevice::create(ledger, device_limits(config, plan.weights, tokens, adapter_shape(options)),
                                      options.threads, options.session.arithmetic));
  if (tokenizer != nullptr) {
    engine->tokenizer_.emplace(AXON_TRY(Tokenizer::load(tokenizer_json, *tokenizer, ledger)));
    engine->tokenizer_->limit_pieces(kPieceBytesMax);
  }
  engine->model_.emplace(
      AXON_TRY(Model::load(config, std::move(files.tensors), plan.weights, ledger, engine->device_->pool(), progress)));
  if (options.adapter != nullptr) {
    engine->adapters_arena_ = AXON_TRY(Arena::create(ledger, account::kAdapters, measure_adapters(options).peak()));
    Carver values = engine->adapters_arena_.carver();
    engine->adapters_.emplace(values, options.adapter->shape());
    options.adapter->load(*engine->adapters_);
    engine->adapters_->attach(*engine->model_, engine->device_->pool(), /*fresh=*/false);
  }
  for (const SessionOptions& session : session_options(options)) {
    engine->sessions_.push_back(AXON_TRY(Session::create(*engine->model_, *engine->device_, ledger, session)));
  }
  engine->sampler_arena_ = AXON_TRY(Arena::create(ledger, account::kLogits, measure_sampler(config).peak()));
  Carver carver = engine->sampler_arena_.carver();
  engine->sampler_.emplace(options.sampling, config.vocab_size, carver);
  AXON_CHECK(ledger.used() == plan.total());
  return engine;
}

}  // namespace axon
