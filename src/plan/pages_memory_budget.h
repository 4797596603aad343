#pragma once
// The memory-budget page in two halves: what lies in memory, and what runs and trainings take.

#include "plan/pages_parts.h"

namespace axon::pages {

// What the original's page says, as it wrote it. Its "MB" are 10^6 bytes for weights and 2^20 for the rest.
struct Quoted {
  std::string_view text;  // "~6,400 MB"
  double number = 0;
  std::string cell() const { return fmt::format("\"{}\"", text); }
};

struct BudgetPage {
  const OurModel& three;
  const OurModel& six;
  Markdown out{};
};

// Available memory to TurboQuant's layouts.
void add_what_lies_in_memory(BudgetPage& page);
// Total inference memory to the context strategy, and weight tying.
void add_runs_and_training(BudgetPage& page);
// Which of the page's claims hold.
void add_claims(BudgetPage& page);

// Keys and values of a run at `tokens`.
Bytes kv_cache(const OurModel& model, std::uint64_t tokens, std::string_view kv, std::optional<std::uint64_t> window);

}  // namespace axon::pages
