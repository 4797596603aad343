#pragma once
// The words of a plan that its table and its page share: facts, machine, choices, verdict.

#include <string>
#include <string_view>
#include <vector>

#include "plan/report.h"

namespace axon {

// "3.21 B", "65.5 M"
std::string short_count(std::uint64_t number);
// "~" before an estimate.
std::string size_words(Bytes bytes, bool estimate);
// "63 %"; "<1 %" for little but something.
std::string share_words(Bytes part, Bytes whole);
std::string join(const std::vector<std::string>& parts, std::string_view between);

struct ReportRow {
  std::string name;
  std::vector<std::string> values;  // a list may be broken between them
};
std::vector<ReportRow> fact_rows(const SubjectFacts& facts);
std::vector<ReportRow> machine_rows(const MachineReport& machine);

std::string context_words(const PlanReport& report, std::uint64_t context);  // "65,536", "maximum"
std::string weights_words(std::string_view weights);                         // "as stored" for "keep"
// "context 4,096 tokens, weights q4, kv fp16, ..."; parts that the report varies are left out.
std::string choice_words(const PlanReport& report, const RunChoice& choice, bool varies);
std::string train_words(const PlanReport& report);

struct Verdict {
  bool fits = false;
  std::string text;               // after "fits: " or "does not fit: "
  std::vector<std::string> more;  // a line each: what would fit, how far each row goes
};
// Not for a report of solutions alone.
Verdict verdict(const PlanReport& report);

struct SolutionWords {
  std::string heading;  // "longest context that fits 7.45 GiB"
  std::string nothing;  // "nothing fits: ...": then there are no rows
  struct Row {
    std::string rank, what, total, command;
  };
  std::vector<Row> rows;
};
SolutionWords solution_words(const PlanReport& report, const Solution& solution);

// The KV types that would save something, a line each; one line in all where the cache hardly matters.
struct SmallerKvWords {
  struct Row {
    std::string kv, bytes, saved, cost;  // "tq3", "833.5 MiB", "4.19 GiB", words or nothing
  };
  std::vector<Row> rows;
  std::string source;   // of the rows' costs
  std::string instead;  // of rows
};
SmallerKvWords smaller_kv_words(const PlanReport& report);

// The footprint that has the accounts of the report: the training's or the only cell's; null when there are several.
const Footprint* only_footprint(const PlanReport& report);
// Some number of the report is an estimate.
bool has_estimate(const PlanReport& report);
// Of all cells, each once.
std::vector<std::string> all_notes(const PlanReport& report);
std::vector<std::string> all_hindrances(const PlanReport& report);

inline constexpr std::string_view kEstimateNote =
    "~ marks an estimate: it does not come from the lists that this program allocates by";

}  // namespace axon
