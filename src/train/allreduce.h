#pragma once
// The processes of a training that share its batches: sums over all of them, and what one of them tells the others.
// "Rank" is MPI's word for a process; the rank of an adapter is another thing.

#include <cstddef>
#include <memory>
#include <span>

#include "base/error.h"

namespace axon::train {

// All processes make the same calls in the same order, with spans of the same sizes, from the thread that connected.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual std::size_t rank() const = 0;   // 0 .. count() - 1
  virtual std::size_t count() const = 0;  // at least 1
  // Each value becomes its sum over the processes, formed once in the order of ranks: all get the same bits, and the
  // same number of processes always gives the same.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;
  // What process 0 has, in all of them.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
  // Returns when all have called it.
  virtual void barrier() = 0;
  // Ends all processes, this one with `status`: for an error that the others do not share and would wait for ever
  // after. A process that simply returns is waited for at the end, and so must be expected by the others.
  [[noreturn]] virtual void abort(int status) = 0;
};

// A training in one process: sums are what they are.
std::unique_ptr<Ranks> single_process();

// The processes that mpirun started, else single_process(). Open MPI is loaded only under its mpirun (which sets
// OMPI_COMM_WORLD_SIZE), when the program runs, so a plain run pays nothing for it. One of its own failures in a sum
// ends all processes.
// kUnsupported under mpirun, when this was built without Open MPI's header or its library cannot be loaded: processes
// that did not know of each other would write over each other's files.
//
// Processes that wait poll. Give each its own cores: mpirun --bind-to none, with count times threads at most the cores.
// With more, mpirun --oversubscribe, which makes those who wait yield; a training is then slower than in one process.
Result<std::unique_ptr<Ranks>> connect_ranks();
// Whether this was built with Open MPI's header.
bool built_with_mpi();

}  // namespace axon::train
