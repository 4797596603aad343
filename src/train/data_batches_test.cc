#include "train/data_batches.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "train/data_for_test.h"
#include "train/data_set.h"

namespace axon::train {
namespace {

using testing::numbered;
using testing::ok;

constexpr std::size_t kMaxSeqLen = 12;
constexpr TokenId kStride = 100;  // ids of example i are 100 i, 100 i + 1, ...; of a rejected one from 100 i + 50

// Tokens at the start of an example that are not learned: at least its last one is.
std::size_t masked(std::size_t length) { return length / 2; }

TokenExamples examples(std::span<const int> lengths, bool pairs) {
  std::vector<Example> out;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(lengths[i]);
    const auto first = static_cast<TokenId>(i) * kStride;
    Example example{{numbered(first, length, masked(length)), {}}};
    if (pairs) example.sequences[1] = numbered(first + 50, kMaxSeqLen + 2 - length, masked(kMaxSeqLen + 2 - length));
    out.push_back(std::move(example));
  }
  return ok(TokenExamples::create(std::move(out), kMaxSeqLen, pairs));
}

// A batch copied out of its buffers.
struct Copy {
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::vector<std::uint32_t>> labels, lines;
  std::vector<std::uint32_t> in_order;  // lines of all rows
  bool operator==(const Copy&) const = default;
};

Copy copy(const Batch& batch) {
  Copy out;
  for (const Row& row : batch.rows) {
    out.ids.emplace_back(row.ids.begin(), row.ids.end());
    out.labels.emplace_back(row.labels.begin(), row.labels.end());
    out.lines.emplace_back(row.lines.begin(), row.lines.end());
    out.in_order.insert(out.in_order.end(), row.lines.begin(), row.lines.end());
  }
  return out;
}

// Everything that rows promise, whatever the options (but the original's).
void check_rows(const Batch& batch, const ExampleSource& source) {
  std::uint64_t tokens = 0, targets = 0, count = 0;
  for (const Row& row : batch.rows) {
    ASSERT_FALSE(row.ids.empty());
    ASSERT_LE(row.ids.size(), Batches::row_capacity(source.max_seq_len(), source.pairs()));
    ASSERT_EQ(row.ids.size(), row.labels.size());
    std::uint32_t at = 0;
    for (const Segment& segment : row.segments) {
      ASSERT_EQ(segment.begin, at);
      const ExampleShape shape = source.shape(segment.line - 1);
      const bool rejected = segment.role == SegmentRole::kRejected;
      ASSERT_EQ(segment.end - segment.begin, shape.tokens[rejected ? 1 : 0] - 1) << "an example was split";
      const TokenId first = (segment.line - 1) * kStride + (rejected ? 50 : 0);
      std::uint32_t labelled = 0;
      for (std::uint32_t t = segment.begin; t < segment.end; ++t) {
        ASSERT_EQ(row.ids[t], first + t - segment.begin);
        const std::size_t next = t - segment.begin + 1;
        if (next < masked(segment.end - segment.begin + 1)) {
          ASSERT_EQ(row.labels[t], kIgnore);
          continue;
        }
        ASSERT_EQ(row.labels[t], row.ids[t] + 1) << "a label from beyond the border";
        ++labelled;
      }
      ASSERT_EQ(labelled, segment.targets);
      targets += labelled;
      at = segment.end;
    }
    ASSERT_EQ(at, row.ids.size());
    ASSERT_EQ(row.lines.size() * (source.pairs() ? 2 : 1), row.segments.size());
    for (std::size_t i = 0; source.pairs() && i < row.segments.size(); ++i) {
      ASSERT_EQ(row.segments[i].role, i % 2 == 0 ? SegmentRole::kChosen : SegmentRole::kRejected);
      ASSERT_EQ(row.segments[i].line, row.lines[i / 2]);
    }
    tokens += row.ids.size();
    count += row.lines.size();
  }
  EXPECT_EQ(batch.tokens, tokens);
  EXPECT_EQ(batch.targets, targets);
  EXPECT_EQ(batch.examples, count);
}

struct Drawn {
  std::vector<int> lengths;
  bool pairs;
  BatchOptions options;
};

Drawn draw() {
  Drawn drawn;
  drawn.lengths =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(2, static_cast<int>(kMaxSeqLen) + 1)));
  drawn.pairs = *rc::gen::arbitrary<bool>();
  drawn.options = {.batch_size = *rc::gen::inRange<std::size_t>(1, 5),
                   .pack = *rc::gen::arbitrary<bool>(),
                   .shuffle = *rc::gen::arbitrary<bool>(),
                   .seed = *rc::gen::arbitrary<std::uint64_t>(),
                   .repeat = *rc::gen::arbitrary<bool>()};
  return drawn;
}

