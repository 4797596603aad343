#pragma once
// What the readers of all families share: checked fields, and tensor lists that cannot overflow.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "architectures/architecture.h"

namespace axon {

// The numbers of one JSON object. Each reader names the field in its error: absent, of the wrong kind, out of bounds.
class Fields {
 public:
  // Far above any model. Products of three still fit 64 bits, and Builder checks the rest.
  static constexpr std::uint64_t kMax = std::uint64_t{1} << 21;
  static constexpr std::uint64_t kMaxLayers = 4096;

  Fields(const JsonValue& object, std::string_view what) : object_(object), what_(what) {}

  // From 1 to `max`. A key with null counts as absent, as in the models' own code.
  Result<std::uint64_t> count(std::string_view key, std::uint64_t max = kMax) const;
  Result<std::uint64_t> count_or(std::string_view key, std::uint64_t otherwise, std::uint64_t max = kMax) const;
  Result<std::uint64_t> zero_or_more(std::string_view key, std::uint64_t otherwise, std::uint64_t max = kMax) const;
  Result<bool> flag_or(std::string_view key, bool otherwise) const;
  Result<double> real_or(std::string_view key, double otherwise) const;
  Result<std::string> text_or(std::string_view key, std::string_view otherwise) const;
  // A list of numbers or texts; empty when absent.
  Result<std::vector<std::uint64_t>> counts(std::string_view key) const;
  Result<std::vector<std::string>> texts(std::string_view key) const;
  const JsonValue* find(std::string_view key) const;  // null when absent or null
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // Stands there as null, which some models' code tells from absent: "no window", not "the default window".
  bool is_null(std::string_view key) const;

  std::string_view what() const { return what_; }
  // "what: key must be ..., but is ..."
  Error wrong(std::string_view key, std::string_view expected) const;

 private:
  const JsonValue& object_;
  std::string what_;
};

// The precision of the published weights, from quantization_config or torch_dtype; empty when they do not say, or name
// one whose layout the config does not settle (GPTQ, AWQ, ...). An error when either is of the wrong kind.
Result<std::string> native_weights(const Fields& fields);

// Adds tensors and layers, merging groups that differ only by layer. The first overflow is kept and finish() tells it.
class Builder {
 public:
  // Sets native_weights from `fields`, which must be the whole config.
  Builder(std::string_view family, const Fields& fields);

  // A weight [rows, cols] of `count` tensors; `bias` adds a vector of `rows`.
  void matrix(std::string_view name, Part part, std::uint64_t rows, std::uint64_t cols, std::uint64_t count = 1,
              bool bias = false);
  void vector(std::string_view name, Part part, std::uint64_t size, std::uint64_t count = 1);
  // Not a matrix for weight formats, but not flat either: convolution taps, A_log.
  void tensor(std::string_view name, Part part, std::uint64_t rows, std::uint64_t cols, std::uint64_t count = 1);
  // Groups added from here on take part with active/of: top_k of all experts, 0 of 1 for what text tokens never touch.
  void share(std::uint64_t active, std::uint64_t of);
  void layer(Layer layer);
  // Values a token that are alive at once at the widest moment of a layer that runs over a piece of tokens; the largest
  // of all calls counts. One rule for all families:
  //   hidden (the residual stream) + hidden (its normed copy) + the largest part, where a part is
  //   attention      q + k + v + what it attends to (heads x value size)
  //   feed forward   gate + up (their product overwrites gate); without a gate: up alone
  //   experts        top_k x (gate + up) + the shared expert's gate + up + router scores (one for each expert)
  //   recurrent      the output of its input projections, the convolved copy and what it hands to its output projection
  // Parts that run side by side on one normed input count one at a time. Logits are not a layer's.
  void width(std::uint64_t values);

  Architecture& model() { return model_; }
  // kInvalidArgument for a model without layers, and when parameters, or eight bytes for each, pass 64 bits.
  Result<Architecture> finish();

 private:
  void add(TensorGroup group);
  Architecture model_;
  std::string what_;
  std::uint64_t active_ = 1, of_ = 1;
  bool overflow_ = false;
  std::optional<Error> error_;  // the first
};

// One reader a family; families.h has the tables.
using FamilyReader = Result<Architecture> (*)(const Fields& fields);
struct Family {
  std::string_view name;  // model_type
  FamilyReader read;
};
const std::vector<Family>& families();

}  // namespace axon
