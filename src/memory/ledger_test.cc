#include "memory/ledger.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <thread>
#include <vector>

namespace axon {
namespace {

TEST(Ledger, GrantsAndTakesBack) {
  Ledger ledger(100_B);
  {
    const auto a = ledger.reserve("a", 40_B);
    const auto b = ledger.reserve("b", 60_B);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(ledger.used(), 100_B);
    EXPECT_EQ(ledger.used("a"), 40_B);
  }
  EXPECT_EQ(ledger.used(), 0_B);
  EXPECT_EQ(ledger.used("a"), 0_B);
  EXPECT_EQ(ledger.peak(), 100_B);
  EXPECT_EQ(ledger.peak("b"), 60_B);
  EXPECT_EQ(ledger.used("never"), 0_B);
  EXPECT_EQ(ledger.peak("never"), 0_B);
}

TEST(Ledger, RefusalChangesNothing) {
  Ledger ledger(8_MiB);
  const auto held = ledger.reserve("weights", 6_MiB);
  ASSERT_TRUE(held.ok());
  const auto refused = ledger.reserve("kv cache", 3_MiB);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
  EXPECT_EQ(refused.error().message, "kv cache needs 3.0 MiB, but 6.0 MiB of 8.0 MiB are taken");
  EXPECT_EQ(ledger.used(), 6_MiB);
  EXPECT_EQ(ledger.peak(), 6_MiB);
  EXPECT_EQ(ledger.peak("kv cache"), 0_B);
  EXPECT_FALSE(ledger.reserve("all", Bytes{UINT64_MAX}).ok());  // the sum would wrap
  EXPECT_TRUE(ledger.reserve("kv cache", 2_MiB).ok());          // exactly full
}

TEST(Ledger, PeakIsOfOneMoment) {
  Ledger ledger(100_B);
  { const auto a = ledger.reserve("a", 50_B); }
  { const auto b = ledger.reserve("b", 70_B); }
  EXPECT_EQ(ledger.peak(), 70_B);
  EXPECT_EQ(ledger.peak("a"), 50_B);
}

TEST(Reservation, MovesWithoutDoubling) {
  Ledger ledger(100_B);
  auto first = ledger.reserve("a", 10_B);
  auto second = ledger.reserve("b", 20_B);
  ASSERT_TRUE(first.ok() && second.ok());
  Reservation moved = std::move(first).value();
  EXPECT_EQ(ledger.used(), 30_B);
  moved = std::move(second).value();  // gives the 10 back
  EXPECT_EQ(ledger.used("a"), 0_B);
  EXPECT_EQ(ledger.used(), 20_B);
  EXPECT_EQ(moved.size(), 20_B);
  moved.release();
  moved.release();
  EXPECT_EQ(ledger.used(), 0_B);
  EXPECT_EQ(moved.size(), 0_B);
}

TEST(LedgerDeathTest, MustOutliveItsReservations) {
  EXPECT_DEATH(
      {
        Reservation held;
        Ledger ledger(10_B);
        held = ledger.reserve("a", 1_B).value();
      },
      "check failed");
}

TEST(Ledger, NeverPassesItsLimit) {
  EXPECT_TRUE(rc::check("any order of reserving and releasing keeps the books", [] {
    const std::uint64_t limit = *rc::gen::inRange<std::uint64_t>(0, 1000);
    Ledger ledger{Bytes{limit}};
    std::vector<Reservation> held;
    std::uint64_t sum = 0, peak = 0;
    for (const std::uint32_t step : *rc::gen::arbitrary<std::vector<std::uint32_t>>()) {
      if (step % 3 == 0 && !held.empty()) {
        sum -= held[step % held.size()].size().count;
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(step % held.size()));
      } else {
        const std::uint64_t size = step % 400;
        auto granted = ledger.reserve(step % 2 == 0 ? "even" : "odd", Bytes{size});
        RC_ASSERT(granted.ok() == (sum + size <= limit));
        if (granted.ok()) {
          held.push_back(std::move(granted).value());
          sum += size;
        }
      }
      peak = std::max(peak, sum);
      RC_ASSERT(ledger.used() == Bytes{sum});
      RC_ASSERT(ledger.used("even") + ledger.used("odd") == Bytes{sum});
      RC_ASSERT(ledger.peak() == Bytes{peak});
    }
  }));
}

TEST(Ledger, HoldsUnderThreads) {
  Ledger ledger(10_B);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&ledger] {
      for (int n = 0; n < 5000; ++n) {
        const auto granted = ledger.reserve("shared", 4_B);
        if (granted.ok() && ledger.used() > 10_B) std::abort();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ledger.used(), 0_B);
  EXPECT_LE(ledger.peak(), 8_B);
  EXPECT_GE(ledger.peak(), 4_B);
}

}  // namespace
}  // namespace axon
