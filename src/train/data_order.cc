#include "train/data_order.h"

#include <bit>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace axon::train {
namespace {

// Fisher and Yates, from the end as both of the original's libraries do; `draw(i)` is in [0, i].
template <class Draw>
void shuffle(std::span<std::uint32_t> order, Draw&& draw) {
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[draw(i)]);
}

}  // namespace

void shuffled_order(std::uint64_t seed, std::uint64_t epoch, std::span<std::uint32_t> order) {
  const CounterRng rng(seed, hash64("order of training examples") ^ mix64(epoch));
  __extension__ using Wide = unsigned __int128;
  // The high half of bits * (i + 1): uniform but for one part in 2^64 / (i + 1).
  shuffle(order, [&](std::size_t i) { return static_cast<std::size_t>((Wide{rng.bits(i)} * (i + 1)) >> 64); });
}

void numpy_order(std::uint32_t seed, std::span<std::uint32_t> order) {
  MersenneTwister twister(seed);
  shuffle(order, [&](std::size_t i) {
    const auto mask = static_cast<std::uint32_t>((std::uint64_t{1} << std::bit_width(i)) - 1);
    std::uint32_t j = 0;
    do j = twister.next() & mask;
    while (j > i);
    return static_cast<std::size_t>(j);
  });
}

void python_order(std::uint64_t seed, std::span<std::uint32_t> order) {
  const std::array key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  MersenneTwister twister{std::span<const std::uint32_t>(key.data(), key[1] == 0 ? 1 : 2)};
  shuffle(order, [&](std::size_t i) {
    const auto bits = static_cast<int>(std::bit_width(i + 1));
    AXON_CHECK(bits <= 32);
    std::uint32_t j = 0;
    do j = twister.next() >> (32 - bits);
    while (j > i);
    return static_cast<std::size_t>(j);
  });
}

MersenneTwister::MersenneTwister(std::uint32_t seed) {
  state_[0] = seed;
  for (std::uint32_t i = 1; i < kWords; ++i) {
    state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  }
}

MersenneTwister::MersenneTwister(std::span<const std::uint32_t> key) : MersenneTwister(19650218u) {
  AXON_CHECK(!key.empty() && key.size() <= kWords);
  std::uint32_t i = 1;
  const auto step = [&](std::uint32_t factor) {
    return state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * factor);
  };
  const auto advance = [&] {
    if (++i < kWords) return;
    state_[0] = state_[kWords - 1];
    i = 1;
  };
  for (std::uint32_t k = 0, j = 0; k < kWords; ++k) {
    state_[i] = step(1664525u) + key[j] + j;
    advance();
    j = j + 1 < key.size() ? j + 1 : 0;
  }
  for (std::uint32_t k = 1; k < kWords; ++k) {
    state_[i] = step(1566083941u) - i;
    advance();
  }
  state_[0] = 0x80000000u;
}

void MersenneTwister::refill() {
  constexpr std::size_t kShift = 397;
  for (std::size_t i = 0; i < kWords; ++i) {
    const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kWords] & 0x7FFFFFFFu);
    state_[i] = state_[(i + kShift) % kWords] ^ (y >> 1) ^ ((y & 1u) != 0 ? 0x9908B0DFu : 0u);
  }
  next_ = 0;
}

std::uint32_t MersenneTwister::next() {
  if (next_ == kWords) refill();
  std::uint32_t y = state_[next_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9D2C5680u;
  y ^= (y << 15) & 0xEFC60000u;
  return y ^ (y >> 18);
}

}  // namespace axon::train
