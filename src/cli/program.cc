// The command line: what can be typed, its help, and which command runs.

#include <CLI/CLI.hpp>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>

#include "cli/common.h"
#include "cli/help.h"
#include "cli/program.h"
#include "cli/validators.h"
#include "kernels/cpu/level.h"
#include "plan/machines.h"
#include "plan/solve.h"

namespace axon::cli {
namespace {

const std::size_t kTokensMax = std::size_t{1} << 30;

// What changes the engine's memory beside weights and context.
template <class Options>
void add_engine_options(CLI::App* app, Options& o) {
  app->add_option("--attention-window", o.attention_window,
                  "Tokens that attention looks back, or all, instead of the model's own window")
      ->check(parsed_by(parse_window));
  app->add_option("--prefill-chunk", o.prefill_chunk, "Prompt tokens in one pass; fewer take less workspace")
      ->check(whole_number(1, 65536))
      ->capture_default_str();
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")->check(whole_number(1, 1024));
  app->add_flag("--exact", o.exact, "float32 arithmetic throughout; a float32 KV cache unless --kv is given");
}

// A fine-tuned model is its base and this.
template <class Options>
void add_adapter_options(CLI::App* app, Options& o) {
  CLI::Option* adapter =
      app->add_option("--adapter", o.adapter,
                      "Run with this LoRA or DoRA adapter: a folder of PEFT or mlx-lm, or a .safetensors file")
          ->check(parsed_by(check_not_empty));
  app->add_option("--adapter-scale", o.adapter_scale, "What the adapter is multiplied by, instead of what it says")
      ->check(real_number(-1e6, 1e6))
      ->needs(adapter);
}

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
  app->add_option("--kv", o.kv,
                  "How keys and values are held: fp32, fp16, q8, tq4, tq3.5, tq3, lm3 (default: fp16, with --exact "
                  "fp32)")
      ->check(parsed_by(parse_kv_type));
  app->add_option("--memory-budget", o.memory_budget,
                  "The most memory to take, e.g. 64MiB or 8GB (default: what the machine can spare)")
      ->check(parsed_by(parse_size));
  add_engine_options(app, o);
  add_adapter_options(app, o);
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
  app->add_option("--state", o.state,
                  "Go on with the conversation in this file, if there is one, and leave it there at the end")
      ->check(parsed_by(check_not_empty));
  app->add_flag("--raw", o.raw, "No chat template: continue the prompt as it is");
  app->add_flag("--no-stream", o.no_stream, "Print the answer when it is whole");
  for (const char* one_shot : {"--json", "--raw", "--no-stream"}) chat->excludes(app->get_option(one_shot));
  app->footer(
      "Examples:\n  bit-axon run \"Write a bedtime story about a small dragon.\"\n  bit-axon run --chat "
      "--memory-budget 64MiB\n"
      "  echo \"What is the capital of France?\" | bit-axon run --temperature 0 --json\n"
      "  bit-axon run --adapter my-adapter \"Tell me about a fox.\"\n"
      "  bit-axon run --state fox.state \"Tell me about a fox.\"\n"
      "  bit-axon run --state fox.state \"And then?\"");
}

// "keep", one of ours or any other program's.
Result<Ok> check_weights(std::string_view text) {
  if (text == "keep" || parse_weight_format(text).ok()) return Ok{};
  AXON_TRY(parse_precision(text));
  return Ok{};
}

void add_plan_choices(CLI::App* app, PlanOptions& o) {
  const std::string group = "What to plan for (lists print a matrix)";
  add_list(app, "--context", o.context, "Tokens, or a list: 4k,16k,64k (default: the model's maximum)")
      ->allow_extra_args(false)
      ->check(list_of(parse_tokens))
      ->group(group);
  add_list(app, "--weights", o.weights,
           "Precision in memory, or a list: keep, fp32, bf16, fp16, fp8, q8 ... q2, nf4, mxfp4, nvfp4, ternary, "
           "GGUF's types")
      ->allow_extra_args(false)
      ->check(list_of(check_weights))
      ->group(group);
  add_list(app, "--kv", o.kv, "KV cache, or a list: fp32, fp16, fp8, q8, q4, tq4, tq3.5, tq3, lm3 (default: as run)")
      ->allow_extra_args(false)
      ->check(list_of(parse_kv_format))
      ->group(group);
  app->add_option("-n,--max-tokens", o.max_tokens, "As in run")
      ->check(whole_number(1, kTokensMax))
      ->capture_default_str()
      ->group(group);
  app->add_flag("--fallback", o.fallback,
                "Of an unknown family or a bare size, reckon the cache as 2 x layers x hidden size x tokens x bytes")
      ->group(group);
  app->add_option("--layers", o.layers, "For --fallback")->check(whole_number(1, 65536))->group(group);
  app->add_option("--hidden-size", o.hidden_size, "For --fallback")->check(whole_number(1, 1u << 24))->group(group);
}

void add_plan_machine(CLI::App* app, PlanOptions& o) {
  const std::string group = "The machine";
  app->add_option("--budget,--memory-budget", o.memory_budget, "The most memory to take, e.g. 64MiB or 8GB")
      ->check(parsed_by(parse_size))
      ->group(group);
  app->add_option("--machine", o.machine, "Plan for another machine: --list names them")
      ->check(parsed_by(check_machine))
      ->group(group);
  CLI::Option* ram = app->add_option("--ram", o.ram, "Plan for a machine with so much memory")
                         ->check(parsed_by(parse_size))
                         ->excludes(app->get_option("--machine"))
                         ->group(group);
  app->add_option("--reserve", o.reserve, "What its system and other programs keep")
      ->check(parsed_by(parse_size))
      ->needs(ram)
      ->group(group);
}

// What is a matter of memory goes by the names that it has in train.
void add_plan_adapters(CLI::App* app, PlanOptions& o, const std::string& group) {
  app->add_option("--method", o.method, "sft, or orpo for pairs of answers")
      ->check(CLI::IsMember({"sft", "orpo"}))
      ->capture_default_str()
      ->group(group);
  app->add_option("--rank", o.rank, "Of the adapters")
      ->check(whole_number(1, 4096))
      ->capture_default_str()
      ->group(group);
  app->add_option("--scale", o.scale, "As in train; takes no memory")->check(real_number(1e-6, 1e6))->group(group);
  app->add_option("--dropout", o.dropout, "As in train")->check(real_number(0, 0.99))->group(group);
  add_list(app, "--targets", o.targets, "Layers with an adapter: their names, or groups such as attention")
      ->allow_extra_args(false)
      ->check(list_of(check_not_empty))
      ->group(group);
}

void add_plan_training(CLI::App* app, PlanOptions& o) {
  const std::string group = "Fine-tuning";
  app->add_flag("--train", o.train, "Plan QLoRA: frozen base, adapters, gradients, optimizer, activations")
      ->group(group);
  add_plan_adapters(app, o, group);
  app->add_option("--max-seq-len", o.max_seq_len, "Tokens of an example")
      ->check(parsed_by(parse_tokens))
      ->capture_default_str()
      ->group(group);
  app->add_option("--batch-size", o.batch_size, "Examples, or with --pack rows, of a step")
      ->check(whole_number(1, 1u << 20))
      ->capture_default_str()
      ->group(group);
  app->add_option("--grad-accum", o.grad_accum, "As in train; takes no memory")
      ->check(whole_number(1, 1u << 20))
      ->group(group);
  app->add_flag("--pack", o.pack, "As in train")->group(group);
  app->add_option("--chunk", o.chunk, "Tokens that go through a layer at once")
      ->check(whole_number(16, 65536))
      ->capture_default_str()
      ->group(group);
  app->add_flag("--compat", o.compat, "As in train")->group(group);
  app->add_option("--data", o.data, "Count the index of this JSONL file, too")
      ->check(parsed_by(check_not_empty))
      ->group(group);
  app->add_option("--val-data", o.val_data, "And of this one")->check(parsed_by(check_not_empty))->group(group);
  app->add_option("--optimizer", o.optimizer, "adamw; of models that are not trained here also adamw8bit or sgd")
      ->check(parsed_by(check_optimizer))
      ->capture_default_str()
      ->group(group);
  app->add_flag("--no-checkpointing", o.no_checkpointing,
                "Of models that are not trained here: keep all activations instead of computing blocks again")
      ->group(group);
}

void add_plan(CLI::App& program, PlanOptions& o) {
  CLI::App* app =
      program.add_subcommand("plan", "How much memory a model needs, account by account, and whether it fits");
  app->add_option("target", o.target,
                  "A folder, config.json, .safetensors or .gguf file; a preset; a known model; or a size such as 20b "
                  "(default: the shipped bit-axon-nano)");
  add_plan_choices(app, o);
  add_engine_options(app, o);
  add_adapter_options(app, o);
  app->get_option("--adapter")->description("Run with the adapter of this folder or file; with --train: lora or dora");
  app->parse_complete_callback([&o] {
    if (!trains(o) || o.adapter.empty() || o.adapter == "lora" || o.adapter == "dora") return;
    throw CLI::ValidationError("--adapter",
                               fmt::format("with --train expected lora or dora, but got \"{}\"", o.adapter));
  });
  add_plan_machine(app, o);
  add_plan_training(app, o);
  const std::string group = "Answers";
  add_list(app, "--solve", o.solve, "context, weights, kv or train: the best that fits, and the next cheaper")
      ->allow_extra_args(false)
      ->check(list_of(parse_solve_for))
      ->group(group);
  app->add_option("--explain", o.explain, "The formula of an account, with its numbers")
      ->check(parsed_by(check_not_empty))
      ->group(group);
  app->add_option("--html", o.html, "Write a page with a chart of the accounts over context")
      ->check(parsed_by(check_not_empty))
      ->group(group);
  app->add_option(
         "--page", o.page,
         "Print a page of the documentation, as this program works it out: memory-budget, memory-101 or models")
      ->check(CLI::IsMember({"memory-budget", "memory-101", "models"}))
      ->group(group);
  app->add_flag("--list", o.list, "List presets, known models, machines and precisions")->group(group);
  app->add_flag("--json", o.json, "Print one JSON object")->group(group);
  for (const char* other : {"target", "--json", "--html", "--solve", "--explain", "--train", "--list", "--adapter"}) {
    app->get_option("--page")->excludes(app->get_option(other));
  }
  for (const char* other : {"--json", "--html"}) app->get_option("--explain")->excludes(app->get_option(other));
  for (const char* other : {"target", "--json", "--html", "--adapter"}) {
    app->get_option("--list")->excludes(app->get_option(other));
  }
  app->footer(
      "Exit status 0: fits, 3: does not. Only headers of files are read.\nExamples:\n  bit-axon plan\n"
      "  bit-axon plan 3b --context 4k,16k,64k --weights fp16,q8,q4 --budget 8GB\n"
      "  bit-axon plan qwen3-8b --machine mac-mini-16gb --solve context --weights q4\n"
      "  bit-axon plan model.gguf --context 32k --explain \"kv cache\"\n"
      "  bit-axon plan 3b --train --rank 16 --max-seq-len 2k --budget 8GB\n"
      "  bit-axon plan 20b --weights bf16,fp8,fp4 --ram 16GiB --html plan.html");
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
  app->add_flag("--no-fold-rotation", o.no_fold_rotation,
                "Leave attention's weights in the model's own basis: a compressed KV cache then rotates keys and "
                "values at run time. For files that must equal another program's quantisation to the bit");
  app->add_option("--memory-budget", o.memory_budget, "The most memory to take")->check(parsed_by(parse_size));
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")->check(whole_number(1, 1024));
  app->add_flag("--json", o.json, "Print one JSON object");
  app->footer("Example:\n  bit-axon quantize my-model -o my-model-q4 --bits 4 --group-size 64");
}

void add_merge(CLI::App& program, MergeOptions& o) {
  CLI::App* app = program.add_subcommand("merge", "Write a model with an adapter added to its weights");
  app->add_option("-m,--model", o.model, "Model folder (default: the shipped bit-axon-nano)");
  app->add_option("--adapter", o.adapter, "LoRA or DoRA: a folder of PEFT or mlx-lm, or a .safetensors file")
      ->check(parsed_by(check_not_empty))
      ->required();
  app->add_option("--adapter-scale", o.adapter_scale, "What the adapter is multiplied by, instead of what it says")
      ->check(real_number(-1e6, 1e6));
  app->add_option("-o,--output", o.output, "New folder; must not exist")->required();
  app->add_option("--weights", o.weights,
                  "Precision of the new file: keep (each matrix as it is stored), f32, f16, bf16, q8, q6, q5, q4, q3, "
                  "q2 (q4g32: groups of 32)")
      ->check(parsed_by(parse_weight_format))
      ->capture_default_str();
  app->add_flag("--no-fold-rotation", o.no_fold_rotation, "As in quantize");
  app->add_option("--memory-budget", o.memory_budget, "The most memory to take")->check(parsed_by(parse_size));
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")->check(whole_number(1, 1024));
  app->add_flag("--json", o.json, "Print one JSON object");
  app->footer(
      "What is stored in few bits is rounded once more; run --adapter is exact.\nSee docs/adapters.md.\nExamples:\n"
      "  bit-axon merge --adapter my-adapter -o my-model\n"
      "  bit-axon merge -m base --adapter my-adapter --weights q4 -o my-model-q4");
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
  CLI::App* app = program.add_subcommand("evaluate", "Perplexity on a text, and what each type of KV cache costs");
  add_model_options(app, o, /*positional_model=*/true);
  app->add_option("--text", o.text, "UTF-8 text, tokenized as one string")->required();
  app->add_option("--window", o.window, "Tokens fed from an empty state")->check(whole_number())->capture_default_str();
  app->add_option("--windows", o.windows, "How many windows (default: all)")->check(whole_number());
  app->add_flag("--kv-compare", o.kv_compare,
                "Every type of KV cache against fp16: perplexity, KL divergence, agreement, attention time. Reads in "
                "chunks of 8 tokens unless --prefill-chunk is given: a chunk's own keys are not compressed, so long "
                "ones would hide the error")
      ->excludes("--kv");
  app->parse_complete_callback([app, &o] {
    if (o.kv_compare && app->count("--prefill-chunk") == 0) o.prefill_chunk = kKvCompareChunk;
  });
  app->footer(
      "Examples:\n  bit-axon evaluate --text book.txt --windows 64 --weights bf16 --exact\n"
      "  bit-axon evaluate --text book.txt --window 2048 --windows 4 --kv-compare");
}

// A list, or "none" for an empty one.
template <class Parse>
CLI::Validator list_or_none(Parse parse) {
  CLI::Validator list = list_of(parse);
  return CLI::Validator([list](std::string& text) { return text == "none" ? std::string() : list(text); }, "");
}

// What stands beside the model: its folder, a precision or a type of KV cache.
Status check_compare(std::string_view text) {
  if (text.starts_with("kv=")) {
    AXON_TRY(parse_kv_type(text.substr(3)));
    return Ok{};
  }
  std::error_code error;
  if (std::filesystem::is_directory(text, error) || parse_weight_format(text).ok()) return Ok{};
  return make_error(ErrorCode::kInvalidArgument,
                    "\"{}\" is no model's folder and no precision: expected a folder, a precision such as q8 or bf16, "
                    "or a type of KV cache such as kv=tq3",
                    text);
}

void add_benchmark(CLI::App& program, BenchmarkOptions& o) {
  CLI::App* app = program.add_subcommand(
      "benchmark", "Speed of reading and of writing tokens, and its share of what the machine can do");
  add_model_options(app, o, /*positional_model=*/true);
  add_list(app, "--prefill", o.prefill, "Prompts of so many tokens: a list, or none (default: 128,512,2048)")
      ->allow_extra_args(false)
      ->check(list_or_none(parse_tokens));
  app->add_option("--decode", o.decode, "Tokens written at each depth, in turns of 8")
      ->check(whole_number(1, kTokensMax))
      ->capture_default_str();
  add_list(app, "--depth", o.depth,
           "Tokens that stand before the written ones: a list, or none (default: 0,4k,16k,64k). Their keys and values "
           "are made up")
      ->allow_extra_args(false)
      ->check(list_or_none(parse_depth));
  app->add_option("--repetitions", o.repetitions, "How often all is measured, after a turn of each to warm up")
      ->check(whole_number(1, 10000))
      ->capture_default_str();
  app->add_option("--compare", o.compare,
                  "Measure another one turn by turn beside it: a model's folder, a precision (q8), or kv=TYPE (kv=tq3)")
      ->check(parsed_by(check_compare));
  app->add_option("--svg", o.svg, "Write a picture: speeds with their ceilings, and where the time goes")
      ->check(parsed_by(check_not_empty));
  app->parse_complete_callback([app, &o] {
    o.prefill_given = app->count("--prefill") > 0;
    o.depth_given = app->count("--depth") > 0;
  });
  app->footer(
      "Every share is of a ceiling measured between the turns: docs/benchmark.md.\nExamples:\n  bit-axon benchmark\n"
      "  bit-axon benchmark my-model --prefill 512 --depth 0,64k --svg speed.svg\n"
      "  bit-axon benchmark my-model --prefill none --depth 64k --compare kv=tq3");
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
  program.formatter(std::make_shared<HelpFormatter>());  // the commands take it over
  program.set_version_flag("-V,--version", "bit-axon " AXON_VERSION);
  program.require_subcommand(0, 1);
  program.footer(
      "bit-axon COMMAND --help shows a command's options.\n"
      "Exit status: 0 done, 1 error, 2 wrong usage, 3 does not fit the memory budget.\n"
      "BIT_AXON_CPU=avx2 (avx512vnni, avx512, sse4, scalar) forces a CPU level;\n"
      "BIT_AXON_MODEL names another default model.");
  RunOptions run;
  PlanOptions plan;
  QuantizeOptions quantize;
  MergeOptions merge;
  TrainOptions train;
  InitOptions init;
  InspectOptions inspect;
  EvaluateOptions evaluate;
  BenchmarkOptions benchmark;
  add_run(program, run);
  add_plan(program, plan);
  add_quantize(program, quantize);
  add_merge(program, merge);
  add_train(program, train);
  add_init(program, init);
  add_inspect(program, inspect);
  add_evaluate(program, evaluate);
  add_benchmark(program, benchmark);
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
    if (program.got_subcommand("merge")) return flushed(merge_command(merge));
    if (program.got_subcommand("train")) return flushed(train_command(train));
    if (program.got_subcommand("init")) return flushed(init_command(init));
    if (program.got_subcommand("inspect")) return flushed(inspect_command(inspect));
    if (program.got_subcommand("evaluate")) return flushed(evaluate_command(evaluate));
    if (program.got_subcommand("benchmark")) return flushed(benchmark_command(benchmark));
    fmt::print("{}", program.help());
  } catch (const std::system_error&) {
    // fmt throws when stdout takes no more; flushed() says so.
  }
  return flushed(kExitOk);
}

}  // namespace axon::cli
