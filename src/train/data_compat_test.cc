// The Python original's batches: what was recorded of them, and its rules where nothing was.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "io/json_value.h"
#include "io/safetensors.h"
#include "train/data_batches.h"
#include "train/data_for_test.h"
#include "train/data_set.h"

namespace axon::train {
namespace {

using testing::numbered;
using testing::ok;

const std::string kRecorded = AXON_SOURCE_DIR "/tests/golden/mlx-tiny/train/";

// dataset.json: a list of [ids, mask].
std::vector<Example> recorded_examples() {
  std::stringstream text;
  text << std::ifstream(kRecorded + "dataset.json").rdbuf();
  const JsonValue list = ok(read_json_value(text.str(), "dataset.json"));
  std::vector<Example> out;
  for (const JsonValue& item : *list.get<JsonValue::Array>()) {
    const auto& parts = *item.get<JsonValue::Array>();
    Example example;
    for (const JsonValue& id : *parts[0].get<JsonValue::Array>()) {
      example.sequences[0].ids.push_back(static_cast<TokenId>(*id.get<std::uint64_t>()));
    }
    for (const JsonValue& bit : *parts[1].get<JsonValue::Array>()) {
      example.sequences[0].trained.push_back(static_cast<std::uint8_t>(*bit.get<std::uint64_t>()));
    }
    out.push_back(std::move(example));
  }
  return out;
}

std::vector<std::int32_t> recorded(const Safetensors& file, const std::string& name) {
  const TensorView* tensor = file.find(name);
  AXON_CHECK(tensor != nullptr && tensor->dtype == DType::kI32 && tensor->shape == (Shape{2, 31}));
  std::vector<std::int32_t> out(62);
  std::copy_n(tensor->bytes.data(), tensor->bytes.size(), reinterpret_cast<std::byte*>(out.data()));
  return out;
}

TEST(DataCompat, TheRecordedBatches) {
  const Safetensors file = ok(Safetensors::open(kRecorded + "batches.safetensors"));
  const TokenExamples source = ok(TokenExamples::create(recorded_examples(), 32, false));
  Ledger ledger(1_MiB);
  Batches batches = ok(Batches::create(source, {.batch_size = 2, .compat = true}, ledger));
  for (int step = 0; step < 12; ++step) {
    const Batch batch = ok(batches.next());
    ASSERT_EQ(batch.rows.size(), 2u);
    std::vector<std::int32_t> ids, labels;
    for (const Row& row : batch.rows) {
      EXPECT_EQ(row.segments.size(), 1u);
      for (const TokenId id : row.ids) ids.push_back(static_cast<std::int32_t>(id));
      for (const std::uint32_t label : row.labels)
        labels.push_back(label == kIgnore ? -100 : static_cast<std::int32_t>(label));
    }
    EXPECT_EQ(ids, recorded(file, fmt::format("ids.{}", step))) << step;
    EXPECT_EQ(labels, recorded(file, fmt::format("labels.{}", step))) << step;
  }
}

TokenExamples five() {
  std::vector<Example> out;
  for (TokenId i = 0; i < 5; ++i) out.push_back({{numbered(10 * (i + 1), 4, 1), {}}});
  return ok(TokenExamples::create(std::move(out), 8, false));
}

TEST(DataCompat, PacksAcrossBordersAndPadsTheLastRow) {
  const TokenExamples source = five();
  Ledger ledger(1_MiB);
  // 4 + (1 + 4) x 4 = 24 tokens, but the third row begins with a separator's successor: rows of 8 are full.
  Batches batches = ok(Batches::create(
      source, {.batch_size = 2, .shuffle = false, .repeat = false, .compat = true, .compat_separator = 7}, ledger));
  const Batch first = ok(batches.next());
  const auto ids = [](const Row& row) { return std::vector<TokenId>(row.ids.begin(), row.ids.end()); };
  EXPECT_EQ(ids(first.rows[0]), (std::vector<TokenId>{10, 11, 12, 13, 7, 20, 21}));
  EXPECT_EQ(ids(first.rows[1]), (std::vector<TokenId>{23, 7, 30, 31, 32, 33, 7}));
  EXPECT_EQ(std::vector<std::uint32_t>(first.rows[0].labels.begin(), first.rows[0].labels.end()),
            (std::vector<std::uint32_t>{11, 12, 13, kIgnore, kIgnore, 21, 22}));
  EXPECT_EQ(std::vector<std::uint32_t>(first.rows[1].lines.begin(), first.rows[1].lines.end()),
            (std::vector<std::uint32_t>{2, 3, 4}));
  EXPECT_EQ(first.examples, 4u);  // the fourth begins with the last token of the second row
  const Batch last = ok(batches.next());
  EXPECT_EQ(ids(last.rows[0]), (std::vector<TokenId>{41, 42, 43, 7, 50, 51, 52}));
  EXPECT_EQ(ids(last.rows[1]), (std::vector<TokenId>(7, 0)));  // what is left of the batch
  EXPECT_EQ(last.rows[1].segments[0].targets, 0u);
  EXPECT_TRUE(batches.finished());
  EXPECT_TRUE(ok(batches.next()).rows.empty());
}

TEST(DataCompat, RepeatingDropsWhatDoesNotFillABatch) {
  const TokenExamples source = five();  // three rows an epoch
  Ledger ledger(1_MiB);
  Batches batches = ok(Batches::create(source, {.batch_size = 2, .shuffle = false, .compat = true}, ledger));
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(ok(batches.next()).rows[0].ids[0], 10u);
    EXPECT_EQ(batches.position(), (DataPosition{static_cast<std::uint64_t>(step), 2}));
  }
  Batches wide = ok(Batches::create(source, {.batch_size = 4, .compat = true}, ledger));
  const auto refused = wide.next();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "batch size: expected at most the packed rows of an epoch, came 4");
}

