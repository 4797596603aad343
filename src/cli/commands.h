#pragma once
// The program's commands. Each turns typed options into calls and results into text, and gives an exit status.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thermal/policy.h"

namespace axon::cli {

inline constexpr int kExitOk = 0, kExitError = 1, kExitUsage = 2, kExitDoesNotFit = 3;

// Options that several commands share.
struct ModelOptions {
  std::string model;  // empty: the shipped one
  std::string weights = "keep";
  std::string memory_budget;     // empty: what the machine can spare
  std::size_t context = 0;       // 0: the model's max_seq_len
  std::string attention_window;  // "": as the model was made; "all", or a number of tokens
  std::size_t prefill_chunk = 256;
  std::size_t threads = 0;  // 0: all usable processors
  bool exact = false;
  std::string kv;                       // a KvType; empty: fp16, or fp32 with --exact
  std::string adapter;                  // folder or file; empty: none
  std::optional<double> adapter_scale;  // instead of what its files say
  bool json = false;
};

struct RunOptions : ModelOptions {
  std::string prompt;
  bool prompt_given = false;
  bool chat = false;
  std::size_t max_tokens = 512;
  double temperature = 0.6, top_p = 0.95, min_p = 0.0, repetition_penalty = 1.0;
  std::size_t top_k = 50;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;
  std::string system;
  std::string state;  // file to go on from and to leave the conversation in; empty: none
  bool raw = false;
  bool no_stream = false;
};
int run_command(const RunOptions& options);

struct PlanOptions {
  std::string target;                                        // empty: the shipped model
  std::vector<std::string> context, weights = {"keep"}, kv;  // kv: as PlanQuery's
  std::string attention_window;                              // "", "all" or a number of tokens
  std::size_t prefill_chunk = 256, threads = 0, max_tokens = 512;
  bool exact = false;
  std::string adapter;
  std::optional<double> adapter_scale;
  std::string memory_budget, machine, ram, reserve;
  bool train = false;
  std::string method = "sft", max_seq_len = "2048", optimizer = "adamw";
  std::uint64_t rank = 16, batch_size = 1, grad_accum = 4, chunk = 512;
  double scale = 2.0, dropout = 0.0;
  std::vector<std::string> targets;  // empty: the default ones
  bool pack = false, compat = false, no_checkpointing = false;
  std::string data, val_data;
  std::vector<std::string> solve;
  std::string explain, html, page;
  bool fallback = false;
  std::uint64_t layers = 0, hidden_size = 0;
  bool list = false;
  bool json = false;
};
// --train, or --solve train.
bool trains(const PlanOptions& options);
int plan_command(const PlanOptions& options);

struct QuantizeOptions {
  std::string model, output, memory_budget;
  int bits = 4, group_size = 64;
  std::size_t threads = 0;
  bool no_fold_rotation = false;
  bool json = false;
};
int quantize_command(const QuantizeOptions& options);

struct MergeOptions {
  std::string model, adapter, output, weights = "keep", memory_budget;
  std::optional<double> adapter_scale;
  std::size_t threads = 0;
  bool no_fold_rotation = false;
  bool json = false;
};
int merge_command(const MergeOptions& options);

struct InitOptions {
  std::string preset = "nano", weights = "bf16", output, tokenizer, memory_budget;
  std::vector<std::string> set;
  std::uint64_t seed = 0;
  std::size_t threads = 0;
  bool json = false;
};
int init_command(const InitOptions& options);

struct InspectOptions {
  std::string model;
  bool tensors = false;
  bool json = false;
};
int inspect_command(const InspectOptions& options);

inline constexpr std::size_t kKvCompareChunk = 8;  // as many as are coded at once
struct EvaluateOptions : ModelOptions {
  std::string text;
  std::size_t window = 1024;
  std::size_t windows = 0;
  bool kv_compare = false;  // every KV type against fp16; then kv is empty
};
int evaluate_command(const EvaluateOptions& options);

struct BenchmarkOptions : ModelOptions {
  // Tokens each, or "none" alone. What was not typed and is too long for the model is left out.
  std::vector<std::string> prefill = {"128", "512", "2048"}, depth = {"0", "4k", "16k", "64k"};
  bool prefill_given = false, depth_given = false;
  std::size_t decode = 64, repetitions = 5;
  std::string compare;  // a model's folder, a precision or kv=TYPE; empty: none
  std::string svg;
};
int benchmark_command(const BenchmarkOptions& options);

struct TrainOptions {
  std::string data, val_data, model, output;
  std::string method = "sft", adapter = "lora", format = "peft";
  std::size_t rank = 16;
  std::optional<double> scale, alpha;
  double dropout = 0;
  std::vector<std::string> targets;
  double learning_rate = 2e-4, min_learning_rate = 0, weight_decay = 0.01, max_grad_norm = 1, orpo_lambda = 0.1;
  std::uint64_t warmup = 10;
  std::string schedule = "cosine";
  std::uint64_t max_steps = 0;
  double epochs = 1;
  std::size_t batch_size = 1, grad_accum = 4, max_seq_len = 2048, chunk = 512;
  bool pack = false, mask_prompt = true, raw_completions = false, skip_bad = false;
  std::uint64_t eval_every = 0, eval_batches = 0, save_every = 100, keep = 3, seed = 42;
  bool resume = false, compat = false, exact = false;
  std::string weights = "keep", memory_budget;
  std::size_t threads = 0;
  bool no_thermal = false;
  ThermalLimits limits;
  std::string thermal_trace;
  bool json = false;
};
int train_command(const TrainOptions& options);

// Parses the command line and runs the command. The exit status.
int run_program(int argc, char** argv);

}  // namespace axon::cli
