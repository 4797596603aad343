#include "convert/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/random.h"
#include "convert/low_rank_rows.h"
#include "io/atomic_file.h"
#include "memory/mapped_file.h"
#include "quant/affine.h"

namespace axon {
namespace {

Status copy_file(const std::string& from, const std::string& to) {
  const MappedFile file = AXON_TRY(MappedFile::open(from));
  AtomicFile out = AXON_TRY(AtomicFile::create(to));
  AXON_TRY(out.write(file.bytes()));
  return out.finish();
}

// The original saves a tied head a second time under its own name.
bool repeats_embedding(const Config& config, const TensorSpec& spec, const StoredTensor& head,
                       const StoredTensor& embedding) {
  return spec.name == "lm_head" && config.weight_tying && head.file != nullptr && head.dtype == embedding.dtype &&
         head.parts[0].size() == embedding.parts[0].size() && head.affine.bits == 0 &&
         std::memcmp(head.parts[0].data(), embedding.parts[0].data(), head.parts[0].size()) == 0;
}

void finish_plan(ConvertPlan& plan, std::size_t threads) {
  plan.output = written_bytes(plan.tensors);
  plan.buffers = write_model_buffers(plan.tensors, threads);
}

float initial_value(const TensorSpec& spec, const CounterRng& rng, std::uint64_t i) {
  switch (spec.init.kind) {
    case Init::kUniform: return rng.symmetric(i, static_cast<float>(spec.init.scale));
    case Init::kNormal: return rng.normal(i) * static_cast<float>(spec.init.scale);
    case Init::kOnes: return 1.0f;
    case Init::kZeros: return 0.0f;
    case Init::kLogCount: return std::log(static_cast<float>(i % spec.cols() + 1));
  }
  return 0.0f;
}

// The matrices of attention take the rotation all or none: q and k meet in one product, v and o in another.
RotationFold decide_fold(const Config& config, const ConvertPlan& plan, bool asked) {
  if (config.kv_rotated) return RotationFold::kInSource;
  if (!asked) return RotationFold::kNotAsked;
  bool attention = false, float_source = true, float_output = false;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    if (plan.tensors[i].spec.heads == Heads::kNone) continue;
    attention = true;
    float_source = float_source && plan.stored[i].affine.bits == 0;
    float_output = float_output || plan.tensors[i].affine.bits == 0;
  }
  if (!attention) return RotationFold::kNoAttention;
  if (!turboquant::supports_head_dim(config.head_dim())) return RotationFold::kHeadDim;
  if (!float_source) return RotationFold::kSourceQuantised;
  return float_output ? RotationFold::kFloatOutput : RotationFold::kFolded;
}

// Rows of the source files, maybe with an adapter; pages are given back behind the block in work.
class StoredRows : public RowSource {
 public:
  StoredRows(const ConvertPlan& plan, const Config& config, const LowRankRows* adapter)
      : plan_(plan), adapter_(adapter) {
    if (plan.fold == RotationFold::kFolded) rotation_.emplace(config.head_dim());
  }
  void read(const OutputTensor& t, std::uint64_t first, std::span<float> rows) const override {
    const Weight from = of(t).weight(t.rows(), t.cols());
    for (std::uint64_t i = 0; i < t.rows_together; ++i) {
      const std::span<float> row = rows.subspan(i * t.cols(), t.cols());
      affine::decode_row(from, first + i, 0, row);
      if (adapted(t)) adapter_->add(t.spec.name, first + i, row);
    }
    if (rotation_) rotate_heads(*rotation_, t.spec.heads, rows, t.cols());
  }
  std::array<const std::byte*, 3> as_written(const OutputTensor& t, std::uint64_t r) const override {
    const StoredTensor& stored = of(t);
    if (adapted(t) || !stored.has_form(t.dtype, t.affine)) return {};
    std::array<const std::byte*, 3> row{};
    for (std::size_t p = 0; p < 3; ++p) {
      if (!stored.parts[p].empty()) row[p] = stored.parts[p].data() + stored.parts[p].size() / t.rows() * r;
    }
    return row;
  }
  void passed(const OutputTensor& t, std::uint64_t rows) const override {
    const StoredTensor& stored = of(t);
    for (const auto& part : stored.parts) {
      if (!part.empty()) stored.file->drop(part.first(part.size() / t.rows() * rows));
    }
  }

 private:
  const StoredTensor& of(const OutputTensor& t) const {
    return plan_.stored[static_cast<std::size_t>(&t - plan_.tensors.data())];
  }
  bool adapted(const OutputTensor& t) const {
    return adapter_ != nullptr && t.spec.use == TensorUse::kMatrix && adapter_->has(t.spec.name);
  }
  const ConvertPlan& plan_;
  const LowRankRows* adapter_;  // null: none
  std::optional<turboquant::Rotation> rotation_;
};

class RandomRows : public RowSource {
 public:
  explicit RandomRows(std::uint64_t seed) : seed_(seed) {}
  void read(const OutputTensor& t, std::uint64_t r, std::span<float> row) const override {
    const CounterRng rng(seed_, hash64(t.spec.full_name()));
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = initial_value(t.spec, rng, r * row.size() + i);
  }
  void passed(const OutputTensor&, std::uint64_t) const override {}

