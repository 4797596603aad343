// Any bytes as a line of metrics.jsonl: an error, or a line whose text reads back as the same text.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "train/metrics_line.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto line = axon::train::parse_metrics(text, "fuzz");
  if (!line.ok()) return 0;
  const std::string written = axon::train::metrics_text(line.value());
  auto again = axon::train::parse_metrics(written, "fuzz");
  AXON_CHECK(again.ok());
  AXON_CHECK(axon::train::metrics_text(again.value()) == written);
  return 0;
}
