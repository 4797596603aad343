// An adapter_config.json of any bytes: it is refused, or what it says is within bounds and survives being written and
// read again.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "model/adapter_config.h"

using namespace axon;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Result<AdapterConfig> parsed = parse_adapter_config(text, "fuzz");
  if (!parsed.ok()) return 0;
  const AdapterConfig& config = parsed.value();
  Result<AdapterConfig> again =
      parse_adapter_config(to_json({.config = config, .targets = {"a"}, .layers = 1}), "again");
  AXON_CHECK(again.ok() && again.value().form == config.form && again.value().dora == config.dora);
  AXON_CHECK(config.dropout >= 0 && config.dropout < 1 && again.value().dropout == config.dropout);
  for (const char* layer : {"input_proj", "layer_0.ssm.in_proj", "layer_2.moe.switch_mlp.gate_proj"}) {
    const std::size_t rank = config.rank_of(layer);
    AXON_CHECK(rank >= 1 && rank <= kAdapterRankMax && rank == again.value().rank_of(layer));
    AXON_CHECK(std::isfinite(config.scale_of(layer)) && config.scale_of(layer) == again.value().scale_of(layer));
  }
  return 0;
}
