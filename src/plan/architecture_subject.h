#pragma once
// Other families' models, and bare sizes, as subjects of a plan. Weights and caches come from shapes; what another
// program works with beside them is an estimate, and marked as one.

#include <optional>

#include "architectures/architecture.h"
#include "architectures/file_weights.h"
#include "plan/subject.h"

namespace axon {

// What is known of a model that is not ours. At least one of `architecture` and `files` is there.
struct ForeignModel {
  std::optional<Architecture> architecture;  // without it the cache is unknown
  std::optional<FileWeights> files;          // without them the weights follow from the architecture
  std::string target, title, evidence, source;
  std::string cache_unknown;  // why, when there is no architecture
};
std::unique_ptr<Subject> foreign_subject(ForeignModel model);

// A number of parameters and nothing else. With `fallback`, the cache is 2 x layers x hidden size x tokens x bytes;
// without, it is said to be unknown.
struct SizeGuess {
  std::string target;
  std::uint64_t parameters = 0;
  bool fallback = false;
  std::uint64_t layers = 0, hidden_size = 0;
  Bytes stored{};  // what its files hold, where there are files
};
std::unique_ptr<Subject> size_subject(SizeGuess guess);

// "20b", "0.6B", "770m": parameters. No value for anything else.
std::optional<std::uint64_t> parse_parameter_count(std::string_view text);

}  // namespace axon
