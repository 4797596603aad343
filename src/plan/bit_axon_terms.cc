#include "plan/bit_axon_terms.h"

#include <algorithm>

#include "plan/report.h"

namespace axon {
namespace {

// "layer_3.ssm.in_proj" -> "ssm.in_proj": the account says which layers.
std::string stem(const std::string& name) {
  if (!name.starts_with("layer_")) return name;
  return name.substr(name.find('.') + 1);
}

std::string form_of(DType dtype, const Affine& affine) {
  if (affine.bits == 0) return std::string(name_of(dtype));
  return fmt::format("{} bits in groups of {} with two {} each", affine.bits, affine.group_size,
                     name_of(affine.scale_dtype));
}

// Tensors of one account that differ only by layer.
struct Tally {
  std::string account, text;
  std::uint64_t count = 0;
  Bytes bytes;
};
void tally(std::vector<Tally>& list, const std::string& account, std::string text, Bytes bytes) {
  if (bytes == 0_B) return;
  for (Tally& t : list) {
    if (t.account == account && t.text == text) {
      ++t.count;
      t.bytes += bytes;
      return;
    }
  }
  list.push_back({account, std::move(text), 1, bytes});
}

// Where the tensor lies decides what it takes: mapped parts as they are, each part of an arena from a multiple of 64.
Bytes held_bytes(const WeightsPlan::Item& item) {
  if (item.stored.file == nullptr) return {};
  Bytes sum;
  if (item.in_place) {
    for (const auto& part : item.stored.parts) sum += Bytes{part.size()};
    return sum;
  }
  if (!item.spec.is_matrix()) return {round_up(item.spec.shape.elements() * sizeof(float), 64)};
  for (const std::uint64_t part : matrix_bytes(item.spec.rows(), item.spec.cols(), item.dtype, item.affine)) {
    sum += Bytes{round_up(part, 64)};
  }
  return sum;
}

std::vector<Tally> weight_tallies(const WeightsPlan& plan) {
  std::vector<Tally> list;
  for (const WeightsPlan::Item& item : plan.items) {
    const std::string form = item.spec.is_matrix() ? form_of(item.dtype, item.affine) : "F32";
    tally(list, item.spec.zone,
          fmt::format("{}{} {}, {}{}", stem(item.spec.name), item.spec.suffix, to_string(item.spec.shape), form,
                      item.in_place ? ", mapped" : ", in an arena"),
          held_bytes(item));
  }
  return list;
}

std::vector<Term> terms_of(const std::vector<Tally>& list, const std::string& account) {
  std::vector<Term> terms;
  for (const Tally& t : list) {
    if (t.account == account)
      terms.push_back({t.count == 1 ? t.text : fmt::format("{} x {}", t.count, t.text), t.bytes});
  }
  return terms;
}

// Views of equal shape together. Their sizes are multiples of 64.
std::vector<Term> piece_terms(const std::vector<CarvedPiece>& pieces) {
  std::vector<Tally> list;
  for (const CarvedPiece& p : pieces) {
    const std::string shape = p.rows == 1 ? grouped(p.cols) : fmt::format("{} x {}", grouped(p.rows), grouped(p.cols));
    tally(list, "", p.element == 1 ? fmt::format("[{}] B", shape) : fmt::format("[{}] x {} B", shape, p.element),
          Bytes{p.size});
  }
  return terms_of(list, "");
}

// A compressed cache, part by part of its heads (quant/turboquant_layout.h).
std::vector<Term> coded_terms(const turboquant::Layout& layout, const LayerStateShape& shape, std::uint64_t layers,
                              Bytes bytes) {
  const turboquant::HeadPlan head =
      turboquant::plan_head(layout, shape.head_dim, shape.capacity).value();  // what was allocated
  const std::uint64_t heads = layers * shape.heads, tail_pair = 2 * (shape.head_dim + sizeof(std::uint16_t));
  const std::string each = fmt::format("{} layers x {} heads x ", layers, shape.heads);
  std::vector<Term> terms = {{fmt::format("{}{} B of header", each, sizeof(turboquant::HeadHeader)),
                              Bytes{heads * sizeof(turboquant::HeadHeader)}}};
  if (head.coded_tokens > 0) {
    const std::uint64_t pair = turboquant::pair_bytes(layout, shape.head_dim);
    terms.push_back({fmt::format("{}{} tokens in codes x {} B a key and value", each, grouped(head.coded_tokens), pair),
                     Bytes{heads * head.coded_tokens * pair}});
  }
  terms.push_back({fmt::format("{}{} tokens in int8 x 2 (keys, values) x ({} + 2 B of scale)", each,
                               grouped(head.tail_tokens), shape.head_dim),
                   Bytes{heads * head.tail_tokens * tail_pair}});
  Bytes named;
  for (const Term& term : terms) named += term.bytes;
  if (named < bytes) terms.push_back({fmt::format("{}padding to lines of 64 B", each), bytes - named});
  return terms;
}

std::vector<Term> kv_terms(const Config& config, const EngineOptions& options, Bytes bytes) {
  const auto shapes = state_shapes(config, options.session.context);
  const auto layers = static_cast<std::uint64_t>(
      std::count_if(shapes.begin(), shapes.end(), [](const auto& s) { return s.attention; }));
  const auto first = std::find_if(shapes.begin(), shapes.end(), [](const auto& s) { return s.attention; });
  if (first == shapes.end()) return {};
  const KvType kv = options.session.kv_type();
  if (kv.layout != nullptr) return coded_terms(*kv.layout, *first, layers, bytes);
  return {
      {fmt::format("{} layers x 2 (keys, values) x {} tokens (the smaller of context {} and window {}) x {} heads x "
                   "{} x {} B",
                   layers, grouped(first->capacity), grouped(options.session.context), grouped(config.swa_window_size),
                   first->heads, first->head_dim, size_of(kv.dtype)),
       bytes}};
}

Term encoding_term() {
  return {fmt::format("encoding the longest piece, {} B of text x 60, rounded up", grouped(kPieceBytesMax)),
          kEncodeBytes};
}

std::vector<Term> text_terms(const EngineOptions& options, bool has_tokenizer) {
  std::vector<Term> terms = {
      {fmt::format("{} ids of prompt and answer x 4 B", grouped(options.text.count / 4)), options.text}};
  if (has_tokenizer) terms.push_back(encoding_term());
  return terms;
}

// One line for each kind of layer: A, B and, with DoRA, magnitudes; then what there is beside the parameters.
std::vector<Term> adapter_terms(const Config& config, const train::TrainSettings& settings, const PlanLine& line) {
  const AdapterShape shape = train::Training::adapter_shape(config, settings).value();  // what was planned
  std::vector<Tally> list;
  for (const AdaptedLinear& linear : shape.linears) {
    std::string text =
        fmt::format("{}: rank {} x ({} + {})", stem(linear.name), linear.rank, grouped(linear.in), grouped(linear.out));
    if (shape.kind == AdapterKind::kDora) text += fmt::format(" + {}", grouped(linear.out));
    if (linear.experts != 0) text = fmt::format("{} experts of {}", linear.experts, text);
    tally(list, "", text + ", x 4 B", Bytes{linear.parameters(shape.kind) * sizeof(float)});
  }
  std::vector<Term> terms = terms_of(list, "");
  const Bytes values{shape.parameters() * sizeof(float)}, held{line.pieces.front().size};
  if (held > values) terms.push_back({"padding to lines of 64 B", held - values});
  for (Term& term : piece_terms({line.pieces.begin() + 1, line.pieces.end()})) terms.push_back(std::move(term));
  return terms;
}

Bytes batch_bytes(const train::TrainingInputs& inputs, std::size_t examples, std::size_t batch_size) {
  const train::TrainSettings& s = inputs.settings;
  return train::Batches::bytes(examples, s.max_seq_len, s.objective == train::Objective::kPreference,
                               {.batch_size = batch_size});
}

std::vector<Term> data_terms(const train::TrainingInputs& inputs) {
  const std::size_t batch = inputs.settings.batch_size;
  std::vector<Term> terms;
  for (const train::DataSize* data : {&inputs.data, &inputs.validation}) {
    if (data->examples == 0) continue;
    const std::string whose = data == &inputs.data ? "training" : "validation";
    const Bytes rows = batch_bytes(inputs, 0, batch);
    terms.push_back({fmt::format("{}: where each line stands, its length and its hash", whose), data->index});
    terms.push_back({fmt::format("{}: an order of {} examples x 4 B", whose, grouped(data->examples)),
                     batch_bytes(inputs, data->examples, batch) - rows});
    terms.push_back(
        {fmt::format("{}: {} rows of a batch: ids, labels, segments and lines", whose, grouped(batch)), rows});
  }
  return terms;
}

std::vector<Term> line_terms(bool has_tokenizer, Bytes bytes) {
  const Bytes encoding = has_tokenizer ? kEncodeBytes : Bytes{};
  std::vector<Term> terms = {{"texts of the lines that are being read, and their ids", bytes - encoding}};
  if (has_tokenizer) terms.push_back(encoding_term());
  return terms;
}

// Of accounts that runs and trainings have alike.
std::vector<Term> common_terms(const PlanLine& line, const std::vector<Tally>& weights, std::size_t threads) {
  if (line.account.starts_with("weights: ")) return terms_of(weights, line.account);
  if (line.account == account::kConversion) {
    return {{fmt::format("a row of float32 for each of {} threads while weights are converted", threads), line.bytes}};
  }
  if (line.account == account::kTokenizer) {
    return {{"vocabulary, merges and their tables, as tokenizer.json has them", line.bytes}};
  }
  if (line.account == account::kProcess) {
    return {{"code, libraries, stacks, small heap objects: a constant, checked by measuring", line.bytes}};
  }
  return piece_terms(line.pieces);
}

// own(line): the terms of an account of its own; none for the others.
template <class Own>
std::vector<Account> explained(const EnginePlan& plan, std::size_t threads, Own&& own) {
  const std::vector<Tally> weights = weight_tallies(plan.weights);
  std::vector<Account> out;
  for (const PlanLine& line : plan.lines) {
    Account account{.name = line.account, .bytes = line.bytes, .estimate = false, .terms = own(line)};
    if (account.terms.empty()) account.terms = common_terms(line, weights, threads);
    out.push_back(std::move(account));
  }
  return out;
}

}  // namespace

std::vector<Account> explained(const Config& config, const EnginePlan& plan, const EngineOptions& options,
                               bool has_tokenizer) {
  return explained(plan, options.threads, [&](const PlanLine& line) -> std::vector<Term> {
    if (line.account == account::kKvCache) return kv_terms(config, options, line.bytes);
    if (line.account == account::kText) return text_terms(options, has_tokenizer);
    return {};
  });
}

std::vector<Account> explained(const Config& config, const EnginePlan& plan, const train::TrainingInputs& inputs,
                               bool has_tokenizer) {
  return explained(plan, inputs.threads, [&](const PlanLine& line) -> std::vector<Term> {
    if (line.account == account::kAdapters) return adapter_terms(config, inputs.settings, line);
    if (line.account == account::kTrainingData) return data_terms(inputs);
    if (line.account == account::kText) return line_terms(has_tokenizer, line.bytes);
    return {};
  });
}

std::vector<std::string> training_notes(const train::TrainingInputs& inputs) {
  const std::size_t batch = inputs.settings.batch_size;
  const Bytes row = batch_bytes(inputs, 0, batch + 1) - batch_bytes(inputs, 0, batch);
  std::vector<std::string> notes = {fmt::format(
      "a batch takes no more than its ids and labels, {} a row: rows go through the model one after the other",
      to_string(row))};
  if (inputs.data.examples != 0) return notes;
  constexpr std::size_t kLines = 1024;  // a size without padding
  const Bytes lines =
      train::JsonlExamples::index_bytes(kLines) + batch_bytes(inputs, kLines, 0) - batch_bytes(inputs, 0, 0);
  notes.push_back(fmt::format(
      "not counted: the training data. Each of its lines takes {} B, and a batch {}; --data FILE counts them",
      lines.count / kLines, to_string(batch_bytes(inputs, 0, batch))));
  return notes;
}

Result<std::vector<Account>> weights_at(const Config& config, const Precision& precision) {
  std::vector<Tally> list;
  std::vector<Account> out;
  for (const TensorSpec& spec : tensor_list(config)) {
    if (spec.optional) continue;
    const bool coded = spec.is_matrix() && spec.use != TensorUse::kRouter;
    const Precision held = coded ? precision : Precision{"", 1, spec.is_matrix() ? 2u : 4u, ""};
    const auto bytes = held.bytes(spec.shape.elements() / spec.cols(), spec.cols());
    if (!bytes) return make_error(ErrorCode::kInvalidArgument, "{} does not fit 64 bits", spec.full_name());
    tally(
        list, spec.zone,
        fmt::format("{}{} {}, {:.4g} bits a weight", stem(spec.name), spec.suffix, to_string(spec.shape), held.bits()),
        Bytes{*bytes});
    if (out.empty() || std::none_of(out.begin(), out.end(), [&](const Account& a) { return a.name == spec.zone; })) {
      out.push_back({.name = spec.zone, .bytes = {}, .estimate = true, .terms = {}});
    }
  }
  for (Account& account : out) {
    account.terms = terms_of(list, account.name);
    for (const Term& term : account.terms) account.bytes += term.bytes;
  }
  return out;
}

}  // namespace axon
