// The whole forward pass: independent of how a text is cut, and the same on every device.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "kernels/cpu/level.h"
#include "model/tiny_model_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

const WeightFormat kQ8{.kind = WeightFormat::kAffine, .bits = 8, .group_size = 32};

// A model on disk for the length of one test.
struct OnDisk {
  Folder folder;
  explicit OnDisk(const WeightFormat& format = {}, const Config& config = tiny_config()) {
    put_model(folder, config, tiny_tensors(config, 1, format));
  }
};

constexpr std::size_t kTokens = 100;  // the window of 8, more than twelve times

TEST(Forward, AnyPiecesGiveTheSameLogits) {
  const OnDisk disk;
  LoadedModel model(disk.folder.path());
  const auto ids = some_ids(kTokens);
  const auto whole = model.logits(ids, {kTokens});
  EXPECT_TRUE(rc::check("a text cut into any pieces", [&] {
    const auto pieces =
        *rc::gen::nonEmpty(rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, 40)));
    RC_ASSERT(difference(model.logits(ids, pieces), whole) <= 1e-5);
  }));
}

TEST(Forward, DecodingTokenByTokenEqualsOneLongForward) {
  const OnDisk disk;
  LoadedModel model(disk.folder.path());
  const auto ids = some_ids(kTokens);
  EXPECT_LE(difference(model.logits(ids, {1}), model.logits(ids, {kTokens})), 1e-5);
}

// Windows of one token, of most of the text, of all of it; and pieces around each size of the ring.
TEST(Forward, AnyWindowAndPieceSize) {
  const auto ids = some_ids(40);
  for (const std::uint64_t window : {1u, 2u, 7u, 16u, 39u, 40u, 64u}) {
    Config config = tiny_config();
    config.swa_window_size = window;
    const OnDisk disk({}, config);
    LoadedModel model(disk.folder.path());
    const auto whole = model.logits(ids, {40});
    for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{window}, std::size_t{window + 1}}) {
      EXPECT_LE(difference(model.logits(ids, {piece}), whole), 1e-5) << window << " in pieces of " << piece;
    }
  }
}

// The slow twin reads the text in one piece from the empty ring, so its mask is plain arithmetic on positions; the
// processor's goes through the ring token by token and in pieces. On every level, with one thread and several.
TEST(Forward, RingEqualsTheReferenceMaskOnEveryLevel) {
  const OnDisk disk;
  const auto ids = some_ids(kTokens);
  const std::string before(cpu::name_of(cpu::level()));
  ReferenceDevice reference(Arithmetic::kExact);
  std::vector<float> expected;
  for (const cpu::Level level : cpu::supported_levels()) {
    ASSERT_TRUE(cpu::force(cpu::name_of(level)).ok());
    for (const std::size_t threads : {1u, 3u}) {
      LoadedModel model(disk.folder.path(), Arithmetic::kExact, {}, threads);
      if (expected.empty()) expected = model.logits(reference, ids, {kTokens});
      for (const std::vector<std::size_t>& pieces : {std::vector<std::size_t>{1}, {5, 13, 2, 31}, {kTokens}}) {
        EXPECT_LE(difference(model.logits(ids, pieces), expected), 1e-5) << cpu::name_of(level) << " " << threads;
      }
    }
  }
  ASSERT_TRUE(cpu::force(before).ok());
}

// A change of one token reaches later positions (through the state, whatever the window) and no earlier one.
TEST(Forward, NoPositionSeesTheFuture) {
  const OnDisk disk;
  LoadedModel model(disk.folder.path());
  auto ids = some_ids(kTokens);
  const auto before = model.logits(ids, {kTokens});
  const std::size_t at = 50;
  ids[at] ^= 1;
  const auto after = model.logits(ids, {kTokens});
  const std::size_t split = at * 256;
  EXPECT_LE(difference(std::span(after).first(split), std::span(before).first(split)), 1e-6);
  EXPECT_GT(difference(std::span(after).subspan(split, 256), std::span(before).subspan(split, 256)), 1e-2);
  EXPECT_GT(difference(std::span(after).subspan(split + 256), std::span(before).subspan(split + 256)), 1e-2);
}

