#include "train/allreduce.h"

#include <cstdlib>
#include <string_view>

#if AXON_MPI
#include <dlfcn.h>
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#ifndef OPEN_MPI
#error "this knows the symbols of Open MPI alone"
#endif
#endif

#include <algorithm>
#include <cstring>
#include <vector>

namespace axon::train {
namespace {

class SingleProcess final : public Ranks {
 public:
  std::size_t rank() const override { return 0; }
  std::size_t count() const override { return 1; }
  void sum(std::span<float>) override {}
  void sum(std::span<double>) override {}
  void broadcast(std::span<std::byte>) override {}
  void barrier() override {}
  [[noreturn]] void abort(int status) override { std::_Exit(status); }
};

constexpr const char* kWorldSize = "OMPI_COMM_WORLD_SIZE";

#if AXON_MPI

constexpr const char* kLibrary = "libmpi.so.40";  // Open MPI 4 and 5

// The functions that we use, loaded rather than linked: a program that links Open MPI pays some 8 ms and 1.6 MiB at
// every start. Bytes are all that travels, since sums are formed here.
struct Mpi {
  decltype(&MPI_Init_thread) init_thread = nullptr;
  decltype(&MPI_Comm_rank) comm_rank = nullptr;
  decltype(&MPI_Comm_size) comm_size = nullptr;
  decltype(&MPI_Alltoall) alltoall = nullptr;
  decltype(&MPI_Allgather) allgather = nullptr;
  decltype(&MPI_Bcast) bcast = nullptr;
  decltype(&MPI_Barrier) barrier = nullptr;
  decltype(&MPI_Abort) abort = nullptr;
  decltype(&MPI_Finalize) finalize = nullptr;
  MPI_Datatype byte{};
  MPI_Comm world{};
};

// The first error stays.
class Loader {
 public:
  // Global: Open MPI's own plug-ins look for its symbols. Never closed, since they leave threads and handlers behind.
  Loader() : library_(dlopen(kLibrary, RTLD_NOW | RTLD_GLOBAL)) {
    if (library_ == nullptr) note();
  }
  template <class T>
  void operator()(const char* name, T& out) {
    if (library_ == nullptr) return;
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr) return note();
    out = reinterpret_cast<T>(symbol);
  }
  const std::string& error() const { return error_; }

 private:
  void note() {
    const char* text = dlerror();
    if (error_.empty()) error_ = text != nullptr ? text : "a symbol is null";
  }
  void* library_ = nullptr;
  std::string error_;
};

Result<Mpi> load_mpi() {
  Mpi mpi;
  Loader load;
  load("MPI_Init_thread", mpi.init_thread);
  load("MPI_Comm_rank", mpi.comm_rank);
  load("MPI_Comm_size", mpi.comm_size);
  load("MPI_Alltoall", mpi.alltoall);
  load("MPI_Allgather", mpi.allgather);
  load("MPI_Bcast", mpi.bcast);
  load("MPI_Barrier", mpi.barrier);
  load("MPI_Abort", mpi.abort);
  load("MPI_Finalize", mpi.finalize);
  load("ompi_mpi_byte", mpi.byte);         // MPI_BYTE
  load("ompi_mpi_comm_world", mpi.world);  // MPI_COMM_WORLD
  if (load.error().empty()) return mpi;
  return make_error(ErrorCode::kUnsupported, "started by mpirun, but Open MPI cannot be loaded: {}", load.error());
}

// What fails inside ends all processes before it returns (MPI_ERRORS_ARE_FATAL, the default), so codes are not looked
// at.
class MpiRanks final : public Ranks {
 public:
  explicit MpiRanks(const Mpi& mpi) : mpi_(mpi) {
    int level = 0, rank = 0, count = 0;
    mpi_.init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
    mpi_.comm_rank(mpi_.world, &rank);
    mpi_.comm_size(mpi_.world, &count);
    rank_ = static_cast<std::size_t>(rank);
    count_ = static_cast<std::size_t>(count);
    slice_ = std::max<std::size_t>(kPiece / count_ / alignof(double) * alignof(double), alignof(double));
    sent_.resize(slice_ * count_);
    received_.resize(slice_ * count_);
  }
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;
  ~MpiRanks() override { mpi_.finalize(); }

