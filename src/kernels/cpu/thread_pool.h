#pragma once
// A small fork-join pool. run() wakes the workers, takes part itself, and returns when all are done. Workers spin for a
// few microseconds between calls (a token is hundreds of short calls), then sleep.

#include <atomic>
#include <cstddef>
#include <thread>
#include <type_traits>
#include <vector>

namespace axon::cpu {

class ThreadPool {
 public:
  // `threads` counts the caller: 1 starts no thread.
  explicit ThreadPool(std::size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t size() const { return workers_.size() + 1; }

  // Calls f(thread) once on each of size() threads, thread 0 being the caller. Allocates nothing. Not reentrant.
  template <class F>
  void run(F&& f) {
    using Fn = std::remove_reference_t<F>;
    run_raw([](void* context, std::size_t thread) { (*static_cast<Fn*>(context))(thread); },
            const_cast<void*>(static_cast<const void*>(&f)));
  }

  // Splits [0, count) into one contiguous range a thread, borders at multiples of `grain`, and calls f(begin, end,
  // thread) for the ranges that are not empty.
  template <class F>
  void split(std::size_t count, std::size_t grain, F&& f) {
    const std::size_t grains = (count + grain - 1) / grain;
    if (size() == 1 || grains <= 1) {
      if (count != 0) f(std::size_t{0}, count, std::size_t{0});
      return;
    }
    run([&](std::size_t thread) {
      const std::size_t begin = grains * thread / size() * grain;
      const std::size_t end = thread + 1 == size() ? count : grains * (thread + 1) / size() * grain;
      if (begin < end) f(begin, end, thread);
    });
  }

  // The same for pieces of uneven cost: threads take `grain` items at a time until none are left.
  template <class F>
  void share(std::size_t count, std::size_t grain, F&& f) {
    if (size() == 1 || count <= grain) {
      if (count != 0) f(std::size_t{0}, count, std::size_t{0});
      return;
    }
    share_after(0, count, grain, f);
  }

  // The same, but each thread first takes `own` items, one after the other from the first thread's on.
  template <class F>
  void share_after(std::size_t own, std::size_t count, std::size_t grain, F&& f) {
    next_.store(own * size(), std::memory_order_relaxed);
    run([&](std::size_t thread) {
      if (own != 0) f(own * thread, own * (thread + 1), thread);
      for (;;) {
        const std::size_t begin = next_.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= count) return;
        f(begin, begin + grain < count ? begin + grain : count, thread);
      }
    });
  }

 private:
  using Raw = void (*)(void* context, std::size_t thread);
  void run_raw(Raw f, void* context);
  void work(std::size_t thread);

  std::vector<std::thread> workers_;
  Raw f_ = nullptr;
  void* context_ = nullptr;
  bool sealed_ = false;  // the caller is inside a NoAllocation
  alignas(64) std::atomic<unsigned> epoch_{0};
  alignas(64) std::atomic<unsigned> running_{0};
  alignas(64) std::atomic<std::size_t> next_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace axon::cpu
