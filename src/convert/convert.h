#pragma once
// quantize: a model in another precision. merge: a model with an adapter in its weights. init: random weights, written
// straight in the asked precision.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "convert/fold_rotation.h"
#include "convert/write_model.h"
#include "model/adapter_files.h"
#include "model/model_files.h"

namespace axon {

// A conversion, decided from headers; execution follows it.
struct ConvertPlan {
  std::vector<OutputTensor> tensors;
  std::vector<StoredTensor> stored;  // quantize: the source of each tensor; init: none
  std::optional<RotationFold> fold;  // quantize: what becomes of the heads' basis; init: none
  Bytes output;                      // data of the new file
  Bytes buffers;                     // what execution reserves under "conversion"
};

// Matrices take the precision, routers and everything that is no matrix keep theirs; a head that repeats the embedding
// of a tied model is left out. With `fold_rotation`, attention's matrices that go from floating point into a quantised
// form take the cache's rotation in, where there is one for the head_dim and they all can (docs/design/0010).
Result<ConvertPlan> plan_quantize(const ModelFiles& model, const WeightFormat& want, std::size_t threads,
                                  bool fold_rotation);
// Writes the folder `out` (new; appears when it is whole) with config.json, model.safetensors and the tokenizer.
// Equal plans give equal files, whatever the threads.
Status quantize(const ModelFiles& model, const ConvertPlan& plan, const std::string& out, Ledger& ledger,
                cpu::ThreadPool& pool, const WriteProgress& progress);

// W' = W + s B A for each layer of the adapter, with DoRA m / ||W + s B A|| (W + s B A) by rows; all others as they
// are. Then as quantize, in any format (kKeep: each matrix in its own, with scales of the type that it has). Takes the
// account "adapters" beside "conversion".
struct MergePlan {
  ConvertPlan convert;
  Bytes adapters;
};
Result<MergePlan> plan_merge(const ModelFiles& model, const AdapterFiles& adapter, const WeightFormat& want,
                             std::size_t threads, bool fold_rotation);
Status merge(const ModelFiles& model, const AdapterFiles& adapter, const MergePlan& plan, const std::string& out,
             Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress);

// Matrices in `want` (kKeep: bf16), routers in bf16, the rest in float32. Distributions as the original's (spec 2).
ConvertPlan plan_init(const Config& config, const WeightFormat& want, std::size_t threads);
// The files that such a plan writes, as if they were there: for planning a run of a model that does not exist yet.
Result<ModelFiles> as_if_written(const Config& config, const ConvertPlan& plan, std::string_view name);
// `tokenizer_path`: copied beside the weights; empty for none. Equal seeds give equal files, whatever the threads.
Status init(const Config& config, const ConvertPlan& plan, std::uint64_t seed, const std::string& tokenizer_path,
            const std::string& out, Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress);

}  // namespace axon
