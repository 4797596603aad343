// Any bytes as a saved state: an error, or a state of the asked shapes that can be saved and read on.

#include <cstddef>
#include <cstdint>

#include "state/saved_state.h"

namespace axon {
namespace {

constexpr std::size_t kContext = 300, kVocab = 300;
constexpr LayerStateShape kShapes[] = {{.inner = 4, .state = 2, .taps = 2},
                                       {.attention = true, .heads = 1, .head_dim = 16, .capacity = 12}};

struct Target {
  explicit Target(const KvType& kv) : state(SequenceState::create(ledger, kShapes, kv).value()) {}
  Ledger ledger{1_MiB};
  SequenceState state;
};

void restore(std::span<const std::byte> bytes, Target& target) {
  auto parsed = SavedState::parse(bytes, "fuzz");
  if (!parsed.ok()) {
    AXON_CHECK(parsed.error().message.starts_with("fuzz: "));
    return;
  }
  const SavedState saved = std::move(parsed).value();
  const StateTarget to{.shapes = {}, .kv = {}, .model = "m", .context = kContext, .vocab_size = kVocab};
  const Status status = saved.restore(to, target.state);
  AXON_CHECK(target.state.position() == (status.ok() ? saved.position() : 0));
  if (!status.ok()) {
    AXON_CHECK(status.error().message.starts_with("fuzz: "));
    return;
  }
  AXON_CHECK(saved.position() <= kContext && saved.unread().size() <= kContext);
  for (const std::uint32_t id : saved.unread()) AXON_CHECK(id < kVocab);
  AXON_CHECK(saved.seen().size() <= (kVocab + 63) / 64);
}

}  // namespace
}  // namespace axon

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static axon::Target floats(axon::DType::kF16), codes(axon::parse_kv_type("tq3").value());
  const std::span bytes = std::as_bytes(std::span(data, size));
  axon::restore(bytes, floats);
  axon::restore(bytes, codes);
  return 0;
}
