// Run by mpirun: sums, and what process 0 tells, checked in each process. Exits 77 where there is no MPI to test.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "train/allreduce.h"

namespace {

// What process `rank` has at place i: magnitudes that do not add up alike in another order.
double value_of(std::size_t rank, std::size_t i) {
  const axon::CounterRng rng(11, rank);
  return std::ldexp(rng.uniform(i) - 0.5, static_cast<int>(rng.bits(i) % 40) - 20);
}

template <class T>
bool sums_are_right(axon::train::Ranks& ranks, std::size_t size) {
  std::vector<T> values(size);
  for (std::size_t i = 0; i < size; ++i) values[i] = static_cast<T>(value_of(ranks.rank(), i));
  ranks.sum(values);
  for (std::size_t i = 0; i < size; ++i) {
    T total = static_cast<T>(value_of(0, i));
    for (std::size_t r = 1; r < ranks.count(); ++r) total += static_cast<T>(value_of(r, i));
    if (std::memcmp(&values[i], &total, sizeof(T)) == 0) continue;
    std::fprintf(stderr, "process %zu of %zu: value %zu of %zu is %.17g, not %.17g\n", ranks.rank(), ranks.count(), i,
                 size, static_cast<double>(values[i]), static_cast<double>(total));
    return false;
  }
  return true;
}

bool broadcast_is_right(axon::train::Ranks& ranks) {
  std::vector<std::byte> bytes(100'001);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * (ranks.rank() + 1));
  ranks.broadcast(bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != static_cast<std::byte>(i)) return false;
  }
  return true;
}

int fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (!axon::train::built_with_mpi()) return 77;
  auto connected = axon::train::connect_ranks();
  if (!connected.ok()) return fail(connected.error().message.c_str());
  axon::train::Ranks& ranks = *connected.value();
  const std::size_t expected = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
  if (ranks.count() != expected || ranks.rank() >= expected) return fail("the processes do not know of each other");
  if (argc > 2 && std::string_view(argv[2]) == "abort") {
    if (ranks.rank() + 1 == ranks.count()) ranks.abort(5);
    for (;;) ranks.barrier();
  }
  // One value, fewer than processes, a piece to the byte, one more, several pieces and a part.
  for (const std::size_t size : {0u, 1u, 2u, 1000u, 65536u, 65537u, 300'007u}) {
    if (!sums_are_right<float>(ranks, size) || !sums_are_right<double>(ranks, size)) ranks.abort(1);
  }
  if (!broadcast_is_right(ranks)) ranks.abort(2);
  ranks.barrier();
  std::printf("process %zu of %zu: equal\n", ranks.rank(), ranks.count());
  return 0;
}
