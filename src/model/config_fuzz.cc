// A config.json of any bytes: it is refused, or it survives being written and read again, and its tensors can be listed
// and counted.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "model/tensors.h"

using namespace axon;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Result<Config> parsed = parse_config(text, "fuzz");
  if (parsed.ok()) {
    const Config& config = parsed.value();
    Result<Config> again = parse_config(to_json(config), "again");
    AXON_CHECK(again.ok() && again.value() == config);
    AXON_CHECK(layer_kinds(config).size() == config.num_layers);
    const ParameterCount count = count_parameters(config);
    AXON_CHECK(count.active <= count.total);
    // Twice: layers have up to 4 D^2 weights for attention beside what check_config sums.
    AXON_CHECK(count.total <= std::uint64_t{1} << 48);
  }
  // The same bytes as an option of `init`.
  Result<Config> changed = with_setting(preset("nano").value(), text.substr(0, 200));
  if (changed.ok()) AXON_CHECK(check_config(changed.value(), "set").ok());
  return 0;
}
