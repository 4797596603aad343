// The loops that every level can say in Highway's words, and int8 in plain C++.

#include "kernels/cpu/ceilings.h"
#include "kernels/cpu/ceilings_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/ceilings_loops.cc"
#include <hwy/foreach_target.h>  // before highway.h: includes this file once per CPU level
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace axon::cpu::ceiling {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// kStreams equal pieces at once, four lines of each a turn, asked for kAhead bytes before they are loaded (0: left to
// the processor). The sum of the words.
template <std::size_t kStreams, std::size_t kAhead>
std::uint64_t read_streams(const std::byte* memory, std::size_t bytes) {
  const hn::CappedTag<std::uint64_t, 8> d;
  constexpr std::size_t kVectors = 32 / hn::MaxLanes(d);
  const auto* words = reinterpret_cast<const std::uint64_t*>(memory);
  const std::size_t piece = bytes / 8 / kStreams;
  hn::Vec<decltype(d)> sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (std::size_t i = 0; i < piece; i += 32) {
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      const std::uint64_t* at = words + stream * piece + i;
      for (std::size_t line = 0; kAhead != 0 && line < 4; ++line) __builtin_prefetch(at + kAhead / 8 + 8 * line);
      for (std::size_t k = 0; k < kVectors; ++k) {
        sums[k % 4] = hn::Add(sums[k % 4], hn::Load(d, at + k * hn::MaxLanes(d)));
      }
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
}

// kReadWayNames says what each is. A last batch that streams would not share evenly is read as one.
std::uint64_t read(std::size_t way, const std::byte* memory, std::size_t bytes) {
  if (way == 4 && bytes % 2048 == 0) return read_streams<8, 2048>(memory, bytes);
  if (way == 3 && bytes % 1024 == 0) return read_streams<4, 4096>(memory, bytes);
  if (way == 2) return read_streams<1, 16384>(memory, bytes);
  if (way == 1) return read_streams<1, 0>(memory, bytes);
  return read_streams<1, 4096>(memory, bytes);
}

// Two instructions a cycle that each take four cycles need eight sums; four pipes, as on ARM, sixteen.
constexpr std::size_t kSums = HWY_ARCH_ARM_A64 ? 16 : 12;

std::uint64_t fp32() {
  const hn::CappedTag<float, 16> d;
  using V = hn::Vec<decltype(d)>;
  // Volatile: no sum is known to be the same as another.
  volatile float hidden_one = 1.0f, hidden_zero = 0.0f;
  const V one = hn::Set(d, hidden_one);
  V sums[kSums];
  for (V& s : sums) s = hn::Set(d, hidden_zero);
  for (std::size_t i = 0; i < kTurns; ++i) {
    // Without an instruction for both, the product must not stay the same from turn to turn.
    for (V& s : sums) s = HWY_NATIVE_FMA ? hn::MulAdd(one, one, s) : hn::MulAdd(s, one, one);
  }
  std::uint64_t total = 0;
  for (const V& s : sums) total += static_cast<std::uint64_t>(hn::GetLane(hn::SumOfLanes(d, s)));
  return total;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace axon::cpu::ceiling
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace axon::cpu::ceiling {

HWY_EXPORT(read);
HWY_EXPORT(fp32);

// On 4 KiB pages one Xeon (L3 of 260 MiB) read 13.9, 12.9, 14.2, 16.0 and 16.2 GB/s on one core, on 2 MiB pages all
// the same; on a Zen 4 one stream was the fastest. What lost on the Xeon: non-temporal prefetch (half the rate), a
// second prefetch of the lines far ahead, streams interleaved page by page.
const char* const kReadWayNames[CeilingProbe::kReadWays] = {
    "one stream, asked for 4 KiB ahead",
    "one stream, as the processor prefetches it",
    "one stream, asked for 16 KiB ahead",
    "four streams 64 KiB apart, asked for 4 KiB ahead",
    "eight streams 32 KiB apart, asked for 2 KiB ahead",
};

std::uint64_t read(std::size_t way, const std::byte* memory, std::size_t bytes) {
  return HWY_DYNAMIC_DISPATCH(read)(way, memory, bytes);
}
std::uint64_t fp32() { return HWY_DYNAMIC_DISPATCH(fp32)(); }

// As the scalar kernels do it, on operands in the first cache.
std::uint64_t int8_scalar() {
  constexpr std::size_t kGroup = 128;
  std::uint8_t codes[kGroup];
  std::int8_t q[kGroup];
  for (std::size_t i = 0; i < kGroup; ++i) codes[i] = 1, q[i] = 1;
  std::uint64_t total = 0;
  for (std::size_t turn = 0; turn < kTurns; ++turn) {
    asm volatile("" : : "r"(codes), "r"(q) : "memory");
    std::int32_t dots = 0;
    for (std::size_t i = 0; i < kGroup; ++i) dots += std::int32_t{codes[i]} * std::int32_t{q[i]};
    total += static_cast<std::uint64_t>(dots);
  }
  return total;
}

}  // namespace axon::cpu::ceiling
#endif
