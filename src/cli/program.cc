// The command line: what can be typed, its help, and which command runs.

#include <CLI/CLI.hpp>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <limits>
#include <system_error>

#include "cli/common.h"
#include "kernels/cpu/level.h"

namespace axon::cli {
namespace {

// Values are judged while the command line is read, so that a wrong one is wrong usage and named with its option.
// CLI11's own number checks take "-3" and what is too large for numbers of 20 digits, and nothing for 0.
CLI::Validator whole_number(std::uint64_t min = 0, std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
  return CLI::Validator(
      [min, max](std::string& text) {
        std::uint64_t number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error != std::errc() || end != text.data() + text.size()) {
          return fmt::format("expected a whole number, but got \"{}\"", text);
        }
        if (number >= min && number <= max) return std::string();
        return fmt::format("expected a number from {} to {}, but got {}", min, max, number);
      },
      "");
}

CLI::Validator real_number(double min, double max) {
  return CLI::Validator(
      [min, max](std::string& text) {
        double number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error == std::errc() && end == text.data() + text.size() && number >= min && number <= max)
          return std::string();
        return fmt::format("expected a number from {} to {}, but got \"{}\"", min, max, text);
      },
      "");
}

// What a parser of ours says of a text.
template <class Parse>
CLI::Validator parsed_by(Parse parse) {
  return CLI::Validator(
      [parse](std::string& text) {
        const auto result = parse(text);
        return result.ok() ? std::string() : result.error().message;
      },
      "");
}

const std::size_t kTokensMax = std::size_t{1} << 30;

void add_model_options(CLI::App* app, ModelOptions& o, bool positional_model) {
  if (positional_model) {
    app->add_option("model", o.model, "Model folder (default: the shipped bit-axon-nano)");
  } else {
    app->add_option("-m,--model", o.model, "Model folder (default: the shipped bit-axon-nano)");
  }
  app->add_option("--weights", o.weights,
                  "Precision in memory: keep, f32, f16, bf16, q8, q6, q5, q4, q3, q2 (q4g32: groups of 32)")
      ->check(parsed_by(parse_weight_format))
      ->capture_default_str();
  app->add_option("--memory-budget", o.memory_budget,
                  "The most memory to take, e.g. 64MiB or 8GB (default: what the machine can spare)")
      ->check(parsed_by(parse_size));
  app->add_option("--prefill-chunk", o.prefill_chunk, "Prompt tokens in one pass; fewer take less workspace")
      ->check(whole_number(1, 65536))
      ->capture_default_str();
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")->check(whole_number(1, 1024));
  app->add_flag("--exact", o.exact, "float32 arithmetic throughout, and a float32 KV cache");
  app->add_flag("--json", o.json, "Print one JSON object");
}

void add_context(CLI::App* app, ModelOptions& o) {
  app->add_option("--context", o.context,
                  "The most tokens, prompt and answer together (default: the model's max_seq_len; the KV cache stops "
                  "growing at its window)")
      ->check(whole_number(1, kTokensMax));
}

