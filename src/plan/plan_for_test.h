#pragma once
// For tests: subjects of every kind by a word each, and what every footprint must obey.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "architectures/known_models.h"
#include "generate/tiny_engine_for_test.h"
#include "plan/architecture_subject.h"
#include "plan/bit_axon_subject.h"
#include "plan/subject.h"

namespace axon::testing_plan {

using testing_model::Folder;
using testing_model::ok;
using testing_model::put_file;

inline constexpr const char* kNano = AXON_SOURCE_DIR "/models/bit-axon-nano";

// As typed: a preset (with the shipped tokenizer where it fits), a known model, a size.
inline std::unique_ptr<Subject> subject_of(const std::string& target) {
  return ok(open_subject(target, {.default_model = kNano, .fallback = false, .layers = 0, .hidden_size = 0}));
}

inline Result<std::unique_ptr<Subject>> read_foreign(const std::string& json) {
  const JsonValue config = AXON_TRY(read_json_value(json, "config.json"));
  ForeignModel model;
  model.architecture = AXON_TRY(read_architecture(config, "config.json"));
  model.target = model.title = "it";
  model.evidence = "config.json";
  return foreign_subject(std::move(model));
}
inline std::unique_ptr<Subject> foreign(const std::string& json) { return ok(read_foreign(json)); }

// A context of `context` tokens, the rest as the program has it.
inline RunChoice choice_of(std::uint64_t context, const std::string& weights = "keep", const std::string& kv = "fp16") {
  RunChoice choice;
  choice.context = context;
  choice.weights = weights;
  choice.kv = kv;
  return choice;
}

inline Footprint footprint_of(const Subject& subject, const RunChoice& choice) { return ok(subject.footprint(choice)); }
inline Bytes total_of(const Subject& subject, const RunChoice& choice) { return footprint_of(subject, choice).total(); }
inline std::uint64_t bytes_of(const Footprint& footprint, std::string_view account) {
  const Account* found = footprint.find(account);
  return found == nullptr ? 0 : found->bytes.count;
}

template <class T>
std::string error_of(const Result<T>& result, ErrorCode code = ErrorCode::kInvalidArgument) {
  if (result.ok()) return "no error";
  EXPECT_EQ(result.error().code, code) << result.error().message;
  return result.error().message;
}

// What is wrong with the sums of a footprint, in arithmetic that does not wrap; empty when they add up.
inline std::string wrong_sums(const Footprint& footprint) {
  unsigned __int128 total = 0;
  for (const Account& account : footprint.accounts) {
    unsigned __int128 terms = 0;
    for (const Term& term : account.terms) {
      if (term.text.empty()) return account.name + " has a term without words";
      terms += term.bytes.count;
    }
    if (terms != account.bytes.count) return fmt::format("the terms of {} do not sum to it", account.name);
    total += account.bytes.count;
  }
  return total == footprint.total().count ? "" : "the accounts do not sum to the total";
}

inline const std::vector<std::string>& our_weights() {
  static const std::vector<std::string> names = {"keep", "f32", "bf16", "f16", "q8",    "q6",
                                                 "q5",   "q4",  "q3",   "q2",  "q4g32", "q8g128"};
  return names;
}
inline const std::vector<std::string>& kv_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const KvFormat& format : kv_formats()) out.push_back(format.name);
    return out;
  }();
  return names;
}

// Small models of five families, as config.json has them; every number may be varied.
struct SmallConfig {
  std::string family = "llama";
  std::uint64_t layers = 4, heads = 4, kv_heads = 2, head_dim = 16, inner = 128, vocab = 1000, experts = 4, window = 0;

  std::string json() const {
    const std::uint64_t hidden = heads * head_dim;
    std::string out = fmt::format(
        R"({{"model_type":"{}","hidden_size":{},"intermediate_size":{},"num_hidden_layers":{},"vocab_size":{})", family,
        hidden, family == "mamba" ? 2 * hidden : inner, layers, vocab);
    if (family == "mamba") {
      return out + R"(,"state_size":16,"conv_kernel":4,"expand":2,"time_step_rank":8,"use_conv_bias":true})";
    }
    out += fmt::format(
        R"(,"num_attention_heads":{},"num_key_value_heads":{},"max_position_embeddings":32768,"tie_word_embeddings":false)",
        heads, kv_heads);
    if (family == "qwen3") out += fmt::format(R"(,"head_dim":{})", 2 * head_dim);
    if (family == "mixtral") {
      out += fmt::format(R"(,"num_local_experts":{},"num_experts_per_tok":2,"sliding_window":{})", experts,
                         window == 0 ? "null" : fmt::format("{}", window));
    }
    if (family == "jamba") {
      out += fmt::format(
          R"(,"num_experts":{},"num_experts_per_tok":2,"attn_layer_period":4,"attn_layer_offset":2,)"
          R"("expert_layer_period":2,"expert_layer_offset":1,"mamba_d_state":16,"mamba_d_conv":4,"mamba_expand":2,)"
          R"("mamba_dt_rank":8)",
          experts);
    }
    return out + "}";
  }
};

}  // namespace axon::testing_plan
