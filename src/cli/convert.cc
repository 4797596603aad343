// quantize, merge and init: writing models.

#include <filesystem>

#include "cli/common.h"
#include "convert/convert.h"

namespace axon::cli {
namespace {

// The accounts of a conversion: its buffers, an adapter's values and the process.
struct ConvertRun {
  Bytes planned;
  Budget budget;
  std::unique_ptr<Ledger> ledger;
  Reservation process;
};

Result<ConvertRun> start(const ConvertPlan& plan, Bytes adapters, const std::string& memory_budget) {
  ConvertRun run{.planned = plan.buffers + adapters + kProcessBytes,
                 .budget = decide_budget(AXON_TRY(parse_budget(memory_budget)), read_system_memory()),
                 .ledger = nullptr,
                 .process = {}};
  if (run.planned > run.budget.limit) {
    return make_error(ErrorCode::kOverBudget,
                      "needs {} (row and block buffers {}{}), but the budget is {} ({}). Fewer --threads take less",
                      to_string(run.planned), to_string(plan.buffers),
                      adapters > 0_B ? fmt::format(", the adapter {}", to_string(adapters)) : "",
                      to_string(run.budget.limit), run.budget.source);
  }
  run.ledger = std::make_unique<Ledger>(run.budget.limit);
  run.process = AXON_TRY(run.ledger->reserve(account::kProcess, kProcessBytes));
  return run;
}

Status check_disk(const std::string& out, Bytes needed) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path parent = fs::absolute(fs::path(out), error).parent_path();
  const fs::space_info space = fs::space(parent, error);
  if (!error && space.available < needed.count) {
    return make_error(ErrorCode::kIo, "{}: the output takes {}, but only {} are free there", parent.string(),
                      to_string(needed), to_string(Bytes{space.available}));
  }
  return Ok{};
}

// `rotation`: what became of the cache's rotation, in words; empty where nothing could.
void print_result(bool json, const std::string& out, const ConvertPlan& plan, const ConvertRun& run, double seconds,
                  const std::string& rotation) {
  if (json) {
    Json result = {{"output", out},
                   {"tensors", plan.tensors.size()},
                   {"data_bytes", plan.output.count},
                   {"seconds", seconds},
                   {"memory",
                    {{"planned_bytes", run.planned.count},
                     {"ledger_peak_bytes", run.ledger->peak().count},
                     {"resident_peak_bytes", peak_resident().count},
                     {"budget_bytes", run.budget.limit.count},
                     {"budget_source", run.budget.source}}}};
    if (plan.fold) result["kv_rotation"] = {{"in_weights", is_rotated(*plan.fold)}, {"why", rotation}};
    fmt::print("{}\n", result.dump(2));
    return;
  }
  fmt::print("wrote {}: {} tensors, {} in {:.1f} s\n", out, plan.tensors.size(), to_string(plan.output), seconds);
  if (!rotation.empty()) fmt::print("rotation of the compressed KV cache: {}\n", rotation);
  fmt::print(stderr, "{}\n",
             dim(fmt::format("memory: planned {}, ledger peak {} ({}); resident peak {}; budget {} ({})",
                             to_string(run.planned), to_string(run.ledger->peak()),
                             run.planned == run.ledger->peak() ? "equal to the byte" : "NOT EQUAL",
                             to_string(peak_resident()), to_string(run.budget.limit), run.budget.source)));
}

// Runs `work` with a progress line and Ctrl-C; prints what came of it. `adapters`: what it reserves beside the buffers.
template <class Work>
Result<int> convert(const ConvertPlan& plan, Bytes adapters, const std::string& out, const std::string& memory_budget,
                    std::size_t threads, bool json, std::string_view what, const std::string& rotation, Work&& work) {
  ConvertRun run = AXON_TRY(start(plan, adapters, memory_budget));
  AXON_TRY(check_disk(out, plan.output));
  cpu::ThreadPool pool(threads);
  // Looked at after every block, so a second press need not end it the hard way and leave a half-written folder.
  const Interruption interruption(Interruption::Insistence::kOnlyTermination);
  const auto begin = std::chrono::steady_clock::now();
  {
    ProgressLine line{std::string(what)};
    const WriteProgress progress = [&](Bytes done, Bytes total) {
      line.update(static_cast<double>(done.count) / static_cast<double>(total.count), to_string(done));
      return !interruption.flag();
    };
    AXON_TRY(work(*run.ledger, pool, progress));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  print_result(json, out, plan, run, elapsed.count(), rotation);
  return kExitOk;
}

Result<int> execute(const QuantizeOptions& options) {
  const ModelFiles model = AXON_TRY(open_model(options.model.empty() ? default_model() : options.model));
  const WeightFormat want{.kind = WeightFormat::kAffine, .bits = options.bits, .group_size = options.group_size};
  const std::size_t threads = thread_count(options.threads);
  const ConvertPlan plan = AXON_TRY(plan_quantize(model, want, threads, !options.no_fold_rotation));
  return convert(plan, 0_B, options.output, options.memory_budget, threads, options.json, "quantizing",
                 describe(plan.fold.value(), model.config),
                 [&](Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
                   return quantize(model, plan, options.output, ledger, pool, progress);
                 });
}

Result<int> execute(const MergeOptions& options) {
  const ModelFiles model = AXON_TRY(open_model(options.model.empty() ? default_model() : options.model));
  const AdapterFiles adapter = AXON_TRY(AdapterFiles::open(options.adapter, model.config, options.adapter_scale));
  const WeightFormat want = AXON_TRY(parse_weight_format(options.weights));
  const std::size_t threads = thread_count(options.threads);
  const MergePlan plan = AXON_TRY(plan_merge(model, adapter, want, threads, !options.no_fold_rotation));
  return convert(plan.convert, plan.adapters, options.output, options.memory_budget, threads, options.json, "merging",
                 describe(plan.convert.fold.value(), model.config),
                 [&](Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
                   return merge(model, adapter, plan, options.output, ledger, pool, progress);
                 });
}

// "none", a file, or (empty) the shipped tokenizer when the vocabulary has room for it.
Result<std::string> init_tokenizer(const InitOptions& options, const Config& config) {
  if (options.tokenizer == "none") return std::string();
  const std::string path = options.tokenizer.empty() ? default_model() + "/tokenizer.json" : options.tokenizer;
  std::error_code ignored;
  if (options.tokenizer.empty() && !std::filesystem::exists(path, ignored)) return std::string();
  const MappedFile file = AXON_TRY(MappedFile::open(path));
  const std::size_t ids = AXON_TRY(Tokenizer::measure(file.text(), path)).vocab_size();
  if (ids <= config.vocab_size) return path;
  if (options.tokenizer.empty()) return std::string();
  return make_error(ErrorCode::kInvalidArgument, "{}: has {} ids, but vocab_size is {}", path, ids, config.vocab_size);
}

Result<int> execute(const InitOptions& options) {
  Config config = AXON_TRY(preset(options.preset));
  for (const std::string& setting : options.set) config = AXON_TRY(with_setting(config, setting));
  const WeightFormat want = AXON_TRY(parse_weight_format(options.weights));
  const std::string tokenizer = AXON_TRY(init_tokenizer(options, config));
  if (tokenizer.empty() && options.tokenizer.empty()) {
    fmt::print(stderr,
               "note: vocab_size {} has no room for the shipped tokenizer, so none is written: run and evaluate will "
               "want one (--tokenizer FILE)\n",
               config.vocab_size);
  }
  const std::size_t threads = thread_count(options.threads);
  const ConvertPlan plan = plan_init(config, want, threads);
  return convert(plan, 0_B, options.output, options.memory_budget, threads, options.json, "initialising", "",
                 [&](Ledger& ledger, cpu::ThreadPool& pool, const WriteProgress& progress) {
                   return init(config, plan, options.seed, tokenizer, options.output, ledger, pool, progress);
                 });
}

}  // namespace

int quantize_command(const QuantizeOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

int merge_command(const MergeOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

int init_command(const InitOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

}  // namespace axon::cli