void add_run(CLI::App& program, RunOptions& o) {
  CLI::App* app = program.add_subcommand("run", "Answer a prompt, or chat");
  app->add_option_function<std::string>(
      "prompt", [&o](const std::string& text) { o.prompt = text, o.prompt_given = true; },
      "The prompt (default: standard input)");
  CLI::Option* chat =
      app->add_flag("-c,--chat", o.chat, "Interactive chat: /reset /stats /exit, Ctrl-C stops an answer");
  add_model_options(app, o, /*positional_model=*/false);
  add_context(app, o);
  app->add_option("-n,--max-tokens", o.max_tokens, "The most tokens to generate")
      ->check(whole_number(1, kTokensMax))
      ->capture_default_str();
  app->add_option("--temperature", o.temperature, "0: always the most likely token")
      ->check(real_number(0, 1e6))
      ->capture_default_str();
  app->add_option("--top-k", o.top_k, "Draw from the k most likely tokens; 0: all")
      ->check(whole_number())
      ->capture_default_str();
  app->add_option("--top-p", o.top_p, "Draw from the most likely tokens that together have this probability")
      ->check(real_number(0, 1))
      ->capture_default_str();
  app->add_option("--min-p", o.min_p, "Drop tokens below this share of the best one's probability")
      ->check(real_number(0, 1))
      ->capture_default_str();
  app->add_option("--repetition-penalty", o.repetition_penalty, "Above 1: tokens seen before become less likely")
      ->check(real_number(1e-3, 1e3))
      ->capture_default_str();
  app->add_option("--seed", o.seed, "The same seed gives the same text (default: random)")->check(whole_number());
  app->add_option("--stop", o.stop, "Text that ends the answer; may be given several times")->allow_extra_args(false);
  app->add_option("--system", o.system, "System message");
  app->add_flag("--raw", o.raw, "No chat template: continue the prompt as it is");
  app->add_flag("--no-stream", o.no_stream, "Print the answer when it is whole");
  for (const char* one_shot : {"--json", "--raw", "--no-stream"}) chat->excludes(app->get_option(one_shot));
  app->footer(
      "Examples:\n  bit-axon run \"Write a bedtime story about a small dragon.\"\n  bit-axon run --chat "
      "--memory-budget 64MiB\n"
      "  echo \"What is the capital of France?\" | bit-axon run --temperature 0 --json");
}

void add_plan(CLI::App& program, PlanOptions& o) {
  CLI::App* app =
      program.add_subcommand("plan", "What a run would take, account by account, before anything is loaded");
  add_model_options(app, o, /*positional_model=*/true);
  add_context(app, o);
  app->add_option("-n,--max-tokens", o.max_tokens, "As in run")
      ->check(whole_number(1, kTokensMax))
      ->capture_default_str();
  app->footer(
      "Exit status 0: fits, 3: does not.\nExamples:\n  bit-axon plan\n  bit-axon plan my-model --context 8192 "
      "--memory-budget 2GiB --json");
}

void add_quantize(CLI::App& program, QuantizeOptions& o) {
  CLI::App* app = program.add_subcommand("quantize", "Write a model in fewer bits, tensor by tensor");
  app->add_option("model", o.model, "Model folder")->required();
  app->add_option("-o,--output", o.output, "New folder; must not exist")->required();
  app->add_option("-b,--bits", o.bits, "Bits of a weight")
      ->check(CLI::IsMember({2, 3, 4, 5, 6, 8}))
      ->capture_default_str();
  app->add_option("-g,--group-size", o.group_size, "Weights that share a scale")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app->add_option("--memory-budget", o.memory_budget, "The most memory to take")->check(parsed_by(parse_size));
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")->check(whole_number(1, 1024));
  app->add_flag("--json", o.json, "Print one JSON object");
  app->footer("Example:\n  bit-axon quantize my-model -o my-model-q4 --bits 4 --group-size 64");
}

void add_init(CLI::App& program, InitOptions& o) {
  CLI::App* app = program.add_subcommand("init", "Write a model with random weights, straight in the asked precision");
  app->add_option("--preset", o.preset,
                  "nano, small, medium, 3b (3.2B parameters) or 6b (the original's default, 5.8B)")
      ->check(parsed_by(preset))
      ->capture_default_str();
  app->add_option("--weights", o.weights, "f32, f16, bf16, q8, q6, q5, q4, q3 or q2")
      ->check(parsed_by(parse_weight_format))
      ->capture_default_str();
  app->add_option("--set", o.set,
                  "Change a number of the config, e.g. swa_window_size=65536; may be given several times")
      ->allow_extra_args(false);
  app->add_option("--seed", o.seed, "Equal seeds give equal files")->check(whole_number())->capture_default_str();
  app->add_option("--tokenizer", o.tokenizer,
                  "tokenizer.json to copy in, or none (default: the shipped one where it fits)");
  app->add_option("-o,--output", o.output, "New folder; must not exist")->required();
  app->add_option("--memory-budget", o.memory_budget, "The most memory to take")->check(parsed_by(parse_size));
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")->check(whole_number(1, 1024));
  app->add_flag("--json", o.json, "Print one JSON object");
  app->footer("Example:\n  bit-axon init --preset 3b --weights q4 --seed 1 -o random-3b-q4");
}

