// evaluate: how well a model predicts a text.

#include <cmath>

#include "cli/common.h"
#include "generate/score.h"
#include "kernels/cpu/level.h"

namespace axon::cli {
namespace {

constexpr std::size_t kLogitsRows = 32;  // positions scored at once: enough to read the head's weights rarely

Result<int> execute(const EvaluateOptions& options) {
  if (options.text.empty()) return make_error(ErrorCode::kInvalidArgument, "--text FILE is needed");
  OpenedModel model = AXON_TRY(open_for_run(options.model, /*needs_tokenizer=*/true, options.attention_window));
  if (options.window < 1 || options.window > model.files.config.max_seq_len) {
    return make_error(ErrorCode::kInvalidArgument, "--window must be from 1 to the model's max_seq_len {}, but is {}",
                      model.files.config.max_seq_len, options.window);
  }
  const MappedFile text = AXON_TRY(MappedFile::open(options.text));
  EngineOptions engine_opts = AXON_TRY(engine_options(options, model.files.config));
  engine_opts.session.context = options.window;
  engine_opts.session.logits_rows = std::min({kLogitsRows, options.prefill_chunk, options.window});
  // The mapped text, and an id for each byte of it at most.
  engine_opts.text = Bytes{text.bytes().size() * (1 + sizeof(TokenId))};
  const RunPlan plan = AXON_TRY(plan_or_refuse(model, engine_opts, options.memory_budget));
  const Interruption interruption;
  const std::unique_ptr<Engine> engine = AXON_TRY(load_engine(std::move(model), plan, engine_opts, interruption));

  std::vector<TokenId> ids;
  ids.reserve(text.bytes().size());
  if (const Status encoded = engine->tokenizer().encode(text.text(), ids); !encoded.ok()) {
    return make_error(encoded.error().code, "{}: {}", options.text, encoded.error().message);
  }
  const auto start = std::chrono::steady_clock::now();
  ProgressLine line("evaluating");
  const Score score = AXON_TRY(
      score_windows(engine->session(), ids, options.window, options.windows, [&](std::size_t done, std::size_t total) {
        line.update(static_cast<double>(done) / static_cast<double>(total),
                    fmt::format("window {} of {}", done, total));
        return !interruption.flag();
      }));
  line.clear();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double perplexity = std::exp(score.mean_nll);
  if (options.json) {
    const Json json = {{"mean_nll", score.mean_nll},
                       {"standard_error", score.standard_error},
                       {"perplexity", perplexity},
                       {"tokens", score.tokens},
                       {"window", options.window},
                       {"windows", score.tokens / options.window},
                       {"weights", to_string(engine_opts.weights)},
                       {"exact", options.exact},
                       {"seconds", elapsed.count()},
                       {"tokens_per_second", static_cast<double>(score.tokens) / elapsed.count()},
                       {"threads", engine->device().threads()},
                       {"cpu", cpu::name_of(cpu::level())},
                       {"memory", memory_json(plan, engine->ledger())}};
    fmt::print("{}\n", json.dump(2));
    return kExitOk;
  }
  fmt::print(
      "mean NLL    {:.4f} nats a token (standard error {:.4f})\nperplexity  {:.4f}\ntokens      {} in {} windows of "
      "{}\n",
      score.mean_nll, score.standard_error, perplexity, score.tokens, score.tokens / options.window, options.window);
  fmt::print(stderr, "{}\n",
             dim(fmt::format("{:.1f} s, {:.0f} tokens/s", elapsed.count(),
                             static_cast<double>(score.tokens) / elapsed.count())));
  fmt::print(stderr, "{}\n", dim(memory_line(plan, engine->ledger())));
  return kExitOk;
}

}  // namespace

int evaluate_command(const EvaluateOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

}  // namespace axon::cli
