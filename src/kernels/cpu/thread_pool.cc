#include "kernels/cpu/thread_pool.h"

#include <chrono>
#include <optional>

#include "base/error.h"
#include "memory/no_allocation.h"

namespace axon::cpu {
namespace {

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits while `value` is `old`: spins for about 50 microseconds, then sleeps. A spin costs a wake-up's worth of time at
// most; a sleeping wait would cost it in every call.
void wait_while(const std::atomic<unsigned>& value, unsigned old) {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
    if (std::chrono::steady_clock::now() - start > std::chrono::microseconds(50)) break;
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads) {
  AXON_CHECK(threads >= 1);
  workers_.reserve(threads - 1);
  for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_raw(Raw f, void* context) {
  if (workers_.empty()) return f(context, 0);
  f_ = f;
  context_ = context;
  sealed_ = NoAllocation::active();
  running_.store(static_cast<unsigned>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  f(context, 0);
  for (unsigned left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    wait_while(running_, left);
  }
}

void ThreadPool::work(std::size_t thread) {
  unsigned seen = 0;
  for (;;) {
    wait_while(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    {
      std::optional<NoAllocation> sealed;  // what the caller may not do, its workers may not
      if (sealed_) sealed.emplace();
      f_(context_, thread);
    }
    if (running_.fetch_sub(1, std::memory_order_release) == 1) running_.notify_one();
  }
}

}  // namespace axon::cpu
