#include "plan/training_plan.h"

#include <algorithm>
#include <bit>

namespace axon {
namespace {

// Below these, a training gains nothing worth having.
constexpr std::uint64_t kSequenceLeast = 256, kChunkLeast = 128;
constexpr std::size_t kLargestNamed = 3;

std::string typed(const TrainingChange& change) {
  std::string out;
  if (change.max_seq_len) out += fmt::format(" --max-seq-len {}", *change.max_seq_len);
  if (change.chunk) out += fmt::format(" --chunk {}", *change.chunk);
  if (change.rank) out += fmt::format(" --rank {}", *change.rank);
  if (change.adapter) out += fmt::format(" --adapter {}", *change.adapter == AdapterKind::kLora ? "lora" : "dora");
  if (change.target) out += fmt::format(" --targets {}", *change.target);
  if (change.weights) out += fmt::format(" --weights {}", *change.weights);
  return out.substr(out.empty() ? 0 : 1);
}

// Powers of two below `from`, falling.
std::vector<std::uint64_t> halved(std::uint64_t from, std::uint64_t least) {
  std::vector<std::uint64_t> out;
  if (from < 2) return out;
  for (std::uint64_t n = std::bit_floor(from - 1); n >= least && n > 0; n /= 2) out.push_back(n);
  return out;
}

// Each option with its other values, the nearest first.
class Ladders {
 public:
  explicit Ladders(const train::TrainSettings& s) {
    add(&TrainingChange::max_seq_len, halved(s.max_seq_len, kSequenceLeast));
    add(&TrainingChange::chunk, halved(s.chunk, kChunkLeast));
    add(&TrainingChange::rank, halved(s.rank, 1));
    if (s.adapter == AdapterKind::kDora) add(&TrainingChange::adapter, std::vector{AdapterKind::kLora});
    add(&TrainingChange::target, std::vector<std::string>{"attention"});
    add(&TrainingChange::weights, std::vector<std::string>{"q4"});
  }
  using Set = std::function<void(TrainingChange&)>;
  std::size_t count() const { return rungs_.size(); }
  const std::vector<Set>& rungs(std::size_t option) const { return rungs_[option]; }

 private:
  template <class T>
  void add(std::optional<T> TrainingChange::*option, const std::vector<T>& values) {
    std::vector<Set>& rungs = rungs_.emplace_back();
    for (const T& value : values)
      rungs.emplace_back([option, value](TrainingChange& change) { change.*option = value; });
  }
  std::vector<std::vector<Set>> rungs_;
};

class TrainingSuggester {
 public:
  TrainingSuggester(const std::function<Result<Bytes>(const TrainingChange&)>& total,
                    const train::TrainSettings& settings, Bytes limit)
      : total_(total), ladders_(settings), limit_(limit), chosen_(ladders_.count(), kNone) {}

