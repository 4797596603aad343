#include "base/error.h"

#include <gtest/gtest.h>

#include <memory>

namespace axon {
namespace {

Result<int> half_of(int n) {
  if (n % 2 != 0) return make_error(ErrorCode::kInvalidArgument, "{} is odd", n);
  return n / 2;
}

Result<int> quarter_of(int n) { return AXON_TRY(half_of(AXON_TRY(half_of(n)))); }

Result<std::unique_ptr<int>> boxed(int n) { return std::make_unique<int>(AXON_TRY(half_of(n))); }

TEST(Result, CarriesValueOrError) {
  auto good = half_of(8);
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good.value(), 4);
  good.value() = 5;
  EXPECT_EQ(std::move(good).value(), 5);
  const auto bad = half_of(3);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(bad.error().message, "3 is odd");
}

TEST(Result, TryPassesErrorsOn) {
  EXPECT_EQ(quarter_of(12).value(), 3);
  EXPECT_EQ(quarter_of(6).error().message, "3 is odd");
  EXPECT_EQ(quarter_of(5).error().message, "5 is odd");
  EXPECT_EQ(*boxed(4).value(), 2);
  EXPECT_FALSE(boxed(1).ok());
}

TEST(ResultDeathTest, BugsStop) {
  EXPECT_DEATH(static_cast<void>(half_of(3).value()), "value\\(\\) of an error: 3 is odd");
  EXPECT_DEATH(AXON_CHECK(1 + 1 == 3), "check failed: 1 \\+ 1 == 3");
  AXON_CHECK(1 + 1 == 2);
}

}  // namespace
}  // namespace axon
