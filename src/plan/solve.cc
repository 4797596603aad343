#include "plan/solve.h"

#include <algorithm>
#include <bit>

#include "memory/ledger.h"
#include "plan/kv_costs.h"
#include "plan/report.h"

namespace axon {
namespace {

constexpr std::uint64_t kContextMax = std::uint64_t{1} << 40;  // for models without a limit of their own
constexpr std::uint64_t kBatchMax = 65'536;
constexpr std::uint64_t kSequenceMin = 16, kSequenceMax = std::uint64_t{1} << 24;
constexpr std::uint64_t kRowMin = 2;  // tokens: one, and the next

// The largest n in [low, high] for which fits(n); 0 when not even `low` does. fits must be monotone. A number that is
// too large to be reckoned with does not fit; an error of `low` itself is one.
template <class Fits>
Result<std::uint64_t> largest(std::uint64_t low, std::uint64_t high, Fits&& fits) {
  if (!AXON_TRY(fits(low))) return std::uint64_t{0};
  while (low < high) {
    const std::uint64_t middle = high - (high - low) / 2;
    Result<bool> middle_fits = fits(middle);
    if (middle_fits.ok() && middle_fits.value()) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

class Solver {
 public:
  Solver(const Subject& subject, const RunChoice& run, const TrainChoice& train, Bytes budget)
      : subject_(subject), run_(run), train_(train), budget_(budget) {}

  Result<Solution> context() const {
    Solution out;
    out.what = SolveFor::kContext;
    AXON_TRY(check_cache());
    const std::uint64_t max = subject_.facts().context_max != 0 ? subject_.facts().context_max : kContextMax;
    const std::uint64_t best = AXON_TRY(
        largest(1, max, [&](std::uint64_t n) -> Result<bool> { return AXON_TRY(context_option(n)).total <= budget_; }));
    if (best == 0) {
      out.smallest = AXON_TRY(context_option(1));
      return out;
    }
    out.best = AXON_TRY(context_option(best));
    out.best_of_all = best == max;
    if (best == kContextMax) out.best->what = "any context: it takes no more with it";
    for (std::uint64_t step = std::uint64_t{1} << 40; step >= 256 && out.cheaper.size() < 2; step /= 2) {
      if (step >= best) continue;
      Option option = AXON_TRY(context_option(step));
      const Bytes before = out.cheaper.empty() ? out.best->total : out.cheaper.back().total;
      // Below a window, less context saves next to nothing.
      if (option.total + 1_MiB <= before) out.cheaper.push_back(std::move(option));
    }
    return out;
  }

  // Precisions in falling size, none larger than what is stored.
  Result<Solution> weights() const {
    std::vector<Option> ladder = {AXON_TRY(weights_option("keep"))};
    for (const char* name : {"bf16", "q8", "q6", "q5", "q4", "q3", "q2"}) {
      ladder.push_back(AXON_TRY(weights_option(name)));
    }
    return best_of(SolveFor::kWeights, std::move(ladder));
  }

  Result<Solution> kv() const {
    AXON_TRY(check_cache());
    std::vector<Option> ladder;
    const bool exact = run_.exact && subject_.facts().runs_here;  // where float32 is what there is without a choice
    for (const std::string_view name : kv_ladder()) {
      if (name == "fp32" && !exact) continue;
      RunChoice choice = run_;
      choice.kv = name;
      ladder.push_back(AXON_TRY(option_of(fmt::format("kv {}", name), choice)));
    }
    return best_of(SolveFor::kKv, std::move(ladder));
  }

  Result<Solution> training() const { return subject_.facts().runs_here ? longest_rows() : largest_batch(); }

 private:
  // Rows of a batch go through our models one after the other: only their length takes memory.
  Result<Solution> longest_rows() const {
    Solution out;
    out.what = SolveFor::kTrain;
    const std::uint64_t batch = train_.settings.batch_size, most = subject_.facts().context_max;
    const std::uint64_t longest = AXON_TRY(largest(kRowMin, most, [&](std::uint64_t n) -> Result<bool> {
      return AXON_TRY(train_option(batch, n)).total <= budget_;
    }));
    if (longest == 0) {
      out.smallest = AXON_TRY(train_option(batch, kRowMin));
      return out;
    }
    out.best = AXON_TRY(train_option(batch, longest));
    out.best_of_all = longest == most;
    for (std::uint64_t n = std::bit_floor(longest - 1); n >= kSequenceMin && out.cheaper.size() < 2; n /= 2) {
      out.cheaper.push_back(AXON_TRY(train_option(batch, n)));
    }
    return out;
  }

  Result<Solution> largest_batch() const {
    Solution out;
    out.what = SolveFor::kTrain;
    const auto fits = [&](std::uint64_t batch, std::uint64_t sequence) -> Result<bool> {
      Result<Option> option = train_option(batch, sequence);
      if (!option.ok()) return option.error();
      return option.value().total <= budget_;
    };
    const std::uint64_t batch =
        AXON_TRY(largest(1, kBatchMax, [&](std::uint64_t n) { return fits(n, train_.settings.max_seq_len); }));
    const std::uint64_t context = subject_.facts().context_max;
    const std::uint64_t most = context != 0 ? std::min(context, kSequenceMax) : kSequenceMax;
    const std::uint64_t least = std::min({kSequenceMin, train_.settings.max_seq_len, most});
    const std::uint64_t longest = AXON_TRY(largest(least, most, [&](std::uint64_t n) { return fits(1, n); }));
    if (longest == 0) {
      out.smallest = AXON_TRY(train_option(1, least));
      return out;
    }
    if (batch == 0) {
      out.best = AXON_TRY(train_option(1, longest));
    } else {
      out.best = AXON_TRY(train_option(batch, train_.settings.max_seq_len));
      out.best_of_all = batch == kBatchMax;
      if (longest > train_.settings.max_seq_len) out.also.push_back(AXON_TRY(train_option(1, longest)));
    }
    for (std::uint64_t b = out.best->train.settings.batch_size, t = out.best->train.settings.max_seq_len;
         out.cheaper.size() < 2;) {
      (b > 1 ? b : t) /= 2;
      if (t < kSequenceMin) break;
      out.cheaper.push_back(AXON_TRY(train_option(b, t)));
    }
    return out;
  }

  // What is not counted cannot be solved for.
  Status check_cache() const {
    RunChoice choice = run_;
    choice.context = 1;
    if (AXON_TRY(subject_.footprint(choice)).find(account::kKvCache) != nullptr) return Ok{};
    return make_error(ErrorCode::kInvalidArgument, "{}: what a sequence takes is not known, so it cannot be solved for",
                      subject_.facts().target);
  }
  Result<Option> option_of(std::string what, const RunChoice& choice) const {
    const Footprint footprint = AXON_TRY(subject_.footprint(choice));
    Option option;
    option.what = std::move(what);
    option.run = choice;
    option.train = train_;
    option.total = footprint.total();
    option.command = subject_.command(choice);
    return option;
  }
  Result<Option> context_option(std::uint64_t context) const {
    RunChoice choice = run_;
    choice.context = context;
    return option_of(fmt::format("context {}", grouped(context)), choice);
  }
  Result<Option> weights_option(const std::string& name) const {
    RunChoice choice = run_;
    choice.weights = name;
    return option_of(name == "keep" ? "weights as they are" : fmt::format("weights {}", name), choice);
  }
  Result<Option> train_option(std::uint64_t batch, std::uint64_t sequence) const {
    Option option;
    option.train = train_;
    option.train.settings.batch_size = batch;
    option.train.settings.max_seq_len = sequence;
    option.run = run_;
    option.what = fmt::format("batch {} x {} tokens", grouped(batch), grouped(sequence));
    option.total = AXON_TRY(train_footprint(subject_, option.train)).total();
    option.command =
        fmt::format("bit-axon plan {} --train {}", shell_word(subject_.facts().target), typed(option.train));
    return option;
  }

  // The first of a ladder that fits, once it is in falling order of size and nothing is above its first entry.
  Result<Solution> best_of(SolveFor what, std::vector<Option> ladder) const {
    const Bytes first = ladder.front().total;
    std::stable_sort(ladder.begin(), ladder.end(), [](const Option& a, const Option& b) { return a.total > b.total; });
    std::erase_if(ladder, [&](const Option& o) { return o.total > first; });
    Solution out;
    out.what = what;
    for (const Option& option : ladder) {
      if (option.total > budget_) continue;
      if (!out.best) {
        out.best = option;
        out.best_of_all = option.total == first;
      } else if (out.cheaper.size() < 2 &&
                 option.total < (out.cheaper.empty() ? out.best->total : out.cheaper.back().total)) {
        out.cheaper.push_back(option);
      }
    }
    if (!out.best) out.smallest = ladder.back();
    return out;
  }

  const Subject& subject_;
  const RunChoice& run_;
  const TrainChoice& train_;
  Bytes budget_;
};

}  // namespace

Result<SolveFor> parse_solve_for(std::string_view text) {
  if (text == "context") return SolveFor::kContext;
  if (text == "weights") return SolveFor::kWeights;
  if (text == "kv") return SolveFor::kKv;
  if (text == "train") return SolveFor::kTrain;
  return make_error(ErrorCode::kInvalidArgument, "cannot solve for \"{}\": there are context, weights, kv and train",
                    text);
}

Result<Solution> solve(const Subject& subject, SolveFor what, const RunChoice& run, const TrainChoice& train,
                       Bytes budget) {
  const Solver solver(subject, run, train, budget);
  switch (what) {
    case SolveFor::kContext: return solver.context();
    case SolveFor::kWeights: return solver.weights();
    case SolveFor::kKv: return solver.kv();
    case SolveFor::kTrain: return solver.training();
  }
  return solver.context();
}

}  // namespace axon
