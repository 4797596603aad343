#include "generate/benchmark.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "generate/made_up_past.h"
#include "kernels/cpu/ceilings.h"
#include "memory/no_allocation.h"

namespace axon {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<Ceiling, kCeilings> kAllCeilings = {Ceiling::kRead, Ceiling::kInt8, Ceiling::kBf16,
                                                         Ceiling::kFp32};
constexpr std::chrono::milliseconds kSlice(12);  // of a probe
// Work between two probes of a long prompt: short beside the minutes in which a machine changes its speed.
constexpr double kProbeEvery = 0.5;
// Decoding a token takes some ten times as long as reading one: a guess, until the warm-up has told.
constexpr double kDecodeCost = 10;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::uint64_t operations_of(const cpu::DeviceWork& work, Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::kRead: return 0;
    case Ceiling::kInt8: return work.int8_ops;
    case Ceiling::kBf16: return work.bf16_flops;
    case Ceiling::kFp32: return work.fp32_flops;
  }
  return 0;
}

double quantile_of_sorted(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const double above = sorted[std::min(below + 1, sorted.size() - 1)];
  return sorted[below] + (at - static_cast<double>(below)) * (above - sorted[below]);
}

std::size_t longest_turn(std::span<const BenchmarkCase> cases) {
  std::size_t longest = kTurnSteps;
  for (const BenchmarkCase& what : cases) {
    if (what.kind == BenchmarkCase::kPrefill) longest = std::max(longest, what.tokens);
  }
  return longest;
}

std::optional<double> ratio(std::optional<double> a, double b) {
  if (!a || !(*a > 0) || !(b > 0)) return std::nullopt;
  return *a / b;
}

// Which ceilings a case is held against.
class Wanted {
 public:
  void add(Ceiling c) { wanted_[static_cast<std::size_t>(c)] = true; }
  bool has(Ceiling c) const { return wanted_[static_cast<std::size_t>(c)]; }
  static Wanted by(const BenchmarkCase& what, const cpu::DeviceWork& work) {
    Wanted out;
    for (const Ceiling c : kAllCeilings) {
      const bool reads = c == Ceiling::kRead;
      if (what.kind == BenchmarkCase::kDecode ? reads : operations_of(work, c) > 0) out.add(c);
    }
    return out;
  }

 private:
  std::array<bool, kCeilings> wanted_{};
};

// Slices of the ceilings; the rates since begin() belong to the turn that runs.
class Probes {
 public:
  Probes(cpu::ThreadPool& pool, std::span<const std::byte> memory) : probe_(pool, memory), memory_(memory.size()) {
    const auto ways = probe_.choose_read(kSlice / 2, 5);
    way_ = ways[probe_.chosen_read()].name;
  }

  void begin() {
    now_ = {};
    slices_ = 0;
  }
  void take(const Wanted& wanted) {
    for (const Ceiling c : kAllCeilings) {
      if (!wanted.has(c)) continue;
      const double rate = measure(c);
      now_.of(c) += rate;
      if (rate > 0) rates_[static_cast<std::size_t>(c)].push_back(rate);
    }
    ++slices_;
  }
  CeilingRates mean() const {
    CeilingRates out = now_;
    for (const Ceiling c : kAllCeilings) out.of(c) /= static_cast<double>(std::max<std::size_t>(slices_, 1));
    return out;
  }
  void finish(BenchmarkResult& result) const {
    for (std::size_t i = 0; i < kCeilings; ++i) result.ceilings[i] = spread_of(rates_[i]);
    result.read_way = way_;
    result.read_memory = {memory_};
  }

 private:
  double measure(Ceiling c) {
    switch (c) {
      case Ceiling::kRead: return probe_.read(kSlice).per_second();
      case Ceiling::kInt8: return probe_.int8(kSlice).per_second();
      case Ceiling::kBf16: return probe_.bf16(kSlice).per_second();
      case Ceiling::kFp32: return probe_.fp32(kSlice).per_second();
    }
    return 0;
  }
  cpu::CeilingProbe probe_;
  std::size_t memory_;
  std::string_view way_;
  CeilingRates now_;  // sums
  std::size_t slices_ = 0;
  std::array<std::vector<double>, kCeilings> rates_;
};

// The engine with the longest block of weights: the less of it a cache can hold, the truer the ceiling.
Engine& largest_of(std::span<const BenchmarkSubject> subjects) {
  return *std::max_element(subjects.begin(), subjects.end(), [](const auto& a, const auto& b) {
            return a.engine->model().largest_block().size() < b.engine->model().largest_block().size();
          })->engine;
}

