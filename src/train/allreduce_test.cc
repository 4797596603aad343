#include "train/allreduce.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>

namespace axon::train {
namespace {

// Of several processes: tests/mpi.
TEST(Ranks, OneProcessKeepsWhatItHas) {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) GTEST_SKIP() << "started by mpirun";
  auto ranks = connect_ranks();
  ASSERT_TRUE(ranks.ok());
  Ranks& one = *ranks.value();
  EXPECT_EQ(one.rank(), 0u);
  EXPECT_EQ(one.count(), 1u);
  std::array<float, 2> values{1, 2};
  std::array<double, 1> more{3};
  one.sum(values);
  one.sum(more);
  one.broadcast(std::as_writable_bytes(std::span(values)));
  one.barrier();
  EXPECT_EQ(values, (std::array<float, 2>{1, 2}));
  EXPECT_EQ(more[0], 3);
}

TEST(RanksDeathTest, AbortEndsWithTheStatus) {
  EXPECT_EXIT(single_process()->abort(7), ::testing::ExitedWithCode(7), "");
}

TEST(RanksDeathTest, ProcessesOfMpirunAreNeverTakenForOne) {
  if (built_with_mpi()) GTEST_SKIP() << "built with Open MPI";
  ASSERT_EQ(setenv("OMPI_COMM_WORLD_SIZE", "4", 1), 0);
  const auto ranks = connect_ranks();
  unsetenv("OMPI_COMM_WORLD_SIZE");
  ASSERT_FALSE(ranks.ok());
  EXPECT_EQ(ranks.error().message, "started by mpirun as 4 processes, but built without Open MPI (libopenmpi-dev)");
}

}  // namespace
}  // namespace axon::train