RC_GTEST_PROP(DataBatches, RowsAreWhatTheyPromise, ()) {
  const Drawn drawn = draw();
  const TokenExamples source = examples(drawn.lengths, drawn.pairs);
  Ledger ledger(64_MiB);
  Batches batches = ok(Batches::create(source, drawn.options, ledger));
  RC_ASSERT(ledger.used() == Batches::bytes(source.size(), kMaxSeqLen, drawn.pairs, drawn.options));
  for (int step = 0; step < 20; ++step) {
    const Batch batch = ok(batches.next());
    check_rows(batch, source);
    if (!drawn.options.repeat) continue;
    if (drawn.options.pack)
      RC_ASSERT(batch.rows.size() == drawn.options.batch_size);
    else
      RC_ASSERT(batch.examples == drawn.options.batch_size);
  }
}

RC_GTEST_PROP(DataBatches, EveryExampleOnceAnEpoch, ()) {
  const Drawn drawn = draw();
  const TokenExamples source = examples(drawn.lengths, drawn.pairs);
  Ledger ledger(64_MiB);
  Batches batches = ok(Batches::create(source, drawn.options, ledger));
  std::vector<std::uint32_t> seen;
  const std::size_t wanted = (drawn.options.repeat ? 3 : 1) * source.size();
  while (seen.size() < wanted && !batches.finished()) {
    const Copy batch = copy(ok(batches.next()));
    seen.insert(seen.end(), batch.in_order.begin(), batch.in_order.end());
  }
  RC_ASSERT(seen.size() >= wanted);
  if (!drawn.options.repeat) {
    RC_ASSERT(seen.size() == wanted);
    RC_ASSERT(batches.finished() && ok(batches.next()).rows.empty());
  }
  for (std::size_t epoch = 0; (epoch + 1) * source.size() <= seen.size(); ++epoch) {
    const auto begin = seen.begin() + static_cast<std::ptrdiff_t>(epoch * source.size());
    const std::set<std::uint32_t> distinct(begin, begin + static_cast<std::ptrdiff_t>(source.size()));
    RC_ASSERT(distinct.size() == source.size());
  }
}

RC_GTEST_PROP(DataBatches, RanksTogetherAreOneRank, ()) {
  Drawn drawn = draw();
  const TokenExamples source = examples(drawn.lengths, drawn.pairs);
  Ledger ledger(64_MiB);
  BatchOptions whole = drawn.options;
  drawn.options.world = *rc::gen::inRange<std::size_t>(1, 5);
  whole.batch_size *= drawn.options.world;
  Batches one = ok(Batches::create(source, whole, ledger));
  std::vector<Batches> ranks;
  for (std::size_t rank = 0; rank < drawn.options.world; ++rank) {
    drawn.options.rank = rank;
    ranks.push_back(ok(Batches::create(source, drawn.options, ledger)));
  }
  for (int step = 0; step < 10; ++step) {
    const Copy expected = copy(ok(one.next()));
    Copy together;
    for (Batches& rank : ranks) {
      const Batch batch = ok(rank.next());
      check_rows(batch, source);
      const Copy part = copy(batch);
      together.in_order.insert(together.in_order.end(), part.in_order.begin(), part.in_order.end());
      together.ids.insert(together.ids.end(), part.ids.begin(), part.ids.end());
      RC_ASSERT(rank.position() == one.position());
      RC_ASSERT(rank.finished() == one.finished());
    }
    RC_ASSERT(together.in_order == expected.in_order);
    if (drawn.options.pack) RC_ASSERT(together.ids == expected.ids);
  }
}

RC_GTEST_PROP(DataBatches, RestoredAnywhereIsUninterrupted, ()) {
  Drawn drawn = draw();
  drawn.options.compat = *rc::gen::arbitrary<bool>();
  if (drawn.options.compat) {
    drawn.options.pack = false;
    drawn.options.seed &= 0xFFFFFFFFu;
    drawn.options.batch_size = 1;
  }
  const TokenExamples source = examples(drawn.lengths, drawn.pairs);
  Ledger ledger(64_MiB);
  Batches first = ok(Batches::create(source, drawn.options, ledger));
  for (int steps = *rc::gen::inRange(0, 12); steps-- > 0;) ok(first.next());
  Batches second = ok(Batches::create(source, drawn.options, ledger));
  for (int steps = *rc::gen::inRange(0, 3); steps-- > 0;) ok(second.next());
  ok(second.restore(first.position()));
  for (int step = 0; step < 8; ++step) {
    RC_ASSERT(copy(ok(second.next())) == copy(ok(first.next())));
    RC_ASSERT(second.position() == first.position());
  }
}

RC_GTEST_PROP(DataBatches, APackedRowEndsWhereTheNextExampleDoesNotFit, ()) {
  Drawn drawn = draw();
  drawn.options.pack = true;
  const TokenExamples source = examples(drawn.lengths, drawn.pairs);
  Ledger ledger(64_MiB);
  Batches batches = ok(Batches::create(source, drawn.options, ledger));
  std::size_t room = 0;  // in the row before
  for (int step = 0; step < 10; ++step) {
    for (const Row& row : ok(batches.next()).rows) {
      RC_ASSERT(room < source.shape(row.lines[0] - 1).positions());
      room = Batches::row_capacity(kMaxSeqLen, drawn.pairs) - row.ids.size();
    }
  }
}

