// evaluate: how well a model predicts a text, and what each type of KV cache costs it.

#include <cmath>

#include "cli/common.h"
#include "generate/kv_compare.h"
#include "generate/score.h"
#include "kernels/cpu/level.h"

namespace axon::cli {
namespace {

constexpr std::size_t kLogitsRows = 32;  // positions scored at once: enough to read the head's weights rarely

// A model that stands ready, and the text as ids.
struct Reading {
  WeightFormat weights;
  RunPlan plan;
  std::unique_ptr<Engine> engine;
  std::vector<TokenId> ids;
};

// The reference, and all the others that can hold the model's vectors.
Status compare_types(const Config& config, EngineOptions& engine_opts) {
  engine_opts.session.kv = DType::kF16;
  Status refused = Ok{};
  for (const KvType& type : kv_types()) {
    if (type.layout == nullptr) continue;
    const Status held = check_kv_type(type, config.head_dim());
    if (held.ok()) {
      engine_opts.more_kv.push_back(type);
    } else if (refused.ok()) {
      refused = held;
    }
  }
  if (!engine_opts.more_kv.empty()) return Ok{};
  return make_error(ErrorCode::kUnsupported, "--kv-compare has nothing to compare: {}", refused.error().message);
}

Result<Reading> read_text(const EvaluateOptions& options, const Interruption& interruption) {
  if (options.text.empty()) return make_error(ErrorCode::kInvalidArgument, "--text FILE is needed");
  OpenedModel model = AXON_TRY(open_for_run(options, /*needs_tokenizer=*/true));
  const Config& config = model.files.config;
  if (options.window < 1 || options.window > config.max_seq_len) {
    return make_error(ErrorCode::kInvalidArgument, "--window must be from 1 to the model's max_seq_len {}, but is {}",
                      config.max_seq_len, options.window);
  }
  const MappedFile text = AXON_TRY(MappedFile::open(options.text));
  const std::size_t bytes = text.bytes().size();
  EngineOptions engine_opts = AXON_TRY(engine_options(options, model));
  engine_opts.session.context = options.window;
  engine_opts.session.logits_rows = std::min({kLogitsRows, options.prefill_chunk, options.window});
  // The mapped text, and an id for each byte of it at most.
  engine_opts.text = Bytes{bytes * (1 + sizeof(TokenId))};
  if (options.kv_compare) {
    AXON_TRY(compare_types(config, engine_opts));
    const bool all = options.windows == 0 || options.windows > bytes / options.window;
    engine_opts.text += kv_compare_bytes(1 + engine_opts.more_kv.size(), all ? bytes : options.windows * options.window,
                                         config.vocab_size);
  }
  Reading reading;
  reading.weights = engine_opts.weights;
  reading.plan = AXON_TRY(plan_or_refuse(model, engine_opts, options.memory_budget, "--window"));
  reading.engine = AXON_TRY(load_engine(std::move(model), reading.plan, engine_opts, interruption));
  reading.ids.reserve(bytes);
  if (const Status encoded = reading.engine->tokenizer().encode(text.text(), reading.ids); !encoded.ok()) {
    return make_error(encoded.error().code, "{}: {}", options.text, encoded.error().message);
  }
  return reading;
}

// How it was computed: the end of either report.
void add_circumstances(Json& json, const Reading& reading, const EvaluateOptions& options, std::size_t tokens,
                       double seconds) {
  json["tokens"] = tokens;
  json["window"] = options.window;
  json["windows"] = tokens / options.window;
  json["weights"] = to_string(reading.weights);
  json["exact"] = options.exact;
  json["seconds"] = seconds;
  json["tokens_per_second"] = static_cast<double>(tokens) / seconds;
  json["threads"] = reading.engine->device().threads();
  json["cpu"] = cpu::name_of(cpu::level());
  json["memory"] = memory_json(reading.plan, reading.engine->ledger());
}

void print_circumstances(const Reading& reading, std::size_t tokens, double seconds) {
  fmt::print(stderr, "{}\n",
             dim(fmt::format("{:.1f} s, {:.0f} tokens/s", seconds, static_cast<double>(tokens) / seconds)));
  fmt::print(stderr, "{}\n", dim(memory_line(reading.plan, reading.engine->ledger())));
}

class Clock {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Status score(Reading& reading, const EvaluateOptions& options, const Interruption& interruption) {
  const Clock clock;
  ProgressLine line("evaluating");
  const auto progress = [&](std::size_t done, std::size_t total) {
    line.update(static_cast<double>(done) / static_cast<double>(total), fmt::format("window {} of {}", done, total));
    return !interruption.flag();
  };
  const Score score =
      AXON_TRY(score_windows(reading.engine->session(), reading.ids, options.window, options.windows, progress));
  line.clear();
  const double seconds = clock.seconds(), perplexity = std::exp(score.mean_nll);
  if (options.json) {
    Json json = {{"mean_nll", score.mean_nll}, {"standard_error", score.standard_error}, {"perplexity", perplexity}};
    add_circumstances(json, reading, options, score.tokens, seconds);
    fmt::print("{}\n", json.dump(2));
    return Ok{};
  }
  fmt::print(
      "mean NLL    {:.4f} nats a token (standard error {:.4f})\nperplexity  {:.4f}\ntokens      {} in {} windows of "
      "{}\n",
      score.mean_nll, score.standard_error, perplexity, score.tokens, score.tokens / options.window, options.window);
  print_circumstances(reading, score.tokens, seconds);
  return Ok{};
}

double microseconds_per_token(double seconds, const KvScore& score) {
  return seconds * 1e6 / static_cast<double>(score.nll.count());
}

Json kv_score_json(const KvScore& score, const KvScore& reference) {
  return {{"kv", score.type.name()},
          {"mean_nll", score.nll.mean()},
          {"standard_error", score.nll.standard_error()},
          {"perplexity", score.perplexity()},
          {"perplexity_ratio", score.perplexity_ratio()},
          {"nll_difference", score.nll_difference.mean()},
          {"nll_difference_error", score.nll_difference.standard_error()},
          {"mean_kld", score.kld.mean()},
          {"mean_kld_error", score.kld.standard_error()},
          {"kld_999", score.kld_999},
          {"kld_largest", score.kld_largest},
          {"top1_agreement", score.top1_agreement},
          {"kv_bytes", score.kv.count},
          {"attend_us_per_token", microseconds_per_token(score.work.of(cpu::Verb::kAttend), score)},
          {"attend_ratio", score.work.of(cpu::Verb::kAttend) / reference.work.of(cpu::Verb::kAttend)},
          {"append_us_per_token", microseconds_per_token(score.work.of(cpu::Verb::kAppend), score)},
          {"rotate_us_per_token", microseconds_per_token(score.work.of(cpu::Verb::kRotate), score)}};
}

std::string kv_score_row(const KvScore& score, const KvScore& reference) {
  const bool first = &score == &reference;
  const double ratio = score.perplexity_ratio();
  const std::string change = first ? "" : fmt::format("{:+.3f} %", 100 * (ratio - 1)),
                    error = first ? "" : fmt::format("{:.3f} %", 100 * ratio * score.nll_difference.standard_error());
  return fmt::format(
      "{:<6} {:>9.4f} {:>10} {:>8} {:>9.2e} {:>8.1e} {:>9.2e} {:>8.2f} % {:>10} {:>7.1f} us {:>5.2f}x "
      "{:>6.1f} us {:>6.1f} us\n",
      score.type.name(), score.perplexity(), change, error, score.kld.mean(), score.kld.standard_error(), score.kld_999,
      100 * score.top1_agreement, to_string(score.kv), microseconds_per_token(score.work.of(cpu::Verb::kAttend), score),
      score.work.of(cpu::Verb::kAttend) / reference.work.of(cpu::Verb::kAttend),
      microseconds_per_token(score.work.of(cpu::Verb::kAppend), score),
      microseconds_per_token(score.work.of(cpu::Verb::kRotate), score));
}

std::string kv_table(std::span<const KvScore> scores, const EvaluateOptions& options) {
  std::string out = bold(fmt::format(
      "{:<6} {:>9} {:>10} {:>8} {:>9} {:>8} {:>9} {:>10} {:>10} {:>10} {:>6} {:>9} {:>9}\n", "kv", "PPL", "change",
      "+-", "mean KLD", "+-", "99.9 %", "top-1", "cache", "attention", "ratio", "encoding", "rotation"));
  for (const KvScore& score : scores) out += kv_score_row(score, scores[0]);
  const std::size_t tokens = scores[0].nll.count();
  out += fmt::format(
      "\n{} tokens in {} windows of {}, read {} at a time. All against {}, the first row; +- is a standard error.\n"
      "KLD: divergence of the next token's distribution from {}'s, nats; 99.9 %: so many of the tokens have no more\n"
      "than this. top-1: share of tokens with the same most likely one. Times: of a token, all layers.\n",
      tokens, tokens / options.window, options.window, options.prefill_chunk, scores[0].type.name(),
      scores[0].type.name());
  if (!options.exact) {
    out += "Rounding of activations to int8 adds to every divergence; --exact leaves what the cache does alone.\n";
  }
  return out;
}

Status compare(Reading& reading, const EvaluateOptions& options, const Interruption& interruption) {
  Engine& engine = *reading.engine;
  std::vector<Session*> sessions;
  for (std::size_t i = 0; i < engine.sessions(); ++i) sessions.push_back(&engine.session(i));
  const Clock clock;
  ProgressLine line("comparing");
  const auto progress = [&](std::size_t done, std::size_t total) {
    line.update(static_cast<double>(done) / static_cast<double>(total), fmt::format("token {} of {}", done, total));
    return !interruption.flag();
  };
  const std::vector<KvScore> scores =
      AXON_TRY(compare_kv(sessions, engine.device(), reading.ids, options.window, options.windows, progress));
  line.clear();
  const double seconds = clock.seconds();
  const std::size_t tokens = scores[0].nll.count();
  if (options.json) {
    Json types = Json::array();
    for (const KvScore& score : scores) types.push_back(kv_score_json(score, scores[0]));
    Json json = {
        {"reference", scores[0].type.name()}, {"types", std::move(types)}, {"prefill_chunk", options.prefill_chunk}};
    add_circumstances(json, reading, options, tokens, seconds);
    fmt::print("{}\n", json.dump(2));
    return Ok{};
  }
  fmt::print("{}", kv_table(scores, options));
  print_circumstances(reading, tokens, seconds);
  return Ok{};
}

Status execute(const EvaluateOptions& options) {
  const Interruption interruption;
  Reading reading = AXON_TRY(read_text(options, interruption));
  return options.kv_compare ? compare(reading, options, interruption) : score(reading, options, interruption);
}

}  // namespace

int evaluate_command(const EvaluateOptions& options) {
  const Status status = execute(options);
  return status.ok() ? kExitOk : report(status.error());
}

}  // namespace axon::cli
