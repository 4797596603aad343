#include "kernels/cpu/coded_cache.h"

namespace axon::cpu {
namespace {

turboquant::TileView tile_of(const turboquant::HeadView& head, std::size_t i) {
  const turboquant::HeadHeader& header = head.header();
  return {head.layout,         head.head_dim,        head.plan.tokens_of_tile(i), {head.tile(i), head.plan.tile_bytes},
          header.key_exponent, header.value_exponent};
}

}  // namespace

CodedRegion keys_of(const turboquant::HeadView& head, const turboquant::TokenRun& run, std::span<float> factors) {
  if (run.in_tail) {
    return tail_keys({head.tail(), head.plan.bytes.count - head.plan.tail_at}, head.head_dim, head.plan.tail_tokens,
                     run.slot, factors.first(run.count));
  }
  return coded_keys(tile_of(head, run.tile), factors.first(run.slot + run.count)).tokens_from(run.slot, run.count);
}

CodedRegion values_of(const turboquant::HeadView& head, const turboquant::TokenRun& run, std::span<float> factors) {
  if (run.in_tail) {
    return tail_values({head.tail(), head.plan.bytes.count - head.plan.tail_at}, head.head_dim, head.plan.tail_tokens,
                       run.slot, factors.first(run.count));
  }
  return coded_values(tile_of(head, run.tile), factors.first(run.slot + run.count)).tokens_from(run.slot, run.count);
}

}  // namespace axon::cpu