// Without the SSM layers' memory a window is a hard edge. Layer kinds follow from the count, so the state is silenced
// instead: C, which reads it, is zero.
TEST(Forward, AttentionEndsAtTheWindow) {
  Config config = tiny_config();
  config.num_layers = 3;  // ssm, swa_moe, ssm_moe: one attention layer
  config.ssm_d_conv = 1;
  FileTensors tensors = tiny_tensors(config);
  for (const char* name : {"layer_0.ssm.x_proj.weight", "layer_2.ssm.x_proj.weight"}) {
    FileTensor& t = tensors.at(name);  // [2N+1, E]: B, C, dt
    std::fill_n(t.bytes.begin() + 4 * 128 * 4, 4 * 128 * 4, std::byte{0});
  }
  const Folder folder;
  put_model(folder, config, tensors);
  LoadedModel model(folder.path());
  auto ids = some_ids(40);
  const auto before = model.logits(ids, {1});
  ids[10] ^= 1;
  const auto after = model.logits(ids, {1});
  const auto row = [](const std::vector<float>& logits, std::size_t i) {
    return std::span(logits).subspan(i * 256, 256);
  };
  EXPECT_GT(difference(row(after, 17), row(before, 17)), 1e-3);  // 17 - 10 = 7 < 8
  EXPECT_EQ(difference(row(after, 18), row(before, 18)), 0.0);
  EXPECT_EQ(difference(row(after, 9), row(before, 9)), 0.0);
}

// In fast arithmetic activations are rounded to int8 steps. Another order of float sums now and then moves one across
// the border of a step, which shows in that token's logits and, through state and keys, in some after it: at most 4 %
// of the largest logit here (three times what was seen). All others agree as floats do, and most tokens are such.
void expect_equal_but_for_steps(const std::vector<float>& came, const std::vector<float>& expected) {
  const std::size_t rows = expected.size() / 256;
  std::size_t agree = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const double most = difference(std::span(came).subspan(r * 256, 256), std::span(expected).subspan(r * 256, 256));
    EXPECT_LE(most, 4e-2) << "token " << r;
    if (most <= 1e-5) ++agree;
  }
  EXPECT_GE(agree, rows / 2);
}

TEST(Forward, FastArithmeticDoesNotDependOnPiecesEither) {
  const OnDisk disk(kQ8);
  LoadedModel model(disk.folder.path(), Arithmetic::kFast);
  const auto ids = some_ids(64);
  const auto whole = model.logits(ids, {64});
  for (const std::vector<std::size_t>& pieces : {std::vector<std::size_t>{1}, {7}, {33, 1, 20}, {63}}) {
    expect_equal_but_for_steps(model.logits(ids, pieces), whole);
  }
}

TEST(Forward, FastArithmeticEqualsItsReference) {
  for (const WeightFormat& format : {kQ8, WeightFormat{.kind = WeightFormat::kAffine, .bits = 4, .group_size = 64}}) {
    const OnDisk disk(format);
    LoadedModel model(disk.folder.path(), Arithmetic::kFast), exact(disk.folder.path(), Arithmetic::kExact);
    ReferenceDevice reference(Arithmetic::kFast);
    const auto ids = some_ids(64);
    const auto expected = model.logits(reference, ids, {64});
    expect_equal_but_for_steps(model.logits(ids, {64}), expected);
    expect_equal_but_for_steps(model.logits(ids, {1}), expected);
    // It is another arithmetic: the exact one differs by more than float rounding.
    EXPECT_GT(difference(exact.logits(ids, {64}), expected), 1e-3);
  }
}

// Weights may be finite and still so large that sums are not: the logits are then worthless, but nothing breaks.
TEST(Forward, EnormousWeightsBreakNothing) {
  for (const WeightFormat& format : {WeightFormat{}, kQ8}) {
    FileTensors tensors = tiny_tensors(tiny_config(), 1, format);
    for (auto& [name, tensor] : tensors) {
      if (!is_float(tensor.dtype) || name.find("A_log") != std::string::npos) continue;
      for (std::size_t i = 0; i < tensor.bytes.size() / size_of(tensor.dtype); ++i) {
        const float value = load_float(tensor.dtype, tensor.bytes.data(), i);
        const float most = tensor.dtype == DType::kF16 ? 60000.0f : 3e38f;
        store_float(tensor.dtype, tensor.bytes.data(), i, value < 0 ? -most : most);
      }
    }
    const Folder folder;
    put_model(folder, tiny_config(), tensors);
    const auto ids = some_ids(20);
    for (const Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kFast}) {
      LoadedModel model(folder.path(), arithmetic);
      EXPECT_EQ(model.logits(ids, {13, 1}).size(), 20u * 256u);
    }
  }
}

}  // namespace
}  // namespace axon