TEST(DataCompat, PairsArePaddedAndNotShifted) {
  std::vector<Example> pairs;
  for (TokenId i = 0; i < 10; ++i) {
    pairs.push_back({{numbered(100 * i + 1, 3, 2), numbered(100 * i + 51, i == 7 ? 6 : 4, 1)}});
  }
  const TokenExamples source = ok(TokenExamples::create(std::move(pairs), 8, true));
  Ledger ledger(1_MiB);
  Batches batches = ok(Batches::create(source, {.batch_size = 4, .compat = true}, ledger));
  std::vector<std::uint32_t> lines;
  for (int step = 0; step < 6; ++step) {
    const Batch batch = ok(batches.next());
    EXPECT_EQ(batch.rows.size(), step % 3 == 2 ? 2u : 4u);  // an epoch's last batch is kept as it is
    for (const Row& row : batch.rows) lines.push_back(row.lines[0] - 1);
    if (step != 0) continue;
    const Row& row = batch.rows[0];  // the eighth pair comes first
    EXPECT_EQ(std::vector<TokenId>(row.ids.begin(), row.ids.end()),
              (std::vector<TokenId>{701, 702, 703, 0, 0, 0, 751, 752, 753, 754, 755, 756}));
    EXPECT_EQ(std::vector<std::uint32_t>(row.labels.begin(), row.labels.end()),
              (std::vector<std::uint32_t>{kIgnore, kIgnore, 703, kIgnore, kIgnore, kIgnore, kIgnore, 752, 753, 754, 755,
                                          756}));
    ASSERT_EQ(row.segments.size(), 2u);
    EXPECT_EQ(row.segments[1].begin, 6u);
    EXPECT_EQ(row.segments[1].role, SegmentRole::kRejected);
    EXPECT_EQ(batch.rows[1].ids.size(), 12u);
  }
  const std::vector<std::uint32_t> python{7, 3, 2, 8, 5, 6, 9, 4, 0, 1};
  EXPECT_EQ(std::vector<std::uint32_t>(lines.begin(), lines.begin() + 10), python);
  EXPECT_EQ(std::vector<std::uint32_t>(lines.begin() + 10, lines.end()), python);
}

}  // namespace
}  // namespace axon::train
