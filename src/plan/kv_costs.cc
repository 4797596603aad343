#include "plan/kv_costs.h"

#include <fmt/format.h>

#include <vector>

namespace axon {

std::span<const std::string_view> kv_ladder() {
  static constexpr std::string_view kLadder[] = {"fp32", "fp16", "q8", "tq4", "tq3.5", "tq3"};
  return kLadder;
}

const KvCost* find_kv_cost(std::string_view name) {
  // Only what was measured stands here; docs/turboquant.md has the tables. Without a row a plan prints sizes alone.
  //   {"q8", perplexity in %, divergence in nats, attention time, "model, tokens"},
  static const std::vector<KvCost> costs = {};
  for (const KvCost& cost : costs) {
    if (cost.name == name) return &cost;
  }
  return nullptr;
}

std::string kv_cost_words(const KvCost* cost) {
  if (cost == nullptr) return "";
  return fmt::format("perplexity {:+.2f} %, divergence {:.4f}, attention {:.2f} x the time ({})", cost->perplexity,
                     cost->divergence, cost->attention_time, cost->source);
}

}  // namespace axon
