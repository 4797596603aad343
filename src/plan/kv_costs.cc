#include "plan/kv_costs.h"

#include <fmt/format.h>

namespace axon {

std::span<const std::string_view> kv_ladder() {
  static constexpr std::string_view kLadder[] = {"fp32", "fp16", "q8", "tq4", "tq3.5", "tq3"};
  return kLadder;
}

// docs/turboquant.md has the tables: 8 windows of 4,096 held-out tokens, and the benchmark of decoding by depth.
std::string_view kv_costs_source() {
  return "against fp16: quality of bit-axon-nano past its window, time of the 3b preset behind 4,096 tokens";
}

const KvCost* find_kv_cost(std::string_view name) {
  static constexpr KvCost kCosts[] = {{"q8", -0.02, 0.0025, 0.54},
                                      {"tq4", 0.05, 0.0048, 0.43},
                                      {"tq3.5", 0.17, 0.0075, 0.40},
                                      {"tq3", 0.53, 0.0139, 0.38}};
  for (const KvCost& cost : kCosts) {
    if (cost.name == name) return &cost;
  }
  return nullptr;
}

std::string kv_cost_words(const KvCost* cost) {
  if (cost == nullptr) return "";
  return fmt::format("perplexity {:+.2f} %, divergence {:.4f}, attention {:.2f} x the time", cost->perplexity,
                     cost->divergence, cost->attention_time);
}

}  // namespace axon
