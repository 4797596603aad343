// Any bytes as another program's config.json or GGUF file: an error, or an architecture whose sums are true.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "architectures/file_weights.h"

using namespace axon;

static void check(const Architecture& model) {
  unsigned __int128 total = 0, active = 0;
  for (const TensorGroup& group : model.tensors) {
    const auto elements = static_cast<unsigned __int128>(group.rows) * group.cols * group.count;
    AXON_CHECK(group.of != 0 && group.active <= group.of);
    total += elements;
    active += elements * group.active / group.of;
  }
  const Architecture::Count count = model.parameters();
  AXON_CHECK(count.total == total && count.active == active);
  AXON_CHECK(model.attention_layers() <= model.layers.size() && model.recurrent_layers() <= model.layers.size());
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with("GGUF")) {
    Result<Gguf> file = Gguf::parse(std::as_bytes(std::span(data, size)), "fuzz");
    if (!file.ok()) return 0;
    AXON_CHECK(file_weights(file.value()).bytes().count <= size);
    Result<Architecture> model = gguf_architecture(file.value(), "fuzz");
    if (model.ok()) check(model.value());
    return 0;
  }
  Result<JsonValue> config = read_json_value(text, "fuzz");
  if (!config.ok()) return 0;
  Result<Architecture> model = read_architecture(config.value(), "fuzz");
  if (model.ok()) check(model.value());
  return 0;
}
