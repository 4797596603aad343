#include "memory/arena.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdint>

namespace axon {
namespace {

// A layout as real ones are: views of several types, two phases that share bytes.
struct Layout {
  std::span<std::uint8_t> codes;
  Mat<float> x;
  Mat<double> first;
  std::span<std::uint16_t> second;
};
Layout carve(Carver& carver) {
  Layout out;
  out.codes = carver.span<std::uint8_t>(65);
  out.x = carver.mat<float>(3, 5);
  const std::size_t mark = carver.mark();
  out.first = carver.mat<double>(2, 9);
  carver.rewind(mark);
  out.second = carver.span<std::uint16_t>(3);
  return out;
}

TEST(Carver, MeasuresWhatItLaterHandsOut) {
  Carver measure;
  const Layout none = carve(measure);
  EXPECT_TRUE(measure.measures());
  EXPECT_EQ(measure.peak(), Bytes{128 + 64 + 192});
  EXPECT_EQ(none.x.data, nullptr);
  EXPECT_EQ(none.x.rows, 3u);
  EXPECT_EQ(none.x.cols, 5u);
  EXPECT_EQ(none.codes.size(), 65u);

  Ledger ledger(1_MiB);
  auto arena = Arena::create(ledger, account::kWorkspace, measure.peak());
  ASSERT_TRUE(arena.ok());
  Carver carver = arena.value().carver();
  EXPECT_FALSE(carver.measures());
  const Layout real = carve(carver);
  EXPECT_EQ(carver.peak(), measure.peak());
  EXPECT_EQ(ledger.peak(), measure.peak());
  const std::byte* base = arena.value().data();
  EXPECT_EQ(reinterpret_cast<const std::byte*>(real.codes.data()), base);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(real.x.data), base + 128);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(real.first.data), base + 192);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(real.second.data()), base + 192);
}

TEST(CarverDeathTest, StopsWhereThePlanIsWrong) {
  Ledger ledger(1_MiB);
  auto arena = Arena::create(ledger, "a", 128_B);
  ASSERT_TRUE(arena.ok());
  Carver carver = arena.value().carver();
  static_cast<void>(carver.span<float>(32));
  EXPECT_DEATH(static_cast<void>(carver.span<char>(1)), "check failed");
  EXPECT_DEATH(carver.rewind(129), "check failed");
  Carver measure;
  EXPECT_DEATH(static_cast<void>(measure.span<float>(std::size_t{1} << 62)), "check failed");
  EXPECT_DEATH(static_cast<void>(measure.mat<float>(std::size_t{1} << 40, std::size_t{1} << 40)), "check failed");
}

TEST(Carver, AnySequenceIsAlignedDisjointAndAsMeasured) {
  EXPECT_TRUE(rc::check("views of any sizes", [] {
    const auto sizes = *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(0, 300));
    Carver measure;
    for (const std::size_t n : sizes) static_cast<void>(measure.span<float>(n));
    Ledger ledger(64_MiB);
    auto arena = Arena::create(ledger, "a", measure.peak());
    RC_ASSERT(arena.ok());
    Carver carver = arena.value().carver();
    const std::byte* end = arena.value().data();
    for (const std::size_t n : sizes) {
      const std::span<float> view = carver.span<float>(n);
      if (n == 0) continue;
      RC_ASSERT(reinterpret_cast<std::uintptr_t>(view.data()) % 64 == 0u);
      RC_ASSERT(reinterpret_cast<const std::byte*>(view.data()) >= end);
      for (float& v : view) RC_ASSERT(std::exchange(v, 1.0f) == 0.0f);
      end = reinterpret_cast<const std::byte*>(view.data() + n);
    }
    RC_ASSERT(carver.peak() == measure.peak());
  }));
}

TEST(Arena, TakesFromTheLedgerAndGivesBack) {
  Ledger ledger(1_MiB);
  {
    auto made = Arena::create(ledger, "a", 1_MiB);
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(ledger.used("a"), 1_MiB);
    const auto refused = Arena::create(ledger, "b", 1_B);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
    Arena arena = std::move(made).value();
    std::byte* data = arena.data();
    data[(1 << 20) - 1] = std::byte{7};
    Arena other;
    other = std::move(arena);
    EXPECT_EQ(other.data(), data);
    EXPECT_EQ(arena.data(), nullptr);
    EXPECT_EQ(arena.size(), 0_B);
    EXPECT_EQ(ledger.used("a"), 1_MiB);
    other = Arena();
    EXPECT_EQ(ledger.used("a"), 0_B);
  }
  auto empty = Arena::create(ledger, "a", 0_B);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty.value().data(), nullptr);
}

}  // namespace
}  // namespace axon
