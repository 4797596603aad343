#include "kernels/cpu/ceilings.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/ceilings_kernels.h"
#include "memory/arena.h"
#include "memory/no_allocation.h"

namespace axon::cpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Words, zero at first, aligned as the probe wants them.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes)
      : arena_(Arena::create(ledger_, account::kWorkspace, {bytes}).value()),
        words_(reinterpret_cast<std::uint64_t*>(arena_.data()), bytes / 8) {}
  std::span<std::uint64_t> words() { return words_; }
  std::span<const std::byte> bytes() const { return std::as_bytes(words_); }

 private:
  Ledger ledger_{64_MiB};
  Arena arena_;
  std::span<std::uint64_t> words_;
};

class CeilingsTest : public ::testing::TestWithParam<Level> {
 protected:
  CeilingsTest() { EXPECT_TRUE(force(name_of(GetParam())).ok()); }
  ~CeilingsTest() override { EXPECT_TRUE(force(name_of(before_)).ok()); }

 private:
  const Level before_ = level();
};
INSTANTIATE_TEST_SUITE_P(Levels, CeilingsTest, ::testing::ValuesIn(supported_levels()),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST_P(CeilingsTest, ReadingSumsEveryWordAndNoOther) {
  for (const std::size_t bytes : {256u, 512u, 768u, 2560u, 262144u, 262400u}) {
    Buffer buffer(256 + bytes + 256);
    const auto words = buffer.words();
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = (i + 1) * 0x9E3779B97F4A7C15u;
      if (i >= 32 && i < words.size() - 32) sum += words[i];
    }
    for (std::size_t way = 0; way < CeilingProbe::kReadWays; ++way) {
      EXPECT_EQ(ceiling::read(way, buffer.bytes().data() + 256, bytes), sum) << bytes << " " << way;
    }
  }
}

// Words of one: the sum is the number of words read, and the bytes counted are those.
TEST_P(CeilingsTest, WhatIsCountedWasRead) {
  Buffer buffer(1 << 20);
  for (auto& word : buffer.words()) word = 1;
  for (const std::size_t threads : {1u, 3u}) {
    ThreadPool pool(threads);
    CeilingProbe probe(pool, buffer.bytes());
    const CeilingSample sample = probe.read(milliseconds(2));
    EXPECT_EQ(sample.count, 8 * sample.checksum);
    EXPECT_GE(sample.time, milliseconds(2));
    EXPECT_TRUE(std::isfinite(sample.per_second()));
    EXPECT_GT(sample.per_second(), 0.0);
  }
}

// With no time each thread does one batch, so the parts of two threads sum to known numbers.
TEST_P(CeilingsTest, EveryThreadReadsItsOwnPart) {
  Buffer buffer(3 * 512 + 128);
  const auto words = buffer.words();
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = i < 64 ? 1 : i < 128 ? 1000 : i < 192 ? 1000000 : 12345;
  ThreadPool pool(3);
  CeilingProbe probe(pool, buffer.bytes());
  for (int call = 0; call < 3; ++call) {
    const CeilingSample sample = probe.read(nanoseconds(0));
    EXPECT_EQ(sample.checksum, 64u * 1001001u);
    EXPECT_EQ(sample.count, 3u * 512u);
  }
}

TEST_P(CeilingsTest, TheFastestWayToReadIsKept) {
  Buffer buffer(1 << 20);
  for (auto& word : buffer.words()) word = 1;
  ThreadPool pool(2);
  CeilingProbe probe(pool, buffer.bytes());
  const auto ways = probe.choose_read(std::chrono::microseconds(100), 3);
  for (const auto& way : ways) {
    EXPECT_TRUE(std::isfinite(way.bytes_per_second));
    EXPECT_GT(way.bytes_per_second, 0.0);
    EXPECT_LE(way.bytes_per_second, ways[probe.chosen_read()].bytes_per_second);
    EXPECT_GT(std::string(way.name).size(), 0u);
  }
  const CeilingSample sample = probe.read(nanoseconds(0));
  EXPECT_EQ(sample.count, 8 * sample.checksum);
}

