#pragma once
// For tests: a set of adapters with memory of its own and random values.

#include <memory>
#include <string>
#include <vector>

#include "model/adapter_files.h"
#include "model/tiny_model_for_test.h"

namespace axon::testing_model {

class HeldAdapter {
 public:
  explicit HeldAdapter(const AdapterShape& shape) {
    Carver measure;
    AdapterSet(measure, shape);
    arena_ = ok(Arena::create(*ledger_, account::kAdapters, measure.peak()));
    Carver carver = arena_.carver();
    set_ = std::make_unique<AdapterSet>(carver, shape);
  }
  // Values of `files`.
  explicit HeldAdapter(const AdapterFiles& files) : HeldAdapter(files.shape()) { files.load(*set_); }

  // Enough to change every logit; magnitudes positive.
  HeldAdapter& randomise(std::uint64_t seed) {
    for (std::size_t i = 0; i < set_->tensors().size(); ++i) {
      const AdapterTensor& t = set_->tensors()[i];
      const CounterRng rng(seed, i);
      const std::span<float> values = set_->values_of(t);
      for (std::size_t j = 0; j < values.size(); ++j) {
        values[j] =
            t.part == AdapterTensor::Part::kMagnitude ? 1.0f + 0.5f * rng.symmetric(j, 1.0f) : rng.symmetric(j, 0.15f);
      }
    }
    return *this;
  }
  AdapterSet& set() { return *set_; }

 private:
  std::unique_ptr<Ledger> ledger_ = std::make_unique<Ledger>(1_GiB);
  Arena arena_;
  std::unique_ptr<AdapterSet> set_;
};

inline AdapterShape some_shape(const Config& config, AdapterKind kind, const std::vector<std::string>& targets,
                               std::size_t rank = 3, float scale = 2.0f) {
  return {.kind = kind, .scale = scale, .linears = ok(find_linears(config, targets, rank))};
}

inline const std::vector<std::string>& every_target() {
  static const std::vector<std::string> list = {"all-linear", "experts"};
  return list;
}

}  // namespace axon::testing_model
