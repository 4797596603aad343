#pragma once
// In which order the examples of an epoch come.

#include <array>
#include <cstdint>
#include <span>

namespace axon::train {

// Fills `order` with 0 .. size-1, shuffled (Fisher and Yates, draws of CounterRng): another order for each epoch, which
// depends on nothing but the size, the seed and the epoch.
void shuffled_order(std::uint64_t seed, std::uint64_t epoch, std::span<std::uint32_t> order);

// The orders of the Python original, the same in every epoch: numpy.random.RandomState(seed).shuffle, seed below 2^32,
// and random.Random(seed).shuffle.
void numpy_order(std::uint32_t seed, std::span<std::uint32_t> order);
void python_order(std::uint64_t seed, std::span<std::uint32_t> order);

// MT19937 (Matsumoto and Nishimura 1998) with both of its seedings.
class MersenneTwister {
 public:
  explicit MersenneTwister(std::uint32_t seed);                  // init_genrand
  explicit MersenneTwister(std::span<const std::uint32_t> key);  // init_by_array
  std::uint32_t next();

 private:
  static constexpr std::size_t kWords = 624;
  void refill();
  std::array<std::uint32_t, kWords> state_;
  std::size_t next_ = kWords;
};

}  // namespace axon::train
