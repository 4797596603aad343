#include "train/training.h"

#include <algorithm>

#include "model/fingerprint.h"

namespace axon::train {
namespace {

// Texts of the lines that are being read, and their ids, beside what encoding takes.
constexpr Bytes kLineBytes = 2_MiB;
constexpr std::size_t kLossRows = 256;

// The account's line, made when there is none.
void add(std::vector<PlanLine>& lines, std::string_view account, Bytes bytes, std::vector<CarvedPiece> pieces = {}) {
  if (bytes == 0_B) return;
  for (PlanLine& line : lines) {
    if (line.account != account) continue;
    line.bytes += bytes;
    line.pieces.insert(line.pieces.end(), pieces.begin(), pieces.end());
    return;
  }
  lines.push_back({.account = std::string(account), .bytes = bytes, .pieces = std::move(pieces)});
}
void add(std::vector<PlanLine>& lines, std::string_view account, const Carver& carver) {
  add(lines, account, carver.peak(), carver.pieces());
}

bool pairs(const TrainSettings& s) { return s.objective == Objective::kPreference; }
std::size_t capacity(const TrainSettings& s) { return Batches::row_capacity(s.max_seq_len, pairs(s)); }
LossSettings loss_settings(const TrainSettings& s) {
  return {.objective = s.objective, .lambda = s.orpo_lambda, .compat = s.compat};
}
AdamWSettings optimizer_settings(const TrainSettings& s) {
  return {.weight_decay = s.weight_decay, .bias_correction = !s.compat};
}

BatchOptions batch_options(const TrainingInputs& in) {
  const TrainSettings& s = in.settings;
  return {.batch_size = s.batch_size,
          .pack = s.pack,
          .seed = s.seed,
          .rank = in.rank,
          .world = in.ranks,
          .compat = s.compat};
}
BatchOptions validation_options(const TrainingInputs& in) {
  BatchOptions options = batch_options(in);
  options.shuffle = options.repeat = false;
  return options;
}

template <class Make>
Carver measured(Make&& make) {
  Carver carver;
  make(carver);
  return carver;
}

void add_data(std::vector<PlanLine>& lines, const DataSize& size, const TrainSettings& s, const BatchOptions& options) {
  if (size.examples == 0) return;
  add(lines, account::kTrainingData, size.index);
  add(lines, account::kTrainingData, Batches::bytes(size.examples, s.max_seq_len, pairs(s), options));
}

Bytes text_bytes(bool tokenizer) { return tokenizer ? kEncodeBytes + kLineBytes : Bytes{}; }

cpu::DeviceLimits limits_of(const Config& config, const WeightsPlan& weights, const TrainingShape& shape) {
  cpu::DeviceLimits limits = TrainingPass::limits(config, shape);
  limits.bf16_cols_max = device_limits(config, weights, 1).bf16_cols_max;
  return limits;
}

}  // namespace

Result<AdapterShape> Training::adapter_shape(const Config& config, const TrainSettings& s) {
  return AdapterShape{.kind = s.adapter,
                      .scale = static_cast<float>(s.scale),
                      .linears = AXON_TRY(find_linears(config, s.wanted_targets(), s.rank))};
}

// The original casts what an adapter adds to the type of its input: float16 behind an embedding of that type.
bool Training::rounds_input(const WeightsPlan& weights, const TrainSettings& s) {
  if (!s.compat || s.adapter != AdapterKind::kLora) return false;
  const auto embedding =
      std::ranges::find_if(weights.items, [](const auto& item) { return item.spec.name == "embed_tokens"; });
  return embedding != weights.items.end() && embedding->affine.bits == 0 && embedding->dtype == DType::kF16;
}

Result<TrainingShape> Training::shape(const Config& config, const WeightsPlan& weights, const TrainSettings& s) {
  if (s.max_seq_len > config.max_seq_len) {
    return make_error(ErrorCode::kInvalidArgument, "max-seq-len {} is more than the model's max_seq_len {}",
                      s.max_seq_len, config.max_seq_len);
  }
  const std::size_t tokens = capacity(s), chunk = std::min<std::size_t>(s.chunk, tokens);
  return TrainingShape{.row = {.tokens_max = tokens,
                               .chunk = chunk,
                               .needs = {.rank = s.rank,
                                         .dora = s.adapter == AdapterKind::kDora,
                                         .dropout = s.dropout != 0.0,
                                         .half_input = rounds_input(weights, s),
                                         .backward = true}},
                       .loss_rows = std::min(kLossRows, tokens)};
}

Result<EnginePlan> Training::plan(const Config& config, const Safetensors& tensors, const TokenizerShape* tokenizer,
                                  const TrainingInputs& in) {
  const TrainSettings& s = in.settings;
  AXON_TRY(check_settings(s));
  const AdapterShape adapters = AXON_TRY(adapter_shape(config, s));
  EnginePlan plan{.weights = AXON_TRY(plan_weights(config, tensors, in.weights, in.threads)), .lines = {}};
  const TrainingShape shape = AXON_TRY(Training::shape(config, plan.weights, s));
  for (const WeightsPlan::Zone& zone : plan.weights.zones) add(plan.lines, zone.account, zone.bytes());
  add(plan.lines, account::kConversion, plan.weights.conversion);
  add(plan.lines, account::kAdapters, measured([&](Carver& carver) { AdapterSet(carver, adapters); }));
  add(plan.lines, account::kAdapterGradients,
      measured([&](Carver& carver) { carver.span<float>(adapters.parameters()); }));
  add(plan.lines, account::kOptimizer, measured([&](Carver& carver) { AdamW(carver, adapters.parameters()); }));
  TrainingPass::plan(config, shape,
                     [&](std::string_view account, const Carver& carver) { add(plan.lines, account, carver); });
  add(plan.lines, account::kWorkspace, cpu::CpuDevice::scratch(limits_of(config, plan.weights, shape), in.threads));
  add(plan.lines, account::kBatch,
      measured([&](Carver& carver) { LossRunner(carver, loss_settings(s), capacity(s)); }));
  add_data(plan.lines, in.data, s, batch_options(in));
  add_data(plan.lines, in.validation, s, validation_options(in));
  if (tokenizer != nullptr) add(plan.lines, account::kTokenizer, tokenizer->bytes());
  add(plan.lines, account::kText, text_bytes(tokenizer != nullptr));
  add(plan.lines, account::kProcess, kProcessBytes);
  return plan;
}

Result<std::unique_ptr<Training>> Training::create(ModelFiles files, const TokenizerShape* tokenizer,
                                                   std::string_view tokenizer_json, const TrainingInputs& inputs,
                                                   const Data& data, Bytes limit, const Model::Progress& progress) {
  std::unique_ptr<Training> t(new Training(limit));
  t->inputs_ = inputs;
  t->process_ = AXON_TRY(t->ledger_.reserve(account::kProcess, kProcessBytes));
  t->text_ = AXON_TRY(t->ledger_.reserve(account::kText, text_bytes(tokenizer != nullptr)));
  if (tokenizer != nullptr) {
    t->tokenizer_.emplace(AXON_TRY(Tokenizer::load(tokenizer_json, *tokenizer, t->ledger_)));
    t->tokenizer_->limit_pieces(kPieceBytesMax);
  }
  AXON_TRY(t->open_data(data));
  const Config config = files.config;
  t->plan_ = AXON_TRY(plan(config, files.tensors, tokenizer, t->inputs_));
  if (t->plan_.total() > limit) {
    return make_error(ErrorCode::kOverBudget, "needs {}, but the budget is {}", to_string(t->plan_.total()),
                      to_string(limit));
  }
  t->fingerprint_ = axon::fingerprint(config, files.tensors, "");
  const TrainingShape shape = AXON_TRY(Training::shape(config, t->plan_.weights, inputs.settings));
  t->device_ = AXON_TRY(cpu::CpuDevice::create(t->ledger_, limits_of(config, t->plan_.weights, shape), inputs.threads,
                                               inputs.settings.arithmetic()));
  t->model_.emplace(AXON_TRY(
      Model::load(config, std::move(files.tensors), t->plan_.weights, t->ledger_, t->device_->pool(), progress)));
  AXON_TRY(t->reserve(config));
  AXON_CHECK(t->ledger_.used() == t->plan_.total());
  return t;
}

Status Training::open_data(const Data& data) {
  const Tokenizer* tokenizer = tokenizer_ ? &*tokenizer_ : nullptr;
  const auto open = [&](const OpenData& how, DataSize& size) -> Result<std::unique_ptr<ExampleSource>> {
    const Bytes before = ledger_.used();
    std::unique_ptr<ExampleSource> source = AXON_TRY(how(tokenizer, ledger_));
    AXON_CHECK(source->max_seq_len() == inputs_.settings.max_seq_len && source->pairs() == pairs(inputs_.settings));
    size = {.examples = source->size(), .index = ledger_.used() - before};
    return source;
  };
  data_ = AXON_TRY(open(data.train, inputs_.data));
  inputs_.validation = {};
  if (data.validation) validation_ = AXON_TRY(open(data.validation, inputs_.validation));
  batches_.emplace(AXON_TRY(Batches::create(*data_, batch_options(inputs_), ledger_)));
  if (validation_ != nullptr) {
    validation_batches_.emplace(AXON_TRY(Batches::create(*validation_, validation_options(inputs_), ledger_)));
  }
  return Ok{};
}

Status Training::reserve(const Config& config) {
  const TrainSettings& s = inputs_.settings;
  const AdapterShape adapters = AXON_TRY(adapter_shape(config, s));
  const auto arena = [&](std::string_view account, auto&& make) -> Result<Arena> {
    return Arena::create(ledger_, account, measured(make).peak());
  };
  adapter_arena_ = AXON_TRY(arena(account::kAdapters, [&](Carver& carver) { AdapterSet(carver, adapters); }));
  Carver values = adapter_arena_.carver();
  adapters_ = AdapterSet(values, adapters);
  adapters_.initialise(s.seed);
  adapters_.attach(*model_, device_->pool(), /*fresh=*/true);
  if (rounds_input(plan_.weights, s)) adapters_.round_input();

  gradient_arena_ =
      AXON_TRY(arena(account::kAdapterGradients, [&](Carver& carver) { carver.span<float>(adapters.parameters()); }));
  Carver gradients = gradient_arena_.carver();
  gradients_ = gradients.span<float>(adapters.parameters());
  adapters_.learn(gradients_);

  optimizer_arena_ =
      AXON_TRY(arena(account::kOptimizer, [&](Carver& carver) { AdamW(carver, adapters.parameters()); }));
  Carver moments = optimizer_arena_.carver();
  optimizer_ = AdamW(moments, adapters.parameters(), optimizer_settings(s));

  const TrainingShape shape = AXON_TRY(Training::shape(config, plan_.weights, s));
  pass_.emplace(AXON_TRY(TrainingPass::create(*model_, *device_, ledger_, shape)));
  batch_arena_ =
      AXON_TRY(arena(account::kBatch, [&](Carver& carver) { LossRunner(carver, loss_settings(s), capacity(s)); }));
  Carver batch = batch_arena_.carver();
  losses_.emplace(batch, loss_settings(s), capacity(s));
  return Ok{};
}

Result<Batches*> Training::validation_batches() {
  AXON_TRY(validation_batches_->restore({}));
  return &*validation_batches_;
}

}  // namespace axon::train