class Runner {
 public:
  Runner(std::span<const BenchmarkSubject> subjects, std::span<const BenchmarkCase> cases, std::size_t repetitions,
         const BenchmarkProgress& progress, Probes& probes)
      : subjects_(subjects), cases_(cases), repetitions_(repetitions), progress_(progress), probes_(probes) {
    ids_.resize(longest_turn(cases));
    vocab_ = subjects[0].engine->model().config().vocab_size;
    for (const BenchmarkSubject& s : subjects) vocab_ = std::min(vocab_, s.engine->model().config().vocab_size);
    for (std::size_t s = 0; s < subjects.size(); ++s) {
      std::vector<BenchmarkCaseResult>& results = result_.subjects.emplace_back();
      for (const BenchmarkCase& what : cases) {
        results.push_back({what, {}});
        results.back().turns.reserve(repetitions * what.turns());
      }
      wanted_.emplace_back(cases.size());
      expected_.emplace_back();
      for (const BenchmarkCase& what : cases) {
        const double tokens = static_cast<double>(what.tokens) / static_cast<double>(what.turns());
        expected_.back().push_back(tokens * (what.kind == BenchmarkCase::kDecode ? kDecodeCost : 1));
      }
    }
  }

  Result<BenchmarkResult> run() {
    AXON_TRY(warm_up());
    Wanted all;
    for (const Ceiling c : kAllCeilings) all.add(c);
    for (std::size_t repetition = 0; repetition < repetitions_; ++repetition) {
      probes_.take(all);
      for (std::size_t c = 0; c < cases_.size(); ++c) AXON_TRY(repeat(c));
    }
    probes_.finish(result_);
    return std::move(result_);
  }

 private:
  // A turn of each, without probes: caches fill, and what it did says which ceilings matter and how long all will take.
  Status warm_up() {
    std::vector<std::vector<double>> seconds(subjects_.size());
    for (std::size_t c = 0; c < cases_.size(); ++c) {
      now_ = c;
      for (std::size_t s = 0; s < subjects_.size(); ++s) {
        stand(s, cases_[c]);
        const BenchmarkTurn turn = AXON_TRY(take_turn(s, c, 0, Wanted()));
        wanted_[s][c] = Wanted::by(cases_[c], turn.work);
        seconds[s].push_back(turn.seconds);
        done_ += expected_[s][c];
      }
    }
    expected_ = std::move(seconds);
    done_ = 0;
    for (const auto& of_subject : expected_) done_ += std::accumulate(of_subject.begin(), of_subject.end(), 0.0);
    return Ok{};
  }

  Status repeat(std::size_t c) {
    now_ = c;
    for (std::size_t s = 0; s < subjects_.size(); ++s) stand(s, cases_[c]);
    for (std::size_t i = 0; i < cases_[c].turns(); ++i) {
      ++texts_;
      for (std::size_t s = 0; s < subjects_.size(); ++s) {
        result_.subjects[s][c].turns.push_back(AXON_TRY(take_turn(s, c, i, wanted_[s][c])));
        done_ += expected_[s][c];
      }
    }
    return Ok{};
  }

  void stand(std::size_t s, const BenchmarkCase& what) {
    if (what.kind == BenchmarkCase::kDecode) {
      make_up_past(subjects_[s].get().state(), what.start, subjects_[s].engine->device().pool());
    }
  }

  Result<BenchmarkTurn> take_turn(std::size_t s, std::size_t c, std::size_t index, const Wanted& wanted) {
    AXON_TRY(go_on());
    const BenchmarkCase& what = cases_[c];
    const bool decodes = what.kind == BenchmarkCase::kDecode;
    BenchmarkTurn turn;
    turn.tokens = decodes ? std::min(kTurnSteps, what.tokens - index * kTurnSteps) : what.tokens;
    const CounterRng rng(/*seed=*/c, /*stream=*/texts_);
    for (std::size_t i = 0; i < turn.tokens; ++i) ids_[i] = static_cast<std::uint32_t>(rng.bits(i) % vocab_);
    const std::span<const std::uint32_t> ids = std::span(ids_).first(turn.tokens);
    cpu::CpuDevice& device = subjects_[s].engine->device();
    if (!decodes) subjects_[s].get().reset();
    probes_.begin();
    probes_.take(wanted);
    device.reset_work();
    turn.seconds = decodes ? decode(subjects_[s].get(), ids) : AXON_TRY(prefill(subjects_[s].get(), ids, wanted));
    turn.work = device.work();
    probes_.take(wanted);
    turn.ceilings = probes_.mean();
    return turn;
  }

