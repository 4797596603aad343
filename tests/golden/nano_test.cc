// Against the float32 oracles of the trained nano model, in exact arithmetic, from its float weights.

#include "generate/score.h"
#include "golden.h"

namespace axon {
namespace {

using golden::Loaded;
using golden::Recorded;

const std::string kModel = std::string(AXON_SHARED_DIR) + "/models/bit-axon-nano";

const Recorded& recorded() {
  static const Recorded r("nano/logits.safetensors");
  return r;
}

TEST(Nano, LogitsOfEveryPromptPosition) {
  Loaded model(kModel, 1);
  for (int p = 0; p < 3; ++p) {
    const auto logits = model.logits(recorded().ids(fmt::format("prompt{}.ids", p)));
    EXPECT_LE(golden::largest_difference(logits, recorded().floats(fmt::format("prompt{}.logits", p))), 5e-4f) << p;
  }
}

TEST(Nano, LogitsPastTheWindow) {
  Loaded model(kModel, 1);
  const auto logits = model.logits(recorded().ids("long600.ids"));
  const auto positions = recorded().ids("long600.pos");
  const auto expected = recorded().floats("long600.logits");
  for (std::size_t i = 0; i < positions.size(); ++i) {
    EXPECT_LE(golden::largest_difference(std::span(logits).subspan(positions[i] * 8192, 8192),
                                         std::span(expected).subspan(i * 8192, 8192)),
              5e-4f)
        << "position " << positions[i];
  }
}

// The oracle's own tokens are fed, so that one close call does not end the comparison.
TEST(Nano, GreedyTokensWhereTheMarginIsClear) {
  Loaded model(kModel, 1);
  for (int p = 0; p < 3; ++p) {
    const auto greedy = recorded().ids(fmt::format("prompt{}.greedy", p));
    const auto margin = recorded().floats(fmt::format("prompt{}.greedy_margin", p));
    model.session->reset();
    golden::ok(model.session->prefill(recorded().ids(fmt::format("prompt{}.ids", p))));
    std::size_t compared = 0;
    for (std::size_t i = 0; i < greedy.size(); ++i) {
      const auto logits = model.session->logits();
      const auto best = static_cast<std::uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      if (margin[i] > 1e-3f) {
        EXPECT_EQ(best, greedy[i]) << "prompt " << p << ", step " << i;
        ++compared;
      }
      model.session->step(greedy[i]);
    }
    EXPECT_GE(compared, 90u);
  }
}

// 1.4 MB as one string: the count that the recorded perplexity was computed over.
TEST(Nano, TokensOfTheHeldOutStream) {
  const MappedFile json = golden::ok(MappedFile::open(kModel + "/tokenizer.json"));
  const MappedFile stream = golden::ok(MappedFile::open(std::string(AXON_SHARED_DIR) + "/data/heldout-stream.txt"));
  Ledger ledger(64_MiB);
  const Tokenizer tokenizer =
      golden::ok(Tokenizer::load(json.text(), golden::ok(Tokenizer::measure(json.text(), "tokenizer.json")), ledger));
  std::vector<TokenId> ids;
  golden::ok(tokenizer.encode(stream.text(), ids));
  EXPECT_EQ(ids.size(), 339308u);
  EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/false), stream.text());
}

}  // namespace
}  // namespace axon