TEST(DataBatches, ShortExamplesShareARow) {
  const std::vector<int> lengths{6, 8, 2, 12, 3};  // positions 5 7 | 1 11 | 2
  const TokenExamples source = examples(lengths, false);
  Ledger ledger(1_MiB);
  Batches batches = ok(Batches::create(source, {.batch_size = 5, .shuffle = false}, ledger));
  const Copy batch = copy(ok(batches.next()));
  EXPECT_EQ(batch.lines, (std::vector<std::vector<std::uint32_t>>{{1, 2}, {3, 4}, {5}}));
}

TEST(DataBatches, PositionsCountEpochs) {
  const std::vector<int> lengths{3, 3, 3};
  const TokenExamples source = examples(lengths, false);
  Ledger ledger(1_MiB);
  Batches batches = ok(Batches::create(source, {.batch_size = 2}, ledger));
  ok(batches.next());
  EXPECT_EQ(batches.position(), (DataPosition{0, 2}));
  ok(batches.next());
  EXPECT_EQ(batches.position(), (DataPosition{1, 1}));
}

// Reads that fail, until they are allowed.
class Failing : public ExampleSource {
 public:
  explicit Failing(const TokenExamples& source) : source_(source) {}
  bool fails = false;
  std::size_t size() const override { return source_.size(); }
  std::size_t max_seq_len() const override { return source_.max_seq_len(); }
  bool pairs() const override { return source_.pairs(); }
  ExampleShape shape(std::size_t index) const override { return source_.shape(index); }
  Status read(std::size_t index, Example& out) const override {
    if (fails && index == 3) return make_error(ErrorCode::kIo, "line 4");
    return source_.read(index, out);
  }
  std::uint64_t fingerprint() const override { return source_.fingerprint(); }

 private:
  const TokenExamples& source_;
};

TEST(DataBatches, AnErrorLeavesThePosition) {
  const std::vector<int> lengths{6, 8, 2, 12, 3};
  const TokenExamples source = examples(lengths, false);
  for (const bool compat : {false, true}) {
    Ledger ledger(1_MiB);
    Failing failing(source);
    const BatchOptions options{.batch_size = 2, .shuffle = false, .compat = compat};
    Batches batches = ok(Batches::create(failing, options, ledger));
    Batches uninterrupted = ok(Batches::create(source, options, ledger));
    failing.fails = true;
    while (true) {
      const DataPosition before = batches.position();
      const auto batch = batches.next();
      if (batch.ok()) {
        ok(uninterrupted.next());
        continue;
      }
      EXPECT_EQ(batch.error().message, "line 4");
      EXPECT_EQ(batches.position(), before);
      break;
    }
    failing.fails = false;
    EXPECT_EQ(copy(ok(batches.next())), copy(ok(uninterrupted.next())));
  }
}

TEST(DataBatches, BadOptionsAndPositions) {
  const std::vector<int> lengths{3, 3, 3};
  const TokenExamples source = examples(lengths, false);
  Ledger ledger(1_MiB);
  const auto refused = [&](const BatchOptions& options) {
    const auto batches = Batches::create(source, options, ledger);
    return batches.ok() ? "accepted" : batches.error().message;
  };
  EXPECT_EQ(refused({.batch_size = 0}), "batch size: expected from 1 to 2147483647, came 0");
  EXPECT_EQ(refused({.rank = 2, .world = 2}), "rank: expected less than 2, came 2");
  EXPECT_EQ(refused({.world = 0}), "number of ranks: expected from 1 to 2147483647, came 0");
  EXPECT_EQ(refused({.world = 2, .compat = true}), "number of ranks: expected 1 with the original's batches, came 2");
  EXPECT_EQ(refused({.pack = true, .compat = true}),
            "packing: expected none beside the original's own, came the option");
  EXPECT_EQ(refused({.seed = 1ull << 32, .compat = true}),
            "seed: expected less than 2^32 for numpy's shuffle, came 4294967296");
  Batches batches = ok(Batches::create(source, {}, ledger));
  EXPECT_FALSE(batches.restore({0, 3}).ok());
  EXPECT_FALSE(batches.restore({~0ull, 0}).ok());
  EXPECT_TRUE(batches.restore({5, 2}).ok());
  Batches once = ok(Batches::create(source, {.repeat = false}, ledger));
  EXPECT_FALSE(once.restore({1, 1}).ok());
  EXPECT_TRUE(once.restore({1, 0}).ok());
  EXPECT_TRUE(once.finished());
  Batches compat = ok(Batches::create(source, {.compat = true}, ledger));
  const auto far = compat.restore({0, 9});
  ASSERT_FALSE(far.ok());
  EXPECT_EQ(far.error().message, "data position: an epoch has fewer than 9 packed rows");
  EXPECT_EQ(ok(compat.next()).rows.size(), 1u);
}

}  // namespace
}  // namespace axon::train
