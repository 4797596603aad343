// run: one answer, or a chat.

#include <unistd.h>

#include <cstdio>
#include <random>

#include "cli/chat.h"
#include "cli/common.h"
#include "cli/state_file.h"
#include "generate/generate.h"
#include "kernels/cpu/level.h"
#include "tokenizer/chat_template.h"

namespace axon::cli {
namespace {

std::uint64_t seed_of(const RunOptions& options) {
  if (options.seed) return *options.seed;
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

Result<std::string> piped_prompt() {
  if (isatty(STDIN_FILENO) != 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "no prompt: give it as an argument or on standard input, or use --chat");
  }
  std::string text(kMaxPiped + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), stdin));
  if (text.size() > kMaxPiped) {
    return make_error(ErrorCode::kInvalidArgument, "the prompt on standard input is longer than {}",
                      to_string(Bytes{kMaxPiped}));
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

Result<std::string> prompt_of(const RunOptions& options) {
  std::string prompt = options.prompt_given ? options.prompt : AXON_TRY(piped_prompt());
  // A raw text that stopped can go on without a word more.
  const bool may_be_empty = options.raw && !options.state.empty();
  if (prompt.empty() && !may_be_empty) return make_error(ErrorCode::kInvalidArgument, "the prompt is empty");
  AXON_TRY(check_utf8("the prompt", prompt));
  return prompt;
}

// Appends the prompt's ids to what is unread of a conversation.
Status add_prompt(const RunOptions& options, const Tokenizer& tokenizer, const std::string& prompt, bool begins,
                  std::vector<TokenId>& ids) {
  if (options.raw) {
    AXON_TRY(tokenizer.encode(prompt, ids));
  } else {
    std::vector<Message> messages;
    if (begins && !options.system.empty()) messages.push_back({"system", options.system});
    messages.push_back({"user", prompt});
    AXON_TRY(encode_chat(tokenizer, messages, /*add_generation_prompt=*/true, ids));
  }
  if (ids.empty()) return make_error(ErrorCode::kInvalidArgument, "the prompt is empty");
  return Ok{};
}

Status check_room(const RunOptions& options, std::size_t tokens, const Session& session) {
  if (options.max_tokens <= session.room() && tokens <= session.room() - options.max_tokens) return Ok{};
  const std::string remembered =
      session.position() == 0 ? std::string() : fmt::format("{} tokens are remembered, ", session.position());
  return make_error(ErrorCode::kInvalidArgument,
                    "{}the prompt has {} tokens and --max-tokens is {}: together {}, but the context is {}{}",
                    remembered, tokens, options.max_tokens, session.position() + tokens + options.max_tokens,
                    session.options().context, options.context == 0 ? " (the model's max_seq_len)" : "");
}

void write_out(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

struct Timing {
  double prefill_seconds = 0, decode_seconds = 0;
  std::size_t prompt_tokens = 0, steps = 0, answer_tokens = 0;
  double prefill_rate() const { return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0; }
  double decode_rate() const { return decode_seconds > 0 ? static_cast<double>(steps) / decode_seconds : 0; }
};

std::string timing_line(const Timing& t) {
  return fmt::format("{} prompt tokens at {:.1f} tokens/s, {} generated{}, first token after {:.0f} ms",
                     t.prompt_tokens, t.prefill_rate(), t.answer_tokens,
                     t.steps > 0 ? fmt::format(" at {:.1f} tokens/s", t.decode_rate()) : "", t.prefill_seconds * 1e3);
}

// What belongs to the conversation but was not read: the last token drawn, and the end of the turn.
Status leave_unread(const RunOptions& options, const Tokenizer& tokenizer, const GenerateResult& result,
                    std::vector<TokenId>& ids) {
  ids.clear();
  if (result.last_unread) ids.push_back(result.ids.back());
  return options.raw ? Status(Ok{}) : tokenizer.encode(kTurnEnd, ids);
}

Result<int> one_shot(const RunOptions& options, const std::string& prompt, Engine& engine, const RunPlan& plan,
                     const SamplingOptions& sampling, const Interruption& interruption, StateFile& state) {
  Session& session = engine.session();
  AXON_TRY(check_length(prompt, engine));
  std::vector<TokenId> ids = AXON_TRY(state.restore(engine));
  AXON_TRY(add_prompt(options, engine.tokenizer(), prompt, !state.goes_on(), ids));
  AXON_TRY(check_room(options, ids.size(), session));
  const auto start = std::chrono::steady_clock::now();
  {
    ProgressLine line("reading the prompt");
    AXON_TRY(session.prefill(ids, [&](std::size_t done, std::size_t total) {
      line.update(static_cast<double>(done) / static_cast<double>(total));
      return !interruption.flag();
    }));
  }
  engine.sampler().note(ids);
  const GenerateOptions generation{.max_tokens = options.max_tokens,
                                   .stop = options.stop,
                                   .stop_ids = engine.tokenizer().stop_ids(),
                                   .show_special = options.raw};
  const bool stream = !options.no_stream && !options.json;
  const std::chrono::duration<double> prefill = std::chrono::steady_clock::now() - start;
  const GenerateResult result =
      generate(session, engine.sampler(), engine.tokenizer(), generation,
               stream ? OnText(write_out) : OnText([](std::string_view) {}), interruption.flag());
  const Timing timing{.prefill_seconds = prefill.count() + result.first_token.count(),
                      .decode_seconds = result.decode.count(),
                      .prompt_tokens = ids.size(),
                      .steps = result.steps,
                      .answer_tokens = result.ids.size()};
  AXON_TRY(leave_unread(options, engine.tokenizer(), result, ids));
  const Status saved = state.save(engine, ids);
  if (options.json) {
    Json json = {{"text", result.text},
                 {"token_ids", result.ids},
                 {"finish_reason", name_of(result.reason)},
                 {"prompt_tokens", timing.prompt_tokens},
                 {"completion_tokens", timing.answer_tokens},
                 {"time_to_first_token_seconds", timing.prefill_seconds},
                 {"decode_seconds", timing.decode_seconds},
                 {"prefill_tokens_per_second", timing.prefill_rate()},
                 {"decode_tokens_per_second", timing.decode_rate()},
                 {"seed", sampling.seed},
                 {"threads", engine.device().threads()},
                 {"cpu", cpu::name_of(cpu::level())},
                 {"memory", memory_json(plan, engine.ledger())}};
    if (state.asked()) json["state"] = state.json();
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    if (!stream) write_out(result.text);
    write_out("\n");
    fmt::print(stderr, "{}\n{}\n", dim(timing_line(timing)), dim(memory_line(plan, engine.ledger())));
    const std::string smaller = smaller_kv_line(engine.session(), plan);
    if (!smaller.empty()) fmt::print(stderr, "{}\n", dim(smaller));
    if (plan.total != engine.ledger().peak()) fmt::print(stderr, "{}", memory_table(plan, engine.ledger()));
    if (state.asked() && saved.ok()) fmt::print(stderr, "{}\n", dim(state.line()));
  }
  if (!saved.ok()) return saved.error();
  return result.reason == FinishReason::kCancelled ? kExitError : kExitOk;
}

Result<int> execute(const RunOptions& options) {
  if (options.max_tokens < 1 || options.max_tokens > (1u << 30)) {
    return make_error(ErrorCode::kInvalidArgument, "--max-tokens must be from 1 to {}, but is {}", 1u << 30,
                      options.max_tokens);
  }
  // A model takes seconds to load: whatever can be wrong without it is said first.
  AXON_TRY(check_utf8("--system", options.system));
  const std::string prompt = options.chat ? options.prompt : AXON_TRY(prompt_of(options));
  OpenedModel model = AXON_TRY(open_for_run(options, /*needs_tokenizer=*/true));
  EngineOptions engine_opts = AXON_TRY(engine_options(options, model));
  engine_opts.sampling = {.temperature = static_cast<float>(options.temperature),
                          .top_k = options.top_k,
                          .top_p = static_cast<float>(options.top_p),
                          .min_p = static_cast<float>(options.min_p),
                          .repetition_penalty = static_cast<float>(options.repetition_penalty),
                          .seed = seed_of(options)};
  AXON_TRY(check_sampling(engine_opts.sampling));
  engine_opts.text = Bytes{4 * (engine_opts.session.context + options.max_tokens)};
  const RunPlan plan = AXON_TRY(plan_or_refuse(model, engine_opts, options.memory_budget));
  StateFile state = AXON_TRY(StateFile::open(options, model, engine_opts));
  Interruption interruption(options.chat ? Interruption::Insistence::kOnlyTermination
                                         : Interruption::Insistence::kSecondEnds);
  const std::unique_ptr<Engine> engine = AXON_TRY(load_engine(std::move(model), plan, engine_opts, interruption));
  if (options.chat) return chat(options, *engine, plan, interruption, state);
  return one_shot(options, prompt, *engine, plan, engine_opts.sampling, interruption, state);
}

}  // namespace

int run_command(const RunOptions& options) {
  Result<int> status = execute(options);
  return status.ok() ? status.value() : report(status.error());
}

}  // namespace axon::cli
