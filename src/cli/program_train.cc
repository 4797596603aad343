// What can be typed after `bit-axon train`.

#include "cli/common.h"
#include "cli/program.h"
#include "cli/validators.h"
#include "train/schedule.h"

namespace axon::cli {
namespace {

void add_files(CLI::App* app, TrainOptions& o) {
  app->add_option("data", o.data,
                  "JSONL file: messages, conversations, instruction/input/output, prompt/completion or text; for orpo "
                  "prompt/chosen/rejected")
      ->required();
  app->add_option("-m,--model", o.model, "Model folder (default: the shipped bit-axon-nano)");
  app->add_option("-o,--output", o.output, "Folder for the adapter, its checkpoints, metrics.jsonl and report.html")
      ->required();
  app->add_option("--val-data", o.val_data, "JSONL file to measure on, before, at the end and every --eval-every steps")
      ->check(parsed_by(check_not_empty));
  app->add_flag("--skip-bad", o.skip_bad, "Leave malformed lines out and count them, instead of stopping at the first");
  app->add_flag("--resume", o.resume, "Go on from the last checkpoint in the output folder, to the bit");
  app->add_option("--format", o.format, "Of the adapter's files: peft or mlx")
      ->check(CLI::IsMember({"peft", "mlx"}))
      ->capture_default_str();
}

void add_adapter(CLI::App* app, TrainOptions& o) {
  const std::string group = "The adapter";
  app->add_option("--method", o.method, "sft, or orpo for pairs of answers")
      ->check(CLI::IsMember({"sft", "orpo"}))
      ->capture_default_str()
      ->group(group);
  app->add_option("--adapter", o.adapter, "lora or dora")
      ->check(CLI::IsMember({"lora", "dora"}))
      ->capture_default_str()
      ->group(group);
  app->add_option("--rank", o.rank, "Rank of the adapters")
      ->check(whole_number(1, 4096))
      ->capture_default_str()
      ->group(group);
  CLI::Option* scale = app->add_option("--scale", o.scale, "What the adapter's product is multiplied by (default: 2)")
                           ->check(real_number(1e-6, 1e6))
                           ->group(group);
  app->add_option("--alpha", o.alpha, "The same as rank times scale")
      ->check(real_number(1e-6, 1e9))
      ->excludes(scale)
      ->group(group);
  app->add_option("--dropout", o.dropout, "Of the adapters' inputs, while training")
      ->check(real_number(0, 0.99))
      ->capture_default_str()
      ->group(group);
  add_list(app, "--targets", o.targets,
           "Layers with an adapter: names such as q_proj, or ssm, attention, shared_expert, experts (the routed ones), "
           "projections, all-linear (default: all but x_proj and the routed experts)")
      ->allow_extra_args(false)
      ->check(list_of(check_not_empty))
      ->group(group);
  app->add_option("--orpo-lambda,--beta", o.orpo_lambda, "Weight of ORPO's odds ratio")
      ->check(real_number(0, 1000))
      ->capture_default_str()
      ->group(group);
}

void add_steps(CLI::App* app, TrainOptions& o) {
  const std::string group = "Steps and updates (a step is a batch, an update follows --grad-accum steps)";
  app->add_option("--batch-size", o.batch_size, "Examples of a step, with --pack rows of them; costs time, not memory")
      ->check(whole_number(1, 1u << 20))
      ->capture_default_str()
      ->group(group);
  app->add_option("--grad-accum", o.grad_accum, "Steps of an update")
      ->check(whole_number(1, 1u << 20))
      ->capture_default_str()
      ->group(group);
  app->add_option("--max-steps", o.max_steps, "Steps of the training (default: --epochs)")
      ->check(whole_number(1, std::uint64_t{1} << 40))
      ->group(group);
  app->add_option("--epochs", o.epochs, "Passes over the data, when --max-steps is not given")
      ->check(real_number(1e-6, 1e6))
      ->capture_default_str()
      ->group(group);
  app->add_option("--max-seq-len", o.max_seq_len, "Tokens of an example; longer ones lose their end, and are counted")
      ->check(whole_number(2, 1u << 24))
      ->capture_default_str()
      ->group(group);
  app->add_flag("--pack", o.pack, "Fill rows of --max-seq-len with whole examples, which do not see each other")
      ->group(group);
  app->add_flag("--mask-prompt,!--no-mask-prompt", o.mask_prompt, "Learn the answers alone (default), or all tokens")
      ->group(group);
  app->add_flag("--raw-completions", o.raw_completions, "prompt/completion as plain text, without a chat's template")
      ->group(group);
  app->add_option("--learning-rate,--lr", o.learning_rate, "The highest")
      ->check(real_number(0, 10))
      ->capture_default_str()
      ->group(group);
  app->add_option("--min-learning-rate", o.min_learning_rate, "At the end")
      ->check(real_number(0, 10))
      ->capture_default_str()
      ->group(group);
  app->add_option("--warmup", o.warmup, "Updates until the highest rate")
      ->check(whole_number(0, 1u << 30))
      ->capture_default_str()
      ->group(group);
  app->add_option("--schedule", o.schedule, "cosine, linear or constant")
      ->check(parsed_by(train::parse_decay))
      ->capture_default_str()
      ->group(group);
  app->add_option("--weight-decay", o.weight_decay, "Of AdamW")
      ->check(real_number(0, 1))
      ->capture_default_str()
      ->group(group);
  app->add_option("--max-grad-norm", o.max_grad_norm, "Longer gradients are shortened to it")
      ->check(real_number(1e-9, 1e9))
      ->capture_default_str()
      ->group(group);
  app->add_option("--seed", o.seed, "Of the order, the adapters' start and dropout")
      ->check(whole_number())
      ->capture_default_str()
      ->group(group);
}

void add_looking_up(CLI::App* app, TrainOptions& o) {
  const std::string group = "Validation and checkpoints";
  app->add_option("--eval-every", o.eval_every, "Steps between validations (default: before and at the end)")
      ->check(whole_number(1))
      ->group(group);
  app->add_option("--eval-batches", o.eval_batches, "Batches of a validation (default: all)")
      ->check(whole_number(1))
      ->group(group);
  app->add_option("--save-every", o.save_every, "Steps between checkpoints")
      ->check(whole_number(1))
      ->capture_default_str()
      ->group(group);
  app->add_option("--keep", o.keep, "Checkpoints that stay")
      ->check(whole_number(1, 1000))
      ->capture_default_str()
      ->group(group);
}

void add_memory(CLI::App* app, TrainOptions& o) {
  const std::string group = "Memory and arithmetic";
  app->add_option("--weights", o.weights, "Precision of the frozen model in memory: keep, bf16, q8, q4, ...")
      ->check(parsed_by(parse_weight_format))
      ->capture_default_str()
      ->group(group);
  app->add_option("--memory-budget", o.memory_budget,
                  "The most memory to take, e.g. 3GiB (default: what the machine can spare)")
      ->check(parsed_by(parse_size))
      ->group(group);
  app->add_option("--chunk", o.chunk, "Tokens that go through a layer at once; fewer take less memory")
      ->check(whole_number(16, 65536))
      ->capture_default_str()
      ->group(group);
  app->add_option("--threads", o.threads, "Threads (default: all usable processors)")
      ->check(whole_number(1, 1024))
      ->group(group);
  app->add_flag("--exact", o.exact, "float32 arithmetic, also where the processor has bf16")->group(group);
  app->add_flag("--compat", o.compat,
                "As the Python original trains, for comparison: its masks, packing, schedule and losses")
      ->group(group);
}

void add_thermal(CLI::App* app, TrainOptions& o) {
  const std::string group = "Heat (docs/thermal.md)";
  app->add_option("--max-speed-temp", o.limits.max_speed_c, "Celsius from which half of the rank learns")
      ->check(real_number(1, 150))
      ->capture_default_str()
      ->group(group);
  app->add_option("--pause-temp", o.limits.pause_c, "Celsius from which steps wait")
      ->check(real_number(1, 150))
      ->capture_default_str()
      ->group(group);
  app->add_option("--stop-temp", o.limits.stop_c,
                  "Celsius at which training stops, behind a checkpoint, until it is cool")
      ->check(real_number(1, 150))
      ->capture_default_str()
      ->group(group);
  app->add_option("--resume-temp", o.limits.resume_c, "Celsius below which it goes on by itself")
      ->check(real_number(1, 150))
      ->capture_default_str()
      ->group(group);
  app->add_option("--pause-seconds", o.limits.pause_s, "Of one pause")
      ->check(real_number(0.001, 60))
      ->capture_default_str()
      ->group(group);
  app->add_option_function<std::string>(
         "--on-battery",
         [&o](const std::string& text) {
           o.limits.on_battery = text == "slow"   ? OnBattery::kSlow
                                 : text == "stop" ? OnBattery::kStop
                                                  : OnBattery::kIgnore;
         },
         "ignore, slow or stop without mains (default: ignore)")
      ->check(CLI::IsMember({"ignore", "slow", "stop"}))
      ->group(group);
  app->add_option("--thermal-trace", o.thermal_trace, "A file of seconds and degrees in place of a sensor")
      ->check(parsed_by(check_not_empty))
      ->group(group);
  app->add_flag("--no-thermal", o.no_thermal, "Watch no temperature")->group(group);
}

}  // namespace

void add_train(CLI::App& program, TrainOptions& o) {
  CLI::App* app =
      program.add_subcommand("train", "Fine-tune a model with an adapter (LoRA, DoRA; SFT, ORPO) in planned memory");
  add_files(app, o);
  add_adapter(app, o);
  add_steps(app, o);
  add_looking_up(app, o);
  add_memory(app, o);
  add_thermal(app, o);
  app->add_flag("--json", o.json, "Print one JSON object at the end");
  app->footer(
      "Ctrl-C ends behind a checkpoint; --resume goes on.\nExamples:\n  bit-axon train chats.jsonl -o my-adapter "
      "--val-data val.jsonl\n"
      "  bit-axon train chats.jsonl -m ./3b-q4 -o my-adapter --rank 16 --max-seq-len 2048 --memory-budget 3GiB\n"
      "  bit-axon train pairs.jsonl -o preferred --method orpo --adapter dora --epochs 2\n"
      "  bit-axon run --adapter my-adapter \"Hello!\"\n"
      "  mpirun -n 2 bit-axon train chats.jsonl -o my-adapter --threads 4\n"
      "bit-axon plan --train shows the memory beforehand.");
}

}  // namespace axon::cli
