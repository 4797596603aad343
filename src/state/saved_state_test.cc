#include "state/saved_state.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/random.h"
#include "io/test_files.h"
#include "kernels/reference_device.h"

namespace axon {
namespace {

using namespace testing_files;

constexpr std::size_t kWindow = 90;

// ssm, attention, attention, ssm without a tail.
std::vector<LayerStateShape> shapes(std::size_t window = kWindow) {
  return {{.inner = 24, .state = 3, .taps = 4},
          {.attention = true, .heads = 2, .head_dim = 16, .capacity = window},
          {.attention = true, .heads = 1, .head_dim = 32, .capacity = window},
          {.inner = 16, .state = 2, .taps = 1}};
}

struct Sequence {
  explicit Sequence(const KvType& kv, std::size_t window = kWindow)
      : state(SequenceState::create(ledger, shapes(window), kv).value()) {}
  // Takes in `tokens`, each with values that depend on its position.
  void read(std::size_t tokens) {
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::uint64_t p = state.position();
      for (std::size_t i = 0; i < state.shapes().size(); ++i) {
        if (state.shapes()[i].attention) {
          const KvCache& kv = state.kv(i);
          const std::size_t width = kv.heads * kv.head_dim;
          std::vector<float> k(width), v(width);
          for (std::size_t j = 0; j < width; ++j) {
            k[j] = CounterRng(1, i).normal(p * width + j);
            v[j] = CounterRng(2, i).normal(p * width + j);
          }
          device.append({k.data(), 1, width}, {v.data(), 1, width}, p, kv);
          continue;
        }
        for (const Mat<float> m : {state.ssm(i).h, state.ssm(i).tail}) {
          for (std::size_t j = 0; j < m.rows * m.cols; ++j) m.data[j] += CounterRng(3, i).normal(p + 1000 * j);
        }
      }
      state.advance(1);
    }
  }
  StateTarget target() const { return {state.shapes(), state.kv_type(), "model 1", 1000, 300}; }
  Ledger ledger{16_MiB};
  ReferenceDevice device{Arithmetic::kExact};
  SequenceState state;
};

// All keys and values that are still held, and the other states.
std::vector<float> contents(SequenceState& state) {
  std::vector<float> out;
  for (std::size_t i = 0; i < state.shapes().size(); ++i) {
    if (!state.shapes()[i].attention) {
      for (const Mat<float> m : {state.ssm(i).h, state.ssm(i).tail}) {
        out.insert(out.end(), m.data, m.data + m.rows * m.cols);
      }
      continue;
    }
    const KvCache& kv = state.kv(i);
    const std::uint64_t passed = state.position(), held = std::min<std::uint64_t>(passed, kv.capacity);
    for (std::size_t h = 0; h < kv.heads; ++h) {
      if (kv.layout != nullptr) {
        std::vector<float> k(held * kv.head_dim), v(k);
        turboquant::read(kv.head(h), passed - held, passed, {k.data(), held, kv.head_dim},
                         {v.data(), held, kv.head_dim});
        out.insert(out.end(), k.begin(), k.end());
        out.insert(out.end(), v.begin(), v.end());
        out.push_back(static_cast<float>(kv.head(h).header().key_exponent));
        continue;
      }
      for (const void* ring : {kv.k, kv.v}) {
        for (std::size_t j = h * kv.capacity * kv.head_dim; j < (h * kv.capacity + held) * kv.head_dim; ++j) {
          out.push_back(kv.dtype == DType::kF32 ? static_cast<const float*>(ring)[j]
                                                : f16_to_float(static_cast<const std::uint16_t*>(ring)[j]));
        }
      }
    }
  }
  return out;
}

StateNotes notes() { return {.model = "model 1", .made_with = "--this and --that", .values = {{"a", "b"}}}; }

Status restore(const std::string& path, Sequence& into, StateTarget target) {
  const SavedState saved = AXON_TRY(SavedState::open(path));
  return saved.restore(target, into.state);
}
std::string refusal(const std::string& path, Sequence& into, const StateTarget& target) {
  const Status status = restore(path, into, target);
  EXPECT_EQ(into.state.position(), 0u);
  return status.ok() ? std::string() : status.error().message;
}

TEST(SavedState, GoesOnToTheBitForEveryKvType) {
  const Folder folder;
  const std::string path = folder / "state";
  for (const KvType& kv : kv_types()) {
    // Empty; a tail half full; full; after a flush; tiles half full; before, at and far behind the ring's wrap.
    for (const std::size_t before : {0u, 3u, 17u, 32u, 40u, 41u, 49u, 80u, 89u, 90u, 91u, 205u}) {
      SCOPED_TRACE(fmt::format("{} after {} tokens", kv.name(), before));
      Sequence whole(kv), fresh(kv);
      whole.read(before);
      fresh.read(131);  // what was remembered before must not shine through
      ASSERT_TRUE(save_state(whole.state, notes(), path).ok());
      const Status status = restore(path, fresh, whole.target());
      ASSERT_TRUE(status.ok()) << status.error().message;
      EXPECT_EQ(fresh.state.position(), before);
      EXPECT_EQ(contents(fresh.state), contents(whole.state));
      whole.read(60);
      fresh.read(60);
      EXPECT_EQ(contents(fresh.state), contents(whole.state));
    }
  }
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(SavedState, AShortSequenceMakesASmallFile) {
  const Folder folder;
  for (const KvType& kv : kv_types()) {
    Sequence sequence(kv, 4096);
    sequence.read(14);
    ASSERT_TRUE(save_state(sequence.state, notes(), folder / "state").ok());
    EXPECT_LT(std::filesystem::file_size(folder / "state"), 16u << 10) << kv.name();
  }
}

// Also in the unused part of a tile, which is written with the rest of it.
TEST(SavedState, AForgottenSequenceIsNotInTheFile) {
  const Folder folder;
  for (const KvType& kv : kv_types()) {
    for (const std::size_t tokens : {0u, 12u, 50u, 130u}) {
      Sequence fresh(kv), used(kv);
      used.read(205);
      used.state.reset();
      for (Sequence* sequence : {&fresh, &used}) sequence->read(tokens);
      ASSERT_TRUE(save_state(fresh.state, notes(), folder / "fresh").ok());
      ASSERT_TRUE(save_state(used.state, notes(), folder / "used").ok());
      EXPECT_EQ(get(folder / "used"), get(folder / "fresh")) << kv.name() << " after " << tokens;
    }
  }
}

TEST(SavedState, NotesComeBack) {
  const Folder folder;
  Sequence one(DType::kF16), two(DType::kF16);
  one.read(5);
  const std::vector<std::uint32_t> unread = {299, 0, 7};
  const std::vector<std::uint64_t> seen = {~std::uint64_t{0}, 5};
  StateNotes with = notes();
  with.unread = unread;
  with.seen = seen;
  ASSERT_TRUE(save_state(one.state, with, folder / "state").ok());
  auto saved = SavedState::open(folder / "state");
  ASSERT_TRUE(saved.ok()) << saved.error().message;
  EXPECT_EQ(saved.value().position(), 5u);
  EXPECT_EQ(saved.value().made_with(), "--this and --that");
  EXPECT_EQ(*saved.value().value("a"), "b");
  EXPECT_EQ(saved.value().value("format"), nullptr);
  EXPECT_TRUE(saved.value().restore(two.target(), two.state).ok());
  EXPECT_EQ(saved.value().unread(), unread);
  EXPECT_EQ(saved.value().seen(), seen);
}

TEST(SavedState, RefusesWhatDoesNotFitByName) {
  const Folder folder;
  const std::string path = folder / "state";
  const KvType tq3 = parse_kv_type("tq3").value();
  Sequence sequence(tq3), other(tq3), wide(tq3, 91), half(DType::kF16);
  sequence.read(50);
  const std::vector<std::uint32_t> unread = {299};
  StateNotes with = notes();
  with.unread = unread;
  ASSERT_TRUE(save_state(sequence.state, with, path).ok());
  StateTarget target = sequence.target();
  target.model = "model 2";
  EXPECT_EQ(refusal(path, other, target),
            path +
                ": a state of another model, other weights or another precision: model 1, but this run's is model 2; "
                "it was made with --this and --that");
  EXPECT_EQ(refusal(path, half, half.target()),
            path + ": its KV type is tq3, but this run's is fp16; it was made with --this and --that");
  EXPECT_EQ(refusal(path, wide, wide.target()),
            path +
                ": its KV ring (the smaller of context and attention window, in tokens) is 90, but this run's is 91; "
                "it was made with --this and --that");
  target = sequence.target();
  target.context = 49;
  EXPECT_EQ(refusal(path, other, target), path + ": remembers 50 tokens, but the context is 49");
  target = sequence.target();
  target.vocab_size = 299;
  EXPECT_EQ(refusal(path, other, target), path + ": has an unread token 299, but the vocabulary has 299");
  EXPECT_TRUE(restore(path, other, sequence.target()).ok());
}

// The file with `from` replaced by `to`, which is as long, and its checksum left as it was.
std::string changed(std::string file, std::string_view from, std::string_view to) {
  AXON_CHECK(from.size() == to.size() && file.find(from) != std::string::npos);
  return file.replace(file.find(from), from.size(), to);
}

TEST(SavedState, DamageIsFoundAndLeavesAnEmptyState) {
  const Folder folder;
  const std::string path = folder / "state";
  const KvType tq4 = parse_kv_type("tq4").value();
  Sequence sequence(tq4), other(tq4);
  const std::vector<float> empty = contents(other.state);
  sequence.read(70);
  ASSERT_TRUE(save_state(sequence.state, notes(), path).ok());
  const std::string good = get(path);
  const auto message = [&](const std::string& bytes) {
    auto saved = SavedState::parse(bytes_of(bytes), "file");
    if (!saved.ok()) return saved.error().message;
    other.read(9);
    const Status status = saved.value().restore(sequence.target(), other.state);
    if (status.ok()) return std::string();
    EXPECT_EQ(other.state.position(), 0u);
    EXPECT_EQ(contents(other.state), empty);
    return status.error().message;
  };
  for (std::size_t size = 0; size < good.size(); size += 37) EXPECT_NE(message(good.substr(0, size)), "") << size;
  for (std::size_t at = 0; at < good.size(); at += 5) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 16);
    if (good[at] != ' ') {  // the header is padded with spaces
      EXPECT_NE(message(bad), "") << at;
    }
  }
  const auto expect = [&](std::string_view from, std::string_view to, std::string_view why) {
    const std::string got = message(changed(good, from, to));
    EXPECT_EQ(got.substr(0, why.size()), why);
  };
  expect(fmt::format("{:016x}", turboquant::codebook_id(*tq4.layout, 16)), "0123456789abcdef",
         "file: its codebook of tq4 is 0123456789abcdef,");
  expect("\"position\":\"70\"", "\"position\":\"x0\"", "file: position is \"x0\", expected a number");
  expect("\"position\":\"70\"", "\"position\":\"12\"", "file: tensor \"layer_1.kv\" is U8 [2, ");
  expect("\"position\":\"70\"", "\"position\":\"71\"", "file: its checksum is");
  expect("\"version\":\"1\"", "\"version\":\"2\"",
         "file: a saved state of version \"2\", this program reads version 1");
  expect("bit-axon state", "bit-axon stage", "file: no saved state: its metadata has no format \"bit-axon state\"");
  expect("layer_1.kv", "layer_9.kv", "file: tensor \"layer_1.kv\" is missing, expected U8 [2, ");
  EXPECT_EQ(message(good), "");
  put(path, good.substr(0, good.size() - 1));
  const auto cut = SavedState::open(path);
  ASSERT_FALSE(cut.ok());
  EXPECT_TRUE(cut.error().message.starts_with(path + ": ")) << cut.error().message;
}

