#pragma once
// Pages of the documentation that the program works out itself: every number of ours comes from the same arithmetic as
// a plan, so that a page cannot say anything else than the program does.

#include <span>
#include <string>
#include <string_view>

#include "plan/subject.h"

namespace axon {

// "memory-budget", "memory-101", "models".
std::span<const std::string_view> page_names();

// The whole Markdown file docs/NAME.md. The same on every machine: two threads, no date, nothing measured. Takes
// options.default_model alone: the tokenizer there is part of Bit-Axon's plans, and its absence is kNotFound.
// kInvalidArgument for a name that is not a page.
Result<std::string> page_text(std::string_view name, const SubjectOptions& options);

}  // namespace axon