// A part of two and a half batches: the calls go on where the ones before stopped, and begin again after the end.
TEST_P(CeilingsTest, StreamsGoOnFromCallToCall) {
  constexpr std::size_t kBatch = (256_KiB).count;
  Buffer buffer(5 * kBatch / 2);
  const auto words = buffer.words();
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = std::uint64_t{1} << 20 * (i * 8 / kBatch);
  ThreadPool pool(1);
  CeilingProbe probe(pool, buffer.bytes());
  const std::uint64_t batch = kBatch / 8;
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(probe.read(nanoseconds(0)).checksum, batch);
    EXPECT_EQ(probe.read(nanoseconds(0)).checksum, batch << 20);
    EXPECT_EQ(probe.read(nanoseconds(0)).checksum, (batch / 2) << 40);
  }
}

// The registers count the multiply-adds: what they say is what a whole number of full vectors of 16 sums or fewer
// can have done, the same in every batch, and twice that is counted.
TEST_P(CeilingsTest, OperationsAreThoseTheRegistersCounted) {
  const ceiling::Kernels kernels = ceiling::kernels(GetParam());
  for (const auto kernel : {kernels.int8, kernels.bf16, kernels.fp32}) {
    if (kernel == nullptr) continue;
    const std::uint64_t once = kernel();
    EXPECT_GE(once, ceiling::kTurns);
    EXPECT_EQ(once % ceiling::kTurns, 0u);
    EXPECT_EQ(kernel(), once);
  }
  for (const std::size_t threads : {1u, 3u}) {
    ThreadPool pool(threads);
    Buffer buffer(4096);
    CeilingProbe probe(pool, buffer.bytes());
    const CeilingSample int8 = probe.int8(nanoseconds(0)), fp32 = probe.fp32(nanoseconds(0));
    EXPECT_EQ(int8.checksum, threads * kernels.int8());  // each thread one batch
    EXPECT_EQ(int8.count, 2 * int8.checksum);
    EXPECT_EQ(fp32.checksum, threads * kernels.fp32());
    EXPECT_EQ(fp32.count, 2 * fp32.checksum);
    EXPECT_EQ(probe.bf16(nanoseconds(0)).checksum, kernels.bf16 == nullptr ? 0 : threads * kernels.bf16());
  }
}

TEST_P(CeilingsTest, RatesArePositiveAndNothingIsAllocated) {
  Buffer buffer(1 << 20);
  ThreadPool pool(2);
  CeilingProbe probe(pool, buffer.bytes());
  Ceilings found;
  {
    const NoAllocation sealed;
    found = probe.measure(milliseconds(1));
  }
  for (const double rate : {found.read_bytes, found.int8_ops, found.fp32_flops}) {
    EXPECT_TRUE(std::isfinite(rate));
    EXPECT_GT(rate, 1e6);
  }
  if (ceiling::kernels(GetParam()).bf16 == nullptr) {
    EXPECT_EQ(found.bf16_flops, 0.0);
  } else {
    EXPECT_GT(found.bf16_flops, 1e6);
  }
}

TEST(CeilingSample, SamplesAddUp) {
  CeilingSample sum;
  EXPECT_EQ(sum.per_second(), 0.0);
  sum += {.count = 100, .time = milliseconds(10), .checksum = 5};
  sum += {.count = 200, .time = milliseconds(20), .checksum = 6};
  EXPECT_DOUBLE_EQ(sum.per_second(), 1e4);
  EXPECT_EQ(sum.checksum, 11u);
}

TEST(CeilingProbe, TheBufferExceedsEveryCache) {
  EXPECT_GE(CeilingProbe::buffer_bytes(), 256_MiB);
  EXPECT_EQ(CeilingProbe::buffer_bytes().count % CeilingProbe::kReadStep, 0u);
}

TEST(CeilingProbeDeathTest, TooLittleMemoryIsRefused) {
  Buffer buffer(512);
  ThreadPool pool(1);
  EXPECT_DEATH(CeilingProbe(pool, buffer.bytes().first(255)), "part_");
  EXPECT_DEATH(CeilingProbe(pool, buffer.bytes().subspan(8)), "64");
}

}  // namespace
}  // namespace axon::cpu
