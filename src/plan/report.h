#pragma once
// A plan as people read it: the same report as a table for a terminal and as a page with a chart.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "plan/budget.h"
#include "plan/solve.h"

namespace axon {

// The machine that the plan is for.
struct MachineReport {
  std::string name;  // "this machine", or a profile's title
  bool this_machine = true;
  SystemMemory memory;  // of this machine
  std::size_t processors = 0;
  Bytes ram;  // of a profile, or --ram
  struct Reserve {
    std::string what;
    Bytes bytes;
    std::string source;
  };
  std::vector<Reserve> reserves;
  // Of a profile whose GPU shares the memory: what a run there would have, and why not more.
  std::optional<Bytes> gpu_budget;
  std::string gpu_source;
};

struct PlanCell {
  RunChoice choice;
  Footprint footprint;
  bool fits = false;
};

struct PlanReport {
  SubjectFacts facts;
  MachineReport machine;
  Budget budget;
  // The product of three lists, context fastest, then weights, then kv: cells[(k * weights + w) * contexts + c].
  std::vector<std::uint64_t> contexts;
  std::vector<std::string> weights, kv;
  std::vector<PlanCell> cells;
  std::optional<Footprint> training;  // instead of cells
  TrainChoice train;
  std::vector<Solution> solutions;
  // What would fit instead of a single cell that does not: options as typed, and their total.
  struct Way {
    std::string options;
    Bytes total;
  };
  std::vector<Way> ways;
  // Of a single run of a model of ours: the types of its KV cache that take less, in falling size.
  struct SmallerKv {
    std::string kv;
    Bytes bytes;  // of the cache
    Bytes saved, total;
  };
  std::vector<SmallerKv> smaller_kv;
  // The first cell's accounts over context, for the chart: one footprint a context, contexts rising.
  std::vector<PlanCell> curve;

  bool fits() const;  // the training, or some cell; of solutions alone: one that has a best
};

struct TextStyle {
  bool colour = false;  // only on a terminal
  std::size_t columns = 100;
};
std::string report_text(const PlanReport& report, const TextStyle& style);
// One self-contained page: no script, no font and no picture from elsewhere; light and dark.
std::string report_html(const PlanReport& report);
// "--explain": the terms of the account, or of all whose names begin so ("weights"), line by line, and their sum.
// kNotFound lists the accounts that there are.
Result<std::string> explain_text(const Footprint& footprint, std::string_view account);

}  // namespace axon
