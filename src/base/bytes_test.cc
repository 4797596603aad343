#include "base/bytes.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <type_traits>

namespace axon {
namespace {

static_assert(!std::is_convertible_v<std::uint64_t, Bytes> && !std::is_convertible_v<Bytes, std::uint64_t>);

TEST(Bytes, ArithmeticAndText) {
  EXPECT_EQ(1_KiB + 1_B, Bytes{1025});
  EXPECT_EQ(1_MiB - 1_KiB, Bytes{1047552});
  EXPECT_LT(1023_B, 1_KiB);
  EXPECT_EQ(to_string(1023_B), "1023 B");
  EXPECT_EQ(to_string(1_KiB), "1.0 KiB");
  EXPECT_EQ(to_string(1536_KiB), "1.5 MiB");
  EXPECT_EQ(to_string(5_GiB + 256_MiB), "5.25 GiB");
}

TEST(Checked, TellsWhatDoesNotFit) {
  EXPECT_EQ(checked_mul(1ull << 32, (1ull << 32) - 1), (1ull << 32) * ((1ull << 32) - 1));
  EXPECT_FALSE(checked_mul(1ull << 32, 1ull << 32));
  EXPECT_EQ(checked_mul(0, UINT64_MAX), 0u);
  EXPECT_EQ(checked_add(UINT64_MAX, 0), UINT64_MAX);
  EXPECT_FALSE(checked_add(UINT64_MAX, 1));
  EXPECT_TRUE(rc::check("as in 128 bits", [](std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = Wide{a} * b, sum = Wide{a} + b;
    RC_ASSERT(checked_mul(a, b).has_value() == (product <= UINT64_MAX));
    RC_ASSERT(checked_add(a, b).has_value() == (sum <= UINT64_MAX));
    RC_ASSERT(checked_add(a, b).value_or(a + b) == a + b);
  }));
}

TEST(RoundUp, ReachesTheNextMultiple) {
  EXPECT_EQ(round_up(0, 64), 0u);
  EXPECT_EQ(round_up(1, 64), 64u);
  EXPECT_EQ(round_up(64, 64), 64u);
  EXPECT_EQ(round_up(65, 64), 128u);
  EXPECT_EQ(round_up(7, 3), 9u);
}

}  // namespace
}  // namespace axon