  static double decode(Session& session, std::span<const std::uint32_t> ids) {
    const NoAllocation sealed;
    const Clock::time_point start = Clock::now();
    for (const std::uint32_t id : ids) {
      session.step(id);
      session.logits();
    }
    return seconds_since(start);
  }

  // All passes of a prompt, and the logits after its last token.
  Result<double> prefill(Session& session, std::span<const std::uint32_t> ids, const Wanted& wanted) {
    double seconds = 0, probed = 0;
    Clock::time_point start = Clock::now();
    AXON_TRY(session.prefill(ids, [&](std::size_t read, std::size_t total) {
      seconds += seconds_since(start);
      if (read < total && seconds - probed >= kProbeEvery) {
        probes_.take(wanted);
        probed = seconds;
      }
      const bool on = go_on().ok();
      start = Clock::now();
      return on;
    }));
    session.logits();
    return seconds + seconds_since(start);
  }

  Status go_on() {
    if (!progress_) return Ok{};
    double all = 0;
    for (std::size_t s = 0; s < subjects_.size(); ++s) {
      for (std::size_t c = 0; c < cases_.size(); ++c) {
        all += expected_[s][c] * static_cast<double>(1 + repetitions_ * cases_[c].turns());
      }
    }
    if (progress_(std::min(1.0, all > 0 ? done_ / all : 0.0), cases_[now_])) return Ok{};
    return Error{ErrorCode::kCancelled, "interrupted while measuring"};
  }

  const std::span<const BenchmarkSubject> subjects_;
  const std::span<const BenchmarkCase> cases_;
  const std::size_t repetitions_;
  const BenchmarkProgress& progress_;
  Probes& probes_;
  BenchmarkResult result_;
  std::vector<std::uint32_t> ids_;  // of a turn
  std::size_t vocab_ = 0;
  std::vector<std::vector<Wanted>> wanted_;    // [subject][case]
  std::vector<std::vector<double>> expected_;  // [subject][case] of a turn: seconds, before the warm-up any unit
  std::uint64_t texts_ = 0;                    // all subjects read the same ones
  double done_ = 0;
  std::size_t now_ = 0;  // case
};

}  // namespace

std::string_view name_of(Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::kRead: return "read";
    case Ceiling::kInt8: return "int8";
    case Ceiling::kBf16: return "bf16";
    case Ceiling::kFp32: return "fp32";
  }
  return "";
}

Spread spread_of(std::vector<double> numbers) {
  if (numbers.empty()) return {};
  std::sort(numbers.begin(), numbers.end());
  return {.count = numbers.size(),
          .min = numbers.front(),
          .lower_quartile = quantile_of_sorted(numbers, 0.25),
          .median = quantile_of_sorted(numbers, 0.5),
          .upper_quartile = quantile_of_sorted(numbers, 0.75),
          .max = numbers.back()};
}

std::size_t BenchmarkCase::turns() const { return kind == kDecode ? (tokens + kTurnSteps - 1) / kTurnSteps : 1; }

std::string BenchmarkCase::name() const {
  return kind == kPrefill ? fmt::format("prefill {}", tokens) : fmt::format("decode at {}", depth);
}

std::vector<std::size_t> leave_out_longer(std::vector<std::size_t>& lengths, std::size_t max_seq_len) {
  const auto longer =
      std::stable_partition(lengths.begin(), lengths.end(), [&](std::size_t n) { return n <= max_seq_len; });
  std::vector<std::size_t> out(longer, lengths.end());
  lengths.erase(longer, lengths.end());
  return out;
}

Result<std::vector<BenchmarkCase>> benchmark_cases(const BenchmarkLists& lists, std::size_t max_seq_len) {
  const auto check = [&](const char* option, std::size_t tokens) -> Status {
    if (tokens <= max_seq_len) return Ok{};
    return make_error(ErrorCode::kInvalidArgument, "{} {} is more than the model's max_seq_len {}", option, tokens,
                      max_seq_len);
  };
  std::vector<BenchmarkCase> cases;
  for (const std::size_t tokens : lists.prefill) {
    AXON_TRY(check("--prefill", tokens));
    cases.push_back({.kind = BenchmarkCase::kPrefill, .tokens = tokens});
  }
  if (!lists.depth.empty()) AXON_TRY(check("--decode", lists.decode));
  for (const std::size_t depth : lists.depth) {
    AXON_TRY(check("--depth", depth));
    cases.push_back({.kind = BenchmarkCase::kDecode,
                     .tokens = lists.decode,
                     .depth = depth,
                     .start = std::min(depth, max_seq_len - lists.decode)});
  }
  return cases;
}