void add_inspect(CLI::App& program, InspectOptions& o) {
  CLI::App* app =
      program.add_subcommand("inspect", "Config, tensors, precisions and exact parameter counts of a model");
  app->add_option("model", o.model, "Model folder (default: the shipped bit-axon-nano)");
  app->add_flag("--tensors", o.tensors, "List every tensor");
  app->add_flag("--json", o.json, "Print one JSON object");
  app->footer("Examples:\n  bit-axon inspect\n  bit-axon inspect my-model --tensors");
}

void add_evaluate(CLI::App& program, EvaluateOptions& o) {
  CLI::App* app = program.add_subcommand("evaluate", "Mean negative log likelihood and perplexity on a text");
  add_model_options(app, o, /*positional_model=*/true);
  app->add_option("--text", o.text, "UTF-8 text, tokenized as one string")->required();
  app->add_option("--window", o.window, "Tokens fed from an empty state")->check(whole_number())->capture_default_str();
  app->add_option("--windows", o.windows, "How many windows (default: all)")->check(whole_number());
  app->footer("Example:\n  bit-axon evaluate --text book.txt --window 1024 --windows 64 --weights bf16 --exact");
}

int usage_error(const CLI::App& program, const CLI::ParseError& e) {
  std::string name = "bit-axon", message = e.what();
  for (const CLI::App* command : program.get_subcommands()) name += " " + command->get_name();
  for (const std::string& extra : program.remaining(/*recurse=*/true)) {
    if (extra.starts_with('-')) {
      message = fmt::format("unknown option {}", extra);
    } else if (program.get_subcommands().empty()) {
      message = fmt::format("unknown command {}", extra);
    } else {
      message = fmt::format("unexpected argument {}{}", extra,
                            program.got_subcommand("run") ? " (a prompt of several words needs quotes)" : "");
    }
  }
  report({ErrorCode::kInvalidArgument, fmt::format("{}\n{} --help shows what can be typed", message, name)});
  return kExitUsage;
}

// What was printed may still be in the buffer, and the disk full.
int flushed(int status) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  report({ErrorCode::kIo, fmt::format("cannot write to standard output{}{}", errno == 0 ? "" : ": ",
                                      errno == 0 ? "" : std::strerror(errno))});
  return status == kExitOk ? kExitError : status;
}

}  // namespace

int run_program(int argc, char** argv) {
  CLI::App program("Bit-Axon: a hybrid language model in a memory budget that holds", "bit-axon");
  program.set_version_flag("-V,--version", "bit-axon " AXON_VERSION);
  program.require_subcommand(0, 1);
  program.footer(
      "bit-axon COMMAND --help shows a command's options.\n"
      "Exit status: 0 done, 1 error, 2 wrong usage, 3 does not fit the memory budget.\n"
      "BIT_AXON_CPU=avx2 (avx512vnni, avx512, sse4, scalar) forces a CPU level; BIT_AXON_MODEL names another default "
      "model.");
  RunOptions run;
  PlanOptions plan;
  QuantizeOptions quantize;
  InitOptions init;
  InspectOptions inspect;
  EvaluateOptions evaluate;
  add_run(program, run);
  add_plan(program, plan);
  add_quantize(program, quantize);
  add_init(program, init);
  add_inspect(program, inspect);
  add_evaluate(program, evaluate);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) return usage_error(program, e);
    program.exit(e);
    return flushed(kExitOk);
  }
  if (const Status forced = cpu::force_from_environment(); !forced.ok()) {
    report(forced.error());
    return kExitUsage;
  }
  try {
    if (program.got_subcommand("run")) return flushed(run_command(run));
    if (program.got_subcommand("plan")) return flushed(plan_command(plan));
    if (program.got_subcommand("quantize")) return flushed(quantize_command(quantize));
    if (program.got_subcommand("init")) return flushed(init_command(init));
    if (program.got_subcommand("inspect")) return flushed(inspect_command(inspect));
    if (program.got_subcommand("evaluate")) return flushed(evaluate_command(evaluate));
    fmt::print("{}", program.help());
  } catch (const std::system_error&) {
    // fmt throws when stdout takes no more; flushed() says so.
  }
  return flushed(kExitOk);
}

}  // namespace axon::cli
