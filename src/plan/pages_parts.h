#pragma once
// What the documentation pages share: Markdown that reads well raw, and questions to models that are built in. Those
// have an answer, or the program is wrong: nothing here returns an error but what opens files.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "plan/train_plan.h"

namespace axon::pages {

class Markdown {
 public:
  void heading(int level, std::string_view text);
  void paragraph(std::string_view text);  // wrapped
  void bullet(std::string_view text);     // wrapped; bullets in a row make a list
  void code(std::string_view lines);      // a block of commands
  // The first row is the header. `align`: 'l' or 'r' for each column.
  void table(const std::vector<std::vector<std::string>>& rows, std::string_view align);
  std::string take() { return std::move(text_); }

 private:
  void gap();
  void wrapped(std::string_view text, std::string_view first, std::string_view next);
  std::string text_;
  bool in_list_ = false;
};

// "1,737" MiB, with decimals below 100; "2.06 GiB", "1.19 TiB" or a smaller unit; "12.3 %".
std::string mib(Bytes bytes);
std::string size(Bytes bytes);
std::string percent(double share);
// "3.22 B" parameters, "596 M".
std::string billions(std::uint64_t parameters);

// The page's budget of "8 GB" in its strictest reading, as --budget 8GB takes it.
inline constexpr Bytes kEightGb{8'000'000'000};

// Bit-Axon as its config makes it, with the tokenizer that is shipped.
struct OurModel {
  Config config;
  std::unique_ptr<Subject> subject;
};
Result<OurModel> our_model(std::string_view preset_name, const SubjectOptions& options);

std::unique_ptr<Subject> known_model(std::string_view name);
// "20b"
std::unique_ptr<Subject> bare_size(std::string_view size);
// With the cache reckoned by 2 x layers x hidden size x tokens x bytes.
std::unique_ptr<Subject> bare_size(std::string_view size, std::uint64_t layers, std::uint64_t hidden_size);

inline constexpr std::optional<std::uint64_t> kBuiltWindow{}, kFullWindow{0};

// A run on two threads.
RunChoice choice(std::uint64_t context, std::string_view weights, std::string_view kv = "fp16",
                 std::optional<std::uint64_t> window = kBuiltWindow);
Footprint plan(const Subject& subject, const RunChoice& run);
Bytes total(const Subject& subject, const RunChoice& run);
// 0 when there is no such account.
Bytes account_bytes(const Footprint& footprint, std::string_view name);
Bytes weights(const Footprint& footprint);
// What is kept of a sequence: keys and values, and states.
Bytes sequence(const Footprint& footprint);
Footprint trained(const Subject& subject, const TrainChoice& training);
// The longest context of `run` within the budget; no value when not even one token fits.
std::optional<std::uint64_t> longest_context(const Subject& subject, const RunChoice& run, Bytes budget);

std::string memory_budget_page(const OurModel& three, const OurModel& six);
std::string memory_101_page(const OurModel& three, const OurModel& six);
std::string models_page();

}  // namespace axon::pages
