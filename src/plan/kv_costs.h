#pragma once
// The KV types that a plan offers, and what each was measured to cost.

#include <span>
#include <string>
#include <string_view>

namespace axon {

// Worth choosing, in falling size. lm3 is not: it takes the bytes of tq3 and is there to be compared with.
std::span<const std::string_view> kv_ladder();

// Against an fp16 cache of the same model.
struct KvCost {
  std::string_view name;  // of a KvType
  double perplexity;      // change in percent
  double divergence;      // mean Kullback-Leibler divergence of the next token, in nats
  double attention_time;  // of decoding, times fp16's
};
// What the costs were measured on, for people.
std::string_view kv_costs_source();
// Null for a type that was not measured; fp16 has none.
const KvCost* find_kv_cost(std::string_view name);
// "perplexity +0.31 %, divergence 0.0021, attention 0.62 x the time"; empty for null.
std::string kv_cost_words(const KvCost* cost);

}  // namespace axon
