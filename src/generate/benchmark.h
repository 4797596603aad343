#pragma once
// How fast a model reads prompts and writes tokens, and how near that comes to what the machine can do in the same
// minute: turns of work between probes of the machine's ceilings, of one model or of two that take turns. Measures and
// reckons; prints nothing.

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/engine.h"

namespace axon {

// What the machine can do at most (kernels/cpu/ceilings.h): bytes read, operations done.
enum class Ceiling { kRead, kInt8, kBf16, kFp32 };
inline constexpr std::size_t kCeilings = 4;
std::string_view name_of(Ceiling ceiling);  // "read", "int8", "bf16", "fp32"

// A second; 0: not measured, or this processor has no such instruction.
class CeilingRates {
 public:
  double& of(Ceiling c) { return rates_[static_cast<std::size_t>(c)]; }
  double of(Ceiling c) const { return rates_[static_cast<std::size_t>(c)]; }

 private:
  std::array<double, kCeilings> rates_{};
};

// Numbers in order of size, at places that say how far they lie apart.
struct Spread {
  std::size_t count = 0;
  double min = 0, lower_quartile = 0, median = 0, upper_quartile = 0, max = 0;
};
// Quantiles lie between neighbours where no number stands at their place. All 0 of none.
Spread spread_of(std::vector<double> numbers);

// What is measured: a prompt read from the empty state, or tokens decoded one by one behind others.
struct BenchmarkCase {
  enum Kind { kPrefill, kDecode } kind = kPrefill;
  std::size_t tokens = 0;  // of the prompt, or decoded in a repetition
  std::size_t depth = 0;   // decode: tokens before the first one, as asked
  std::size_t start = 0;   // decode: those that there are. Fewer when the last token would pass the model's maximum

  std::size_t context() const { return start + tokens; }
  std::size_t turns() const;  // a repetition
  std::string name() const;   // "prefill 512", "decode at 4096"
};
inline constexpr std::size_t kTurnSteps = 8;  // tokens decoded between two probes

struct BenchmarkLists {
  std::vector<std::size_t> prefill, depth;
  std::size_t decode = 64;
};
// Takes what no sequence of `max_seq_len` tokens can have out of a list, and gives it back.
std::vector<std::size_t> leave_out_longer(std::vector<std::size_t>& lengths, std::size_t max_seq_len);
// kInvalidArgument with option, number and maximum for what is too long.
Result<std::vector<BenchmarkCase>> benchmark_cases(const BenchmarkLists& lists, std::size_t max_seq_len);
// The context that the longest of them needs.
std::size_t context_of(std::span<const BenchmarkCase> cases);

// A short piece of work between two probes.
struct BenchmarkTurn {
  std::size_t tokens = 0;
  double seconds = 0;       // without the probes
  cpu::DeviceWork work{};   // of this turn
  CeilingRates ceilings{};  // of the probes before, after and, in long prompts, within it: those that the case wants

  double tokens_per_second() const { return static_cast<double>(tokens) / seconds; }
  std::uint64_t operations() const { return work.int8_ops + work.bf16_flops + work.fp32_flops; }
  std::uint64_t all_bytes() const { return work.weight_bytes + work.kv_bytes + work.state_bytes; }
  // The time that the ceilings would need for the operations of each kind; none where one of them was not measured.
  std::optional<double> ideal_seconds() const;
  // Shares of the ceilings: of computing, over the products alone and over all of the time; of reading, the weights
  // alone and with keys, values and states.
  std::optional<double> matmul_share() const, compute_share() const;
  std::optional<double> weights_share() const, bytes_share() const;
};

struct BenchmarkCaseResult {
  BenchmarkCase what;
  std::vector<BenchmarkTurn> turns;  // of all repetitions, in order

  Spread spread(const std::function<std::optional<double>(const BenchmarkTurn&)>& number) const;
  BenchmarkTurn sum() const;  // of tokens, seconds and work
  // Of what is divided among the parts: a prompt, or a token.
  double units() const;
  // Seconds of a unit in each verb, and outside of them.
  double seconds_of(cpu::Verb verb) const { return sum().work.of(verb) / units(); }
  double seconds_outside() const;
};

// Of two that took turns: how often the first is as fast as the second, turn by turn.
Spread paired_ratio(const BenchmarkCaseResult& first, const BenchmarkCaseResult& second);

struct BenchmarkResult {
  std::array<Spread, kCeilings> ceilings;                  // of every probe, in the order of Ceiling
  std::string_view read_way;                               // how the memory was read fastest
  Bytes read_memory;                                       // what was read over and over: weights
  std::vector<std::vector<BenchmarkCaseResult>> subjects;  // the cases of each subject
};

// What takes turns: a session of an engine. Two may share an engine.
struct BenchmarkSubject {
  Engine* engine = nullptr;
  std::size_t session = 0;
  Session& get() const { return engine->session(session); }
};

// What run_benchmark takes from the heap.
Bytes benchmark_bytes(std::span<const BenchmarkCase> cases, std::size_t subjects, std::size_t repetitions);

// `done` of 1, by expected time; false stops (kCancelled), between turns or passes of a prompt.
using BenchmarkProgress = std::function<bool(double done, const BenchmarkCase& now)>;

// Warms up with a turn of each case, then goes through all cases `repetitions` times, each turn with all subjects one
// after the other. Sessions have room for the longest case. kInvalidArgument when the weights are too few to be read
// by every thread.
Result<BenchmarkResult> run_benchmark(std::span<const BenchmarkSubject> subjects, std::span<const BenchmarkCase> cases,
                                      std::size_t repetitions, const BenchmarkProgress& progress = {});

}  // namespace axon