  Result<TrainingSuggestions> search() {
    TrainingSuggestions out;
    const Bytes today = AXON_TRY(total_({}));
    for (std::size_t option = 0; option < ladders_.count(); ++option) {
      if (const auto found = first_fitting(option)) out.fitting.push_back(*found);
      chosen_[option] = kNone;
    }
    if (!out.fitting.empty()) return out;
    if (descend(today)) {
      relax();
      out.fitting.push_back(suggestion());
    } else {
      out.smallest = suggestion();
    }
    return out;
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  TrainingChange change() const {
    TrainingChange out;
    for (std::size_t option = 0; option < chosen_.size(); ++option) {
      if (chosen_[option] != kNone) ladders_.rungs(option)[chosen_[option]](out);
    }
    return out;
  }
  std::optional<Bytes> total() const {
    Result<Bytes> bytes = total_(change());
    return bytes.ok() ? std::optional(bytes.value()) : std::nullopt;
  }
  bool fits() const {
    const auto bytes = total();
    return bytes && *bytes <= limit_;
  }
  Suggestion suggestion() const { return {typed(change()), total().value()}; }

  // Leaves the option at the first rung that fits.
  std::optional<Suggestion> first_fitting(std::size_t option) {
    for (std::size_t rung = 0; rung < ladders_.rungs(option).size(); ++rung) {
      chosen_[option] = rung;
      if (fits()) return suggestion();
    }
    chosen_[option] = kNone;
    return std::nullopt;
  }

  // One option after the other to where it takes least, until it fits.
  bool descend(Bytes least) {
    for (std::size_t option = 0; option < ladders_.count(); ++option) {
      if (first_fitting(option)) return true;
      std::size_t best = kNone;
      for (std::size_t rung = 0; rung < ladders_.rungs(option).size(); ++rung) {
        chosen_[option] = rung;
        const auto bytes = total();
        if (!bytes || *bytes >= least) continue;
        least = *bytes;
        best = rung;
      }
      chosen_[option] = best;
    }
    return false;
  }

  // What fits with less given up, the first option first: as it was, or a rung nearer to that.
  void relax() {
    for (std::size_t& chosen : chosen_) {
      if (chosen == kNone) continue;
      chosen = kNone;
      for (std::size_t rung = 0; !fits(); ++rung) chosen = rung;  // at the latest where it was
    }
  }

  const std::function<Result<Bytes>(const TrainingChange&)>& total_;
  const Ladders ladders_;
  const Bytes limit_;
  std::vector<std::size_t> chosen_;  // a rung of each option
};

std::string largest_words(const EnginePlan& plan) {
  std::vector<PlanLine> lines = plan.lines;
  std::ranges::stable_sort(lines, [](const PlanLine& a, const PlanLine& b) { return a.bytes > b.bytes; });
  lines.resize(std::min(lines.size(), kLargestNamed));
  std::string out;
  for (const PlanLine& line : lines) {
    const char* const between = out.empty() ? "" : &line == &lines.back() ? " and " : ", ";
    out += fmt::format("{}\"{}\" with {}", between, line.account, to_string(line.bytes));
  }
  return out;
}

}  // namespace

Result<TrainingPlan> plan_training(const ModelFiles& files, const TokenizerShape* tokenizer,
                                   const train::TrainingInputs& inputs, const Budget& budget) {
  TrainingPlan plan{.engine = AXON_TRY(train::Training::plan(files.config, files.tensors, tokenizer, inputs)),
                    .budget = budget,
                    .total = {}};
  plan.total = plan.engine.total();
  return plan;
}

Result<train::DataSize> measure_data(const std::string& path) {
  const train::LineFile file = AXON_TRY(train::LineFile::open(path));
  const std::uint64_t lines = AXON_TRY(file.count());
  if (lines == 0) return make_error(ErrorCode::kInvalidArgument, "{}: has no line", path);
  return train::DataSize{.examples = lines, .index = train::JsonlExamples::index_bytes(lines)};
}

train::TrainSettings applied(const train::TrainSettings& settings, const TrainingChange& change) {
  train::TrainSettings out = settings;
  if (change.max_seq_len) out.max_seq_len = *change.max_seq_len;
  if (change.chunk) out.chunk = *change.chunk;
  if (change.rank) out.rank = *change.rank;
  if (change.adapter) out.adapter = *change.adapter;
  if (change.target) out.targets = {*change.target};
  return out;
}

Result<TrainingSuggestions> suggest_training(const std::function<Result<Bytes>(const TrainingChange&)>& total,
                                             const train::TrainSettings& settings, Bytes limit) {
  return TrainingSuggester(total, settings, limit).search();
}

Result<std::string> training_refusal(const TrainingPlan& plan, const ModelFiles& files, const TokenizerShape* tokenizer,
                                     const train::TrainingInputs& inputs) {
  const auto total = [&](const TrainingChange& change) -> Result<Bytes> {
    train::TrainingInputs changed = inputs;
    changed.settings = applied(inputs.settings, change);
    if (change.weights) changed.weights = AXON_TRY(parse_weight_format(*change.weights));
    return AXON_TRY(train::Training::plan(files.config, files.tensors, tokenizer, changed)).total();
  };
  const TrainingSuggestions suggestions = AXON_TRY(suggest_training(total, inputs.settings, plan.budget.limit));
  std::string out =
      fmt::format("needs {}, but the budget is {} ({}). The largest accounts are {}.", to_string(plan.total),
                  to_string(plan.budget.limit), plan.budget.source, largest_words(plan.engine));
  if (suggestions.fitting.empty() && suggestions.smallest.options.empty()) return out + " No setting takes less.";
  if (suggestions.fitting.empty()) {
    return out + fmt::format(" Nothing that was tried fits: the smallest, {}, takes {}.", suggestions.smallest.options,
                             to_string(suggestions.smallest.total));
  }
  out += " This would fit:";
  for (const Suggestion& s : suggestions.fitting) out += fmt::format("\n  {}  ({})", s.options, to_string(s.total));
  return out;
}

}  // namespace axon
