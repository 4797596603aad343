#pragma once
// Checkpoints: folders step-00000100 with all that a training needs to go on to the bit, each of which appears whole or
// not at all. A killed process leaves at most a temporary folder, which the next start removes.

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"

namespace axon::train {

struct CheckpointArrays {
  std::span<float> values, first_moments, second_moments;  // [P]
  std::span<float> gradients;                              // [P]: sums of an update that is not finished; empty: none
};

using CheckpointNumbers = std::map<std::string, std::string>;

class Checkpoints {
 public:
  // Makes `folder` if it is not there, and removes what killed processes left in it. kIo.
  static Result<Checkpoints> open(const std::string& folder);

  // The last step that has one.
  std::optional<std::uint64_t> latest() const;
  std::string path_of(std::uint64_t step) const;

  // `more` may put further files into the folder before it appears (its path is the argument). Then only the last
  // `keep` checkpoints stay. kIo with path and reason, and what was there before is as it was.
  Status save(std::uint64_t step, const CheckpointArrays& arrays, const CheckpointNumbers& numbers, std::uint64_t keep,
              const std::function<Status(const std::string&)>& more);

  // Numbers alone. kCorrupt, kNotFound, kIo.
  Result<CheckpointNumbers> numbers(std::uint64_t step) const;
  // Fills the arrays, whose sizes must be those that were saved (kCorrupt says which is not); gradients that were not
  // saved become zeros.
  Status load(std::uint64_t step, const CheckpointArrays& arrays) const;

 private:
  explicit Checkpoints(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

// Doubles as text that gives back their bits. kCorrupt names the key: whose numbers they are, the caller knows.
std::string exact_text(double value);
Result<double> exact_double(const CheckpointNumbers& numbers, const std::string& key);
Result<std::uint64_t> exact_count(const CheckpointNumbers& numbers, const std::string& key);

}  // namespace axon::train
