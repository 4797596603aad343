#pragma once
// The program's commands. Each turns typed options into calls and results into text, and gives an exit status.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace axon::cli {

inline constexpr int kExitOk = 0, kExitError = 1, kExitUsage = 2, kExitDoesNotFit = 3;

// Options that several commands share.
struct ModelOptions {
  std::string model;  // empty: the shipped one
  std::string weights = "keep";
  std::string memory_budget;  // empty: what the machine can spare
  std::size_t context = 0;    // 0: the model's max_seq_len
  std::size_t prefill_chunk = 256;
  std::size_t threads = 0;  // 0: all usable processors
  bool exact = false;
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
  bool raw = false;
  bool no_stream = false;
};
int run_command(const RunOptions& options);

struct PlanOptions : ModelOptions {
  std::size_t max_tokens = 512;
};
int plan_command(const PlanOptions& options);

struct QuantizeOptions {
  std::string model, output, memory_budget;
  int bits = 4, group_size = 64;
  std::size_t threads = 0;
  bool json = false;
};
int quantize_command(const QuantizeOptions& options);

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

struct EvaluateOptions : ModelOptions {
  std::string text;
  std::size_t window = 1024;
  std::size_t windows = 0;
};
int evaluate_command(const EvaluateOptions& options);

// Parses the command line and runs the command. The exit status.
int run_program(int argc, char** argv);

}  // namespace axon::cli