 private:
  std::uint64_t seed_;
};

}  // namespace

Result<ConvertPlan> plan_quantize(const ModelFiles& model, const WeightFormat& want, std::size_t threads,
                                  bool fold_rotation) {
  ConvertPlan plan;
  std::set<std::string, std::less<>> used;
  for (const TensorSpec& spec : tensor_list(model.config)) {
    const StoredTensor stored = AXON_TRY(find_stored(spec, model.tensors, used));
    if (stored.file == nullptr) continue;
    if (!plan.stored.empty() && repeats_embedding(model.config, spec, stored, plan.stored.front())) continue;
    OutputTensor out{.spec = spec, .dtype = stored.dtype, .affine = stored.affine};
    if (spec.is_matrix()) apply_format(spec, want, out.dtype, out.affine);
    plan.tensors.push_back(out);
    plan.stored.push_back(stored);
  }
  AXON_TRY(check_all_used(model.tensors, used));
  plan.fold = decide_fold(model.config, plan, fold_rotation);
  for (OutputTensor& t : plan.tensors) {
    const bool by_heads = plan.fold == RotationFold::kFolded && t.spec.heads == Heads::kInRows;
    t.rows_together = by_heads ? model.config.head_dim() : 1;
  }
  finish_plan(plan, threads);
  return plan;
}

namespace {

// The new folder: the model's own files, and its tensors as planned.
Status rewrite(const ModelFiles& model, const ConvertPlan& plan, const LowRankRows* adapter, const std::string& out,
               Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
  AtomicDirectory folder = AXON_TRY(AtomicDirectory::create(out));
  Config config = model.config;
  config.kv_rotated = plan.fold && is_rotated(*plan.fold);
  AXON_TRY(write_file(folder.path() + "/config.json", to_json(config)));
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"}) {
    const std::string from = model.folder + "/" + name;
    std::error_code ignored;
    if (std::filesystem::exists(from, ignored)) AXON_TRY(copy_file(from, folder.path() + "/" + name));
  }
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    AXON_TRY(check_finite(plan.tensors[i].spec, plan.stored[i], /*keep_pages=*/false));
  }
  const StoredRows source(plan, model.config, adapter);
  AXON_TRY(write_model(folder.path() + "/model.safetensors", plan.tensors, source, ledger, pool, progress));
  return folder.finish();
}

}  // namespace

Status quantize(const ModelFiles& model, const ConvertPlan& plan, const std::string& out, Ledger& ledger,
                cpu::ThreadPool& pool, const WriteProgress& progress) {
  return rewrite(model, plan, nullptr, out, ledger, pool, progress);
}

Result<MergePlan> plan_merge(const ModelFiles& model, const AdapterFiles& adapter, const WeightFormat& want,
                             std::size_t threads, bool fold_rotation) {
  MergePlan plan;
  plan.convert = AXON_TRY(plan_quantize(model, want, threads, fold_rotation));
  plan.adapters = adapter.bytes();
  return plan;
}

Status merge(const ModelFiles& model, const AdapterFiles& adapter, const MergePlan& plan, const std::string& out,
             Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
  const Arena arena = AXON_TRY(Arena::create(ledger, account::kAdapters, plan.adapters));
  Carver carver = arena.carver();
  AdapterSet set(carver, adapter.shape());
  adapter.load(set);
  const LowRankRows rows(set);
  return rewrite(model, plan.convert, &rows, out, ledger, pool, progress);
}

ConvertPlan plan_init(const Config& config, const WeightFormat& want, std::size_t threads) {
  ConvertPlan plan;
  for (const TensorSpec& spec : tensor_list(config)) {
    if (spec.optional) continue;
    OutputTensor out{.spec = spec, .dtype = spec.is_matrix() ? DType::kBF16 : DType::kF32};
    if (spec.is_matrix()) apply_format(spec, want, out.dtype, out.affine);
    plan.tensors.push_back(out);
  }
  finish_plan(plan, threads);
  return plan;
}

Result<ModelFiles> as_if_written(const Config& config, const ConvertPlan& plan, std::string_view name) {
  ModelFiles files;
  files.folder = name;
  files.config = config;
  files.tensors = AXON_TRY(Safetensors::unwritten(file_headers(plan.tensors), name));
  return files;
}

Status init(const Config& config, const ConvertPlan& plan, std::uint64_t seed, const std::string& tokenizer_path,
            const std::string& out, Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
  AtomicDirectory folder = AXON_TRY(AtomicDirectory::create(out));
  AXON_TRY(write_file(folder.path() + "/config.json", to_json(config)));
  if (!tokenizer_path.empty()) AXON_TRY(copy_file(tokenizer_path, folder.path() + "/tokenizer.json"));
  const RandomRows source(seed);
  AXON_TRY(write_model(folder.path() + "/model.safetensors", plan.tensors, source, ledger, pool, progress));
  return folder.finish();
}

}  // namespace axon