  std::size_t rank() const override { return rank_; }
  std::size_t count() const override { return count_; }
  void sum(std::span<float> values) override { sum_all(values); }
  void sum(std::span<double> values) override { sum_all(values); }
  void broadcast(std::span<std::byte> bytes) override {
    constexpr std::size_t kMost = 1u << 30;  // MPI counts in int
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(kMost, bytes.size()))) {
      mpi_.bcast(bytes.data(), static_cast<int>(std::min(kMost, bytes.size())), mpi_.byte, 0, mpi_.world);
    }
  }
  void barrier() override { mpi_.barrier(mpi_.world); }
  [[noreturn]] void abort(int status) override {
    mpi_.abort(mpi_.world, status);
    std::_Exit(status);
  }

 private:
  static constexpr std::size_t kPiece = 256 * 1024;  // bytes that are summed at once

  // A piece is cut into one slice a process. Each collects its slice from all, adds in the order of ranks, and hands
  // the sum to all: as much traffic as the best algorithms for long messages, but MPI may choose any order of
  // additions.
  template <class T>
  void sum_all(std::span<T> values) {
    while (!values.empty()) {
      const std::span<T> piece = values.first(std::min(values.size(), slice_ * count_ / sizeof(T)));
      const std::size_t each = (piece.size() + count_ - 1) / count_;
      sum_piece(piece, each);
      values = values.subspan(piece.size());
    }
  }

  template <class T>
  void sum_piece(std::span<T> piece, std::size_t each) {
    const std::size_t bytes = each * sizeof(T);
    std::fill_n(sent_.begin(), bytes * count_, std::byte{});  // the last slice may be short
    std::memcpy(sent_.data(), piece.data(), piece.size_bytes());
    mpi_.alltoall(sent_.data(), static_cast<int>(bytes), mpi_.byte, received_.data(), static_cast<int>(bytes),
                  mpi_.byte, mpi_.world);
    add<T>(each);
    mpi_.allgather(sent_.data(), static_cast<int>(bytes), mpi_.byte, received_.data(), static_cast<int>(bytes),
                   mpi_.byte, mpi_.world);
    std::memcpy(piece.data(), received_.data(), piece.size_bytes());
  }

  // received_: [count, each]; the sum goes to the front of sent_.
  template <class T>
  void add(std::size_t each) {
    for (std::size_t i = 0; i < each; ++i) {
      T total{};
      for (std::size_t r = 0; r < count_; ++r) {
        T value;
        std::memcpy(&value, received_.data() + (r * each + i) * sizeof(T), sizeof(T));
        total = r == 0 ? value : total + value;
      }
      std::memcpy(sent_.data() + i * sizeof(T), &total, sizeof(T));
    }
  }

  const Mpi mpi_;
  std::size_t rank_ = 0, count_ = 1;
  std::size_t slice_ = 0;  // bytes, at most, that a process sums of a piece
  std::vector<std::byte> sent_, received_;
};

#endif

}  // namespace

std::unique_ptr<Ranks> single_process() { return std::make_unique<SingleProcess>(); }

bool built_with_mpi() { return AXON_MPI != 0; }

Result<std::unique_ptr<Ranks>> connect_ranks() {
  const char* size = std::getenv(kWorldSize);
  if (size == nullptr) return single_process();
#if AXON_MPI
  const Mpi mpi = AXON_TRY(load_mpi());
  return std::unique_ptr<Ranks>(std::make_unique<MpiRanks>(mpi));
#else
  return make_error(ErrorCode::kUnsupported,
                    "started by mpirun as {} processes, but built without Open MPI (libopenmpi-dev)",
                    std::string_view(size));
#endif
}

}  // namespace axon::train
