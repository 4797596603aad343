#pragma once
// The most that this machine gives: bytes read and operations done per second, by the instructions of cpu::level().
// Machines change speed within minutes, so a share of a ceiling means something only if both were measured at the same
// time: take samples between turns of the work (A B A B), a few milliseconds each.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "kernels/cpu/thread_pool.h"

namespace axon::cpu {

// What all threads of a pool do together, per second. 0 where the level or the processor lacks the instruction.
struct Ceilings {
  double read_bytes = 0.0;
  double int8_ops = 0.0;    // dot products of bytes; like the next two, a multiply-add is two operations
  double bf16_flops = 0.0;  // dot products of bf16 pairs in float32
  double fp32_flops = 0.0;  // multiply-adds
};

// Work that was done, and how long the pool took from the common start to the last thread's end.
struct CeilingSample {
  std::uint64_t count = 0;  // bytes, or operations
  std::chrono::duration<double> time{};
  // read(): the sum of the 64-bit words. Otherwise the multiply-adds as the registers counted them.
  std::uint64_t checksum = 0;

  double per_second() const { return time.count() > 0.0 ? static_cast<double>(count) / time.count() : 0.0; }
  // Samples add up to a longer one.
  CeilingSample& operator+=(const CeilingSample& other);
};

// Measures one ceiling at a time. Every thread works for about `duration`, at least one batch (some 10 microseconds).
// Allocates nothing; the results of all work are used, so no compiler can leave it out.
class CeilingProbe {
 public:
  // The largest cache that the system tells of; 0 where it tells of none.
  static Bytes last_level_cache();
  // How much memory read() needs so that no cache can hold it: four times the last-level cache, at least 256 MiB.
  static Bytes buffer_bytes();

  // `memory`, populated and at a multiple of 64, at least kReadStep for each thread of `pool`; both have to outlive the
  // probe. It is only read: the weights of a model serve as well as a buffer of buffer_bytes(), take no memory of
  // their own, and lie on pages of the same size as the work's.
  CeilingProbe(ThreadPool& pool, std::span<const std::byte> memory);

  // What read() may do; which one is fastest differs between processors, even between numbers of threads.
  struct ReadWay {
    const char* name = "";
    double bytes_per_second = 0.0;  // median of the rounds
  };
  static constexpr std::size_t kReadWays = 5;
  // Tries every way for `slice`, `rounds` times in turn (1 to 15); read() uses the fastest from then on. Index of it:
  // chosen_read(). Before the first call, read() uses way 0.
  std::array<ReadWay, kReadWays> choose_read(std::chrono::nanoseconds slice, std::size_t rounds);
  std::size_t chosen_read() const { return way_; }

  // A contiguous part of the memory for each thread, which goes on where it stopped in the call before.
  CeilingSample read(std::chrono::nanoseconds duration);
  CeilingSample int8(std::chrono::nanoseconds duration);
  CeilingSample bf16(std::chrono::nanoseconds duration);  // empty where there is no such instruction
  CeilingSample fp32(std::chrono::nanoseconds duration);

  // All of them, one after the other, `duration` each.
  Ceilings measure(std::chrono::nanoseconds duration);

  static constexpr std::size_t kReadStep = 256;  // parts of the memory are multiples of it; what is left is not read

 private:
  ThreadPool& pool_;
  std::span<const std::byte> memory_;
  std::size_t part_;    // bytes a thread
  std::size_t at_ = 0;  // where the threads go on, in each part
  std::size_t way_ = 0;
};

}  // namespace axon::cpu
