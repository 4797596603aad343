#include "train/data_order.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace axon::train {
namespace {

using Order = std::vector<std::uint32_t>;

// Recorded from numpy and Python.
TEST(DataOrder, TheOriginalsOrders) {
  Order order(10);
  numpy_order(42, order);
  EXPECT_EQ(order, (Order{8, 1, 5, 0, 7, 2, 9, 4, 3, 6}));
  python_order(42, order);
  EXPECT_EQ(order, (Order{7, 3, 2, 8, 5, 6, 9, 4, 0, 1}));
}

// numpy.random.RandomState(42).randint(1, 1024, 8): masked rejection with a bound of 1022.
TEST(DataOrder, MersenneTwisterDraws) {
  MersenneTwister twister(42u);
  Order came;
  while (came.size() < 8) {
    const std::uint32_t draw = twister.next() & 1023u;
    if (draw <= 1022) came.push_back(draw + 1);
  }
  EXPECT_EQ(came, (Order{103, 436, 861, 271, 107, 72, 701, 21}));
  MersenneTwister reference(5489u);  // the 10000th draw that the C++ standard names for std::mt19937
  for (int i = 1; i < 10000; ++i) reference.next();
  EXPECT_EQ(reference.next(), 4123659995u);
}

RC_GTEST_PROP(DataOrder, EveryOrderIsAPermutation, (std::uint64_t seed, std::uint64_t epoch)) {
  Order order(*rc::gen::inRange<std::size_t>(1, 300));
  Order sorted(order.size());
  std::iota(sorted.begin(), sorted.end(), 0u);
  const auto permutes = [&] {
    Order copy = order;
    std::sort(copy.begin(), copy.end());
    return copy == sorted;
  };
  shuffled_order(seed, epoch, order);
  RC_ASSERT(permutes());
  python_order(seed, order);
  RC_ASSERT(permutes());
  numpy_order(static_cast<std::uint32_t>(seed), order);
  RC_ASSERT(permutes());
}

TEST(DataOrder, EveryEpochHasItsOwn) {
  Order a(50), b(50), again(50), other_seed(50);
  shuffled_order(7, 0, a);
  shuffled_order(7, 1, b);
  shuffled_order(7, 0, again);
  shuffled_order(8, 0, other_seed);
  EXPECT_EQ(a, again);
  EXPECT_NE(a, b);
  EXPECT_NE(a, other_seed);
}

// Each of 4 examples comes first in about a quarter of 4000 epochs: 5 standard deviations are 137.
TEST(DataOrder, NoExampleIsPreferred) {
  std::array<int, 4> first{};
  Order order(4);
  for (std::uint64_t epoch = 0; epoch < 4000; ++epoch) {
    shuffled_order(1, epoch, order);
    ++first[order[0]];
  }
  for (const int count : first) EXPECT_NEAR(count, 1000, 137);
}

}  // namespace
}  // namespace axon::train
