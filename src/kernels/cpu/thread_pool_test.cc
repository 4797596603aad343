#include "kernels/cpu/thread_pool.h"

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace axon::cpu {
namespace {

TEST(ThreadPool, CallsEachThreadOnce) {
  for (std::size_t threads : {1u, 2u, 3u, 7u}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<int> calls(threads, 0);
    for (int turn = 0; turn < 200; ++turn) pool.run([&](std::size_t thread) { ++calls[thread]; });
    for (const int n : calls) EXPECT_EQ(n, 200);
  }
}

TEST(ThreadPool, TheCallerIsThreadZero) {
  ThreadPool pool(3);
  std::vector<std::thread::id> ids(3);
  pool.run([&](std::size_t thread) { ids[thread] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_NE(ids[1], ids[0]);
  EXPECT_NE(ids[2], ids[1]);
}

TEST(ThreadPool, SplitCoversEveryItemOnceInContiguousRanges) {
  for (const std::size_t threads : {1u, 2u, 3u}) {
    ThreadPool pool(threads);
    for (const std::size_t count : {0u, 1u, 5u, 16u, 17u, 100u}) {
      for (const std::size_t grain : {1u, 4u, 16u}) {
        std::vector<int> seen(count, 0);
        std::vector<int> calls(threads, 0);
        pool.split(count, grain, [&](std::size_t begin, std::size_t end, std::size_t thread) {
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0u);
          EXPECT_TRUE(end == count || end % grain == 0);
          ++calls[thread];
          for (std::size_t i = begin; i < end; ++i) ++seen[i];
        });
        EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), std::size_t{0}), count);
        for (const int n : seen) EXPECT_EQ(n, 1);
        for (const int n : calls) EXPECT_LE(n, 1);
      }
    }
  }
}

TEST(ThreadPool, ShareCoversEveryItemOnce) {
  for (const std::size_t threads : {1u, 2u, 3u}) {
    ThreadPool pool(threads);
    for (const std::size_t count : {0u, 1u, 9u, 64u, 1000u}) {
      for (const std::size_t grain : {1u, 7u}) {
        std::vector<int> seen(count, 0);
        pool.share(count, grain, [&](std::size_t begin, std::size_t end, std::size_t thread) {
          EXPECT_LT(thread, threads);
          for (std::size_t i = begin; i < end; ++i) ++seen[i];
        });
        for (const int n : seen) ASSERT_EQ(n, 1);
      }
    }
  }
}

TEST(ThreadPool, ResultsAreVisibleAfterwardsEvenWhenWorkersSlept) {
  ThreadPool pool(3);
  std::vector<std::size_t> values(3, 0);
  for (std::size_t turn = 1; turn <= 20; ++turn) {
    if (turn % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.run([&](std::size_t thread) {
      if (turn % 4 == thread) std::this_thread::sleep_for(std::chrono::microseconds(300));
      values[thread] = turn;
    });
    for (const std::size_t v : values) ASSERT_EQ(v, turn);
  }
}

}  // namespace
}  // namespace axon::cpu