TEST(SavedState, ScalesThatNoFloatHasAreRefused) {
  const Folder folder;
  const KvType tq4 = parse_kv_type("tq4").value();
  for (const int exponent : {161, -161, 1 << 30}) {
    Sequence sequence(tq4), other(tq4);
    sequence.read(50);
    sequence.state.kv(2).head(0).header().value_exponent = exponent;
    ASSERT_TRUE(save_state(sequence.state, notes(), folder / "state").ok());
    EXPECT_EQ(
        refusal(folder / "state", other, sequence.target()),
        fmt::format("{}: layer 2, head 0: a scale exponent of {}, expected -160 to 160", folder / "state", exponent));
  }
}

TEST(SavedState, AFailedSaveLeavesTheOlderFile) {
  const Folder folder;
  Sequence sequence(DType::kF32);
  std::filesystem::create_directory(folder / "taken");
  EXPECT_FALSE(save_state(sequence.state, notes(), folder / "taken").ok());
  EXPECT_FALSE(save_state(sequence.state, notes(), folder / "no/state").ok());
  put(folder / "state", "older");
  StateNotes bad = notes();
  bad.made_with = "\xFF";
  EXPECT_FALSE(save_state(sequence.state, bad, folder / "state").ok());
  EXPECT_EQ(get(folder / "state"), "older");
  EXPECT_EQ(folder.entries(), 2u);
}

}  // namespace
}  // namespace axon