std::size_t context_of(std::span<const BenchmarkCase> cases) {
  std::size_t longest = 1;
  for (const BenchmarkCase& what : cases) longest = std::max(longest, what.context());
  return longest;
}

std::optional<double> BenchmarkTurn::ideal_seconds() const {
  double sum = 0;
  for (const Ceiling c : kAllCeilings) {
    const auto operations = static_cast<double>(operations_of(work, c));
    if (operations == 0) continue;
    if (!(ceilings.of(c) > 0)) return std::nullopt;
    sum += operations / ceilings.of(c);
  }
  return sum > 0 ? std::optional(sum) : std::nullopt;
}

std::optional<double> BenchmarkTurn::matmul_share() const {
  return ratio(ideal_seconds(), work.of(cpu::Verb::kMatmul));
}
std::optional<double> BenchmarkTurn::compute_share() const { return ratio(ideal_seconds(), seconds); }
std::optional<double> BenchmarkTurn::weights_share() const {
  return ratio(static_cast<double>(work.weight_bytes), seconds * ceilings.of(Ceiling::kRead));
}
std::optional<double> BenchmarkTurn::bytes_share() const {
  return ratio(static_cast<double>(all_bytes()), seconds * ceilings.of(Ceiling::kRead));
}

Spread BenchmarkCaseResult::spread(const std::function<std::optional<double>(const BenchmarkTurn&)>& number) const {
  std::vector<double> numbers;
  for (const BenchmarkTurn& turn : turns) {
    if (const std::optional<double> found = number(turn)) numbers.push_back(*found);
  }
  return spread_of(std::move(numbers));
}

BenchmarkTurn BenchmarkCaseResult::sum() const {
  BenchmarkTurn out;
  for (const BenchmarkTurn& turn : turns) {
    out.tokens += turn.tokens;
    out.seconds += turn.seconds;
    out.work += turn.work;
  }
  return out;
}

double BenchmarkCaseResult::units() const {
  return what.kind == BenchmarkCase::kPrefill ? static_cast<double>(turns.size()) : static_cast<double>(sum().tokens);
}

double BenchmarkCaseResult::seconds_outside() const {
  const BenchmarkTurn all = sum();
  return std::max(0.0, all.seconds - all.work.total()) / units();
}

Spread paired_ratio(const BenchmarkCaseResult& first, const BenchmarkCaseResult& second) {
  AXON_CHECK(first.turns.size() == second.turns.size());
  std::vector<double> ratios;
  for (std::size_t i = 0; i < first.turns.size(); ++i) {
    ratios.push_back(first.turns[i].tokens_per_second() / second.turns[i].tokens_per_second());
  }
  return spread_of(std::move(ratios));
}

Bytes benchmark_bytes(std::span<const BenchmarkCase> cases, std::size_t subjects, std::size_t repetitions) {
  std::size_t turns = 0;
  for (const BenchmarkCase& what : cases) turns += repetitions * what.turns();
  // A turn's record, and the rates of at most a slice of each ceiling before and after it. What long prompts add within
  // is a number in half a second.
  const std::size_t record = sizeof(BenchmarkTurn) + 2 * kCeilings * sizeof(double);
  return {longest_turn(cases) * sizeof(std::uint32_t) + subjects * turns * record};
}

Result<BenchmarkResult> run_benchmark(std::span<const BenchmarkSubject> subjects, std::span<const BenchmarkCase> cases,
                                      std::size_t repetitions, const BenchmarkProgress& progress) {
  AXON_CHECK(!subjects.empty() && repetitions > 0);
  for (const BenchmarkSubject& subject : subjects) {
    AXON_CHECK(subject.get().options().context >= context_of(cases));
  }
  Engine& largest = largest_of(subjects);
  cpu::ThreadPool& pool = largest.device().pool();
  const std::span<const std::byte> memory = largest.model().largest_block();
  if (memory.size() < pool.size() * cpu::CeilingProbe::kReadStep) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the model's largest stretch of weights has {} bytes, but {} threads need {} to measure reading",
                      memory.size(), pool.size(), pool.size() * cpu::CeilingProbe::kReadStep);
  }
  Probes probes(pool, memory);
  return Runner(subjects, cases, repetitions, progress, probes).run();
}

}  // namespace axon
