#include "memory/arena.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
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

// The views that lie side by side when the most is taken, whatever was given back before and after.
std::size_t sum_of(const std::vector<CarvedPiece>& pieces) {
  std::size_t sum = 0;
  for (const CarvedPiece& p : pieces) {
    EXPECT_EQ(p.at, sum);  // by place, without a gap
    EXPECT_EQ(p.size, round_up(p.rows * p.cols * p.element, 64));
    sum += p.size;
  }
  return sum;
}

TEST(Carver, PiecesAreThePeaks) {
  Carver carver;
  carve(carver);  // codes 65 x 1, x 3 x 5 x 4, then first 2 x 9 x 8 and second 3 x 2 in one place
  ASSERT_EQ(carver.pieces().size(), 3u);
  EXPECT_EQ(sum_of(carver.pieces()), carver.peak().count);
  EXPECT_EQ(carver.pieces()[0].cols, 65u);
  EXPECT_EQ(carver.pieces()[0].size, 128u);
  EXPECT_EQ(carver.pieces()[1].rows, 3u);
  EXPECT_EQ(carver.pieces()[1].element, 4u);
  EXPECT_EQ(carver.pieces()[2].cols, 9u);  // the larger of the two that share a place
  static_cast<void>(carver.span<float>(100));
  EXPECT_EQ(carver.pieces().back().cols, 100u);  // and now the second with what follows it
  EXPECT_EQ(carver.pieces()[2].cols, 3u);
  EXPECT_EQ(sum_of(carver.pieces()), carver.peak().count);
  EXPECT_TRUE(Carver().pieces().empty());
}

TEST(Carver, PiecesSumToThePeakAfterAnyPhases) {
  EXPECT_TRUE(rc::check("views, marks and rewinds", [] {
    Carver carver;
    std::vector<std::size_t> marks = {0};
    for (const auto& [kind, count] : *rc::gen::container<std::vector<std::pair<int, std::size_t>>>(
             rc::gen::pair(rc::gen::inRange(0, 5), rc::gen::inRange<std::size_t>(0, 100)))) {
      if (kind == 0) {
        marks.push_back(carver.mark());
      } else if (kind == 1) {
        const std::size_t depth = count % marks.size();
        carver.rewind(marks[depth]);
        marks.resize(depth + 1);  // later marks lie above it
      } else if (kind == 2) {
        static_cast<void>(carver.mat<double>(count, 3));
      } else {
        static_cast<void>(carver.span<std::uint8_t>(count));
      }
      RC_ASSERT(sum_of(carver.pieces()) == carver.peak().count);
    }
  }));
}

std::size_t resident_pages(const void* data, std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> in_core((size + page - 1) / page);
  EXPECT_EQ(mincore(const_cast<void*>(data), size, in_core.data()), 0);
  return static_cast<std::size_t>(
      std::count_if(in_core.begin(), in_core.end(), [](unsigned char c) { return (c & 1) != 0; }));
}

// What was granted is there before it is used.
TEST(Arena, EveryPageIsThereFromTheStart) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  Ledger ledger(1_GiB);
  auto arena = Arena::create(ledger, "a", {300 * page - 5});
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(resident_pages(arena.value().data(), 300 * page - 5), 300u);
}

}  // namespace
}  // namespace axon
