#pragma once
// From a question to a report: every cell of the matrix, training, solutions, and what would fit instead.

#include "plan/report.h"

namespace axon {

struct PlanQuery {
  std::vector<std::uint64_t> contexts;  // empty: the model's maximum
  std::vector<std::string> weights = {"keep"};
  std::vector<std::string> kv;  // empty: as `run` has it without --kv, so fp32 in exact arithmetic, else fp16
  RunChoice base;               // window, chunk, threads, ...
  std::optional<TrainChoice> train;
  std::vector<SolveFor> solve;
  bool curve = false;  // accounts over context, for the chart
  MachineReport machine;
  Budget budget;
  // What was typed to set the budget, for the commands of solutions: " --memory-budget 8GB" for a run too, and
  // " --machine mac-mini-16gb" for a plan alone.
  std::string budget_options, machine_options;
  std::string train_options;  // the same of a training alone: " --data examples.jsonl"
};

// Cells in one matrix, and points of a curve.
inline constexpr std::size_t kCellsMax = 4096;

Result<PlanReport> answer(const Subject& subject, const PlanQuery& query);

}  // namespace axon
