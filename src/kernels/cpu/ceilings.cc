#include "kernels/cpu/ceilings.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/error.h"
#include "kernels/cpu/ceilings_kernels.h"

namespace axon::cpu {
namespace ceiling {

Kernels kernels(Level level) {
  switch (level) {
#if defined(__x86_64__)
    case Level::kAvx512Vnni: return {int8_avx512vnni, has_bf16_dot(level) ? bf16_avx512 : nullptr, fp32};
    case Level::kAvx512: return {int8_avx512, nullptr, fp32};
    case Level::kAvx2: return {int8_avx2, nullptr, fp32};
    case Level::kSse4: return {int8_sse4, nullptr, fp32};
#elif defined(__aarch64__)
    case Level::kNeonDot: return {int8_neondot, nullptr, fp32};
    case Level::kNeon: return {int8_neon, nullptr, fp32};
#endif
    default: return {int8_scalar, nullptr, fp32};
  }
}

}  // namespace ceiling

namespace {

using Clock = std::chrono::steady_clock;

// Between two looks at the clock.
constexpr std::size_t kReadBatch = std::size_t{256} << 10;

struct Work {
  std::uint64_t count = 0, checksum = 0;
};

// Lets all threads start together, so that none is measured while another is still asleep.
class Start {
 public:
  explicit Start(std::size_t threads) : threads_(threads) {}
  Clock::time_point wait() {
    if (arrived_.fetch_add(1) + 1 == threads_) time_.store(Clock::now().time_since_epoch().count());
    while (time_.load() == 0) std::this_thread::yield();
    return Clock::time_point(Clock::duration(time_.load()));
  }

 private:
  const std::size_t threads_;
  std::atomic<std::size_t> arrived_{0};
  std::atomic<Clock::rep> time_{0};
};

// Every thread calls batch(thread, what it counted so far) until `duration` is over, at least once.
template <class Batch>
CeilingSample sample(ThreadPool& pool, std::chrono::nanoseconds duration, Batch&& batch) {
  Start start(pool.size());
  std::atomic<std::uint64_t> count{0}, checksum{0};
  std::atomic<Clock::rep> longest{0};
  pool.run([&](std::size_t thread) {
    const Clock::time_point begin = start.wait();
    Work done;
    Clock::duration passed{};
    do {
      const Work more = batch(thread, done.count);
      done.count += more.count;
      done.checksum += more.checksum;
      passed = Clock::now() - begin;
    } while (passed < duration);
    count.fetch_add(done.count);
    checksum.fetch_add(done.checksum);
    Clock::rep seen = longest.load();
    while (seen < passed.count() && !longest.compare_exchange_weak(seen, passed.count())) {
    }
  });
  return {count.load(), Clock::duration(longest.load()), checksum.load()};
}

CeilingSample sample_multiply_adds(ThreadPool& pool, std::chrono::nanoseconds duration, std::uint64_t (*kernel)()) {
  if (kernel == nullptr) return {};
  return sample(pool, duration, [&](std::size_t, std::uint64_t) {
    const std::uint64_t done = kernel();
    return Work{2 * done, done};
  });
}

}  // namespace

CeilingSample& CeilingSample::operator+=(const CeilingSample& other) {
  count += other.count;
  time += other.time;
  checksum += other.checksum;
  return *this;
}

Bytes CeilingProbe::last_level_cache() {
  std::uint64_t cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  for (const int name : {_SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL4_CACHE_SIZE}) {
    cache = std::max(cache, static_cast<std::uint64_t>(std::max(0L, sysconf(name))));
  }
#endif
  return {cache};
}

Bytes CeilingProbe::buffer_bytes() { return std::max(256_MiB, Bytes{round_up(4 * last_level_cache().count, 4096)}); }

CeilingProbe::CeilingProbe(ThreadPool& pool, std::span<const std::byte> memory)
    : pool_(pool), memory_(memory), part_(memory.size() / pool.size() / kReadStep * kReadStep) {
  AXON_CHECK(part_ != 0 && reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
}

std::array<CeilingProbe::ReadWay, CeilingProbe::kReadWays> CeilingProbe::choose_read(std::chrono::nanoseconds slice,
                                                                                     std::size_t rounds) {
  constexpr std::size_t kRoundsMax = 15;
  AXON_CHECK(rounds >= 1 && rounds <= kRoundsMax);
  std::array<std::array<double, kRoundsMax>, kReadWays> rates{};
  for (std::size_t round = 0; round < rounds; ++round) {
    for (way_ = 0; way_ < kReadWays; ++way_) rates[way_][round] = read(slice).per_second();
  }
  std::array<ReadWay, kReadWays> ways;
  way_ = 0;
  for (std::size_t i = 0; i < kReadWays; ++i) {
    const auto middle = rates[i].begin() + static_cast<std::ptrdiff_t>(rounds / 2);
    std::nth_element(rates[i].begin(), middle, rates[i].begin() + static_cast<std::ptrdiff_t>(rounds));
    ways[i] = {ceiling::kReadWayNames[i], *middle};
    if (ways[i].bytes_per_second > ways[way_].bytes_per_second) way_ = i;
  }
  return ways;
}

CeilingSample CeilingProbe::read(std::chrono::nanoseconds duration) {
  std::uint64_t read_by_caller = 0;
  const CeilingSample found = sample(pool_, duration, [&](std::size_t thread, std::uint64_t done) {
    const std::size_t at = (at_ + done) % part_;
    const std::size_t bytes = std::min(kReadBatch, part_ - at);
    if (thread == 0) read_by_caller = done + bytes;
    return Work{bytes, ceiling::read(way_, memory_.data() + thread * part_ + at, bytes)};
  });
  at_ = (at_ + read_by_caller) % part_;
  return found;
}

CeilingSample CeilingProbe::int8(std::chrono::nanoseconds duration) {
  return sample_multiply_adds(pool_, duration, ceiling::kernels(level()).int8);
}
CeilingSample CeilingProbe::bf16(std::chrono::nanoseconds duration) {
  return sample_multiply_adds(pool_, duration, ceiling::kernels(level()).bf16);
}
CeilingSample CeilingProbe::fp32(std::chrono::nanoseconds duration) {
  return sample_multiply_adds(pool_, duration, ceiling::kernels(level()).fp32);
}

Ceilings CeilingProbe::measure(std::chrono::nanoseconds duration) {
  Ceilings found;
  found.read_bytes = read(duration).per_second();
  found.int8_ops = int8(duration).per_second();
  found.bf16_flops = bf16(duration).per_second();
  found.fp32_flops = fp32(duration).per_second();
  return found;
}

}  // namespace axon::cpu
