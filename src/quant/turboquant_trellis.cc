#include "quant/turboquant_trellis.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "quant/turboquant_rotation.h"

namespace axon::turboquant {
namespace {

constexpr std::size_t kWindows = 256;
constexpr std::size_t kMaxStates = 64;      // of the code with the shortest symbols, 2 bits
constexpr std::size_t kBoundaryReach = 16;  // positions on each side of the boundary that choose its state

using Values = std::array<std::int16_t, kWindows>;

Values fixed_values(Code code) {
  const Codebook& book = codebook(code);
  Values out{};
  for (std::size_t w = 0; w < kWindows; ++w) {
    const double value = static_cast<double>(book.values[reverse_bits(static_cast<std::uint8_t>(w))]) *
                         static_cast<double>(book.step) * (1 << kInputFractionBits);
    out[w] = static_cast<std::int16_t>(value < 0 ? value - 0.5 : value + 0.5);
  }
  return out;
}

// Viterbi over one pattern of symbol lengths. Loops over windows are plain, so that the compiler makes vectors of them;
// "unroll 1" keeps g++ from turning the short ones into scalar code first (twice as slow at 4 bits).
template <int kEven, int kOdd>
class Viterbi {
 public:
  static constexpr FixedCosts kFixed = fixed_costs(kEven, kOdd);
  static constexpr int kLargestCost = kFixed.largest();
  static_assert((kFixed.settle + 1) * kLargestCost <= 32767);
  // Metric of a state that no path has reached: above all that have been reached, and a cost still fits on top.
  static constexpr std::int16_t kUnreached = 32767 - kLargestCost;
  static_assert(kFixed.settle * kLargestCost < kUnreached);

  explicit Viterbi(const Values& values) : values_(values) {}

  void costs(std::int16_t x, std::int16_t* out) const {
    for (std::size_t w = 0; w < kWindows; ++w) {
      const auto e = static_cast<std::int16_t>(x - values_[w]);
      const std::int16_t magnitude = std::max(e, static_cast<std::int16_t>(-e));
      const std::int16_t bounded = std::min(magnitude, static_cast<std::int16_t>(kFixed.limit));
      const auto a = static_cast<std::int16_t>(bounded << kFixed.shift_a);
      const auto b = static_cast<std::int16_t>(bounded << kFixed.shift_b);
      out[w] = static_cast<std::int16_t>((a * b) >> 16);
    }
  }

  void start_anywhere() { metrics_.fill(0); }
  // As if a window that ends in `state` had been seen, and no other.
  void start_at(std::uint8_t state) {
    metrics_.fill(kUnreached);
    metrics_[state] = 0;
  }

  // Position t: `from` [kMaxStates] gets, for each state before it, the high bits of the best window there.
  template <bool kSettled>
  void step(std::size_t t, std::int16_t x, std::uint8_t* from) {
    costs(x, costs_.data());
    if (kEven == kOdd || t % 2 == 0) {
      advance<kEven, kSettled>(from);
    } else {
      advance<kOdd, kSettled>(from);
    }
  }

  // Before position t (even): the high bits of the best window that ends in `state`.
  std::uint8_t best_into(std::uint8_t state) {
    std::array<std::uint8_t, kMaxStates> from{};
    best_of_predecessors<kEven>(from.data());
    return from[state];
  }
  std::uint8_t best_window() const {
    return static_cast<std::uint8_t>(std::min_element(metrics_.begin(), metrics_.end()) - metrics_.begin());
  }

  static constexpr int bits(std::size_t t) { return kEven + static_cast<int>(t % 2) * (kOdd - kEven); }
  // The window before position t's `window`.
  static std::uint8_t previous(std::size_t t, std::uint8_t window, const std::uint8_t* from) {
    const int k = bits(t), state = window >> k;
    return static_cast<std::uint8_t>(from[state] << (8 - k) | state);
  }

 private:
  template <int kBits>
  void best_of_predecessors(std::uint8_t* from) {
    constexpr std::size_t kStates = kWindows >> kBits;
    constexpr std::size_t kHalf = kWindows / 2;
    for (std::size_t i = 0; i < kHalf; ++i) {
      const std::int16_t low = metrics_[i], high = metrics_[i + kHalf];
      which_[i] = high < low ? static_cast<std::int16_t>(kHalf / kStates) : std::int16_t{0};
      best_[i] = high < low ? high : low;
    }
    play<kHalf / 2, kStates>(best_.data(), which_.data());
#pragma GCC unroll 1
    for (std::size_t s = 0; s < kStates; ++s) from[s] = static_cast<std::uint8_t>(which_[s]);
  }
  // Rounds that halve: window i against i + kHalf, until one is left for each state.
  template <std::size_t kHalf, std::size_t kStates>
  static void play(std::int16_t* __restrict best, std::int16_t* __restrict which) {
#pragma GCC unroll 1
    for (std::size_t i = 0; i < kHalf; ++i) {
      const std::int16_t low = best[i], high = best[i + kHalf];
      const std::int16_t which_low = which[i];
      const auto which_high = static_cast<std::int16_t>(which[i + kHalf] + static_cast<int>(kHalf / kStates));
      which[i] = high < low ? which_high : which_low;
      best[i] = high < low ? high : low;
    }
    if constexpr (kHalf > kStates) play<kHalf / 2, kStates>(best, which);
  }

  template <int kBits, bool kSettled>
  void advance(std::uint8_t* from) {
    constexpr std::size_t kStates = kWindows >> kBits;
    best_of_predecessors<kBits>(from);
    const std::int16_t base = kSettled ? best_[0] : std::int16_t{0};
#pragma GCC unroll 1
    for (std::size_t s = 0; s < kStates; ++s) {
      best_[s] = kSettled ? static_cast<std::int16_t>(best_[s] - base) : std::min(best_[s], kUnreached);
    }
    alignas(64) std::int16_t spread[kWindows];
    repeat<kStates>(best_.data(), spread);
    for (std::size_t w = 0; w < kWindows; ++w) metrics_[w] = static_cast<std::int16_t>(spread[w] + costs_[w]);
  }
  // out [256] <- the first kCount of in, each 256 / kCount times.
  template <std::size_t kCount>
  static void repeat(const std::int16_t* __restrict in, std::int16_t* __restrict out) {
    alignas(64) std::int16_t twice[2 * kCount];
    std::int16_t* to = 2 * kCount == kWindows ? out : twice;
#pragma GCC unroll 1
    for (std::size_t i = 0; i < kCount; ++i) to[2 * i] = to[2 * i + 1] = in[i];
    if constexpr (2 * kCount < kWindows) repeat<2 * kCount>(twice, out);
  }

  const Values& values_;
  alignas(64) std::array<std::int16_t, kWindows> metrics_{};
  alignas(64) std::array<std::int16_t, kWindows> costs_{};
  alignas(64) std::array<std::int16_t, kWindows> best_{};
  alignas(64) std::array<std::int16_t, kWindows> which_{};
};

template <int kEven, int kOdd>
std::uint8_t find_boundary(const Values& values, std::span<const std::int16_t> x) {
  Viterbi<kEven, kOdd> viterbi(values);
  std::array<std::array<std::uint8_t, kMaxStates>, kBoundaryReach> from;
  std::array<std::uint8_t, kMaxStates> unused;
  const std::size_t reach = std::min(kBoundaryReach, x.size());
  viterbi.start_anywhere();
  for (std::size_t t = x.size() - reach; t < x.size(); ++t) viterbi.template step<true>(t, x[t], unused.data());
  for (std::size_t t = 0; t < reach; ++t) viterbi.template step<true>(t, x[t], from[t].data());
  std::uint8_t window = viterbi.best_window();
  for (std::size_t t = reach; t-- > 1;) window = viterbi.previous(t, window, from[t].data());
  return static_cast<std::uint8_t>(window >> kEven);
}

template <int kEven, int kOdd>
void find_windows(const Values& values, std::span<const std::int16_t> x, std::uint8_t boundary,
                  std::span<std::uint8_t> windows) {
  using Search = Viterbi<kEven, kOdd>;
  Search viterbi(values);
  std::array<std::array<std::uint8_t, kMaxStates>, kMaxHeadDim> from;
  viterbi.start_at(boundary);
  const std::size_t settle = static_cast<std::size_t>(Search::kFixed.settle);
  for (std::size_t t = 0; t < settle; ++t) viterbi.template step<false>(t, x[t], from[t].data());
  for (std::size_t t = settle; t < x.size(); ++t) viterbi.template step<true>(t, x[t], from[t].data());
  auto window = static_cast<std::uint8_t>(viterbi.best_into(boundary) << (8 - kEven) | boundary);
  for (std::size_t t = x.size(); t-- > 0;) {
    windows[t] = window;
    window = viterbi.previous(t, window, from[t].data());
  }
  AXON_DCHECK((window & ((kWindows >> kEven) - 1)) == boundary);
}

// Calls f<even bits, odd bits>().
template <class F>
auto with_rate(Code code, F&& f) {
  switch (code) {
    case Code::kTrellis2p5: return f.template operator()<2, 3>();
    case Code::kTrellis3: return f.template operator()<3, 3>();
    case Code::kTrellis3p5: return f.template operator()<3, 4>();
    case Code::kTrellis4: return f.template operator()<4, 4>();
    default: return f.template operator()<2, 2>();
  }
}

void write_stream(Code code, std::span<const std::uint8_t> windows, std::span<std::uint8_t> stream) {
  std::uint32_t pending = 0;
  unsigned held = 0;
  std::size_t out = 0;
  for (std::size_t t = 0; t < windows.size(); ++t) {
    const unsigned k = symbol_bits(code, t);
    const unsigned reversed = static_cast<unsigned>(reverse_bits(windows[t])) >> (8 - k);
    pending |= reversed << held;
    for (held += k; held >= 8; held -= 8, pending >>= 8) stream[out++] = static_cast<std::uint8_t>(pending);
  }
}

}  // namespace

// Built once: reading a function's static is a branch, making it a few hundred multiplications.
const Values& window_values(Code code) {
  static const std::array<Values, 5> all = {fixed_values(Code::kTrellis2), fixed_values(Code::kTrellis2p5),
                                            fixed_values(Code::kTrellis3), fixed_values(Code::kTrellis3p5),
                                            fixed_values(Code::kTrellis4)};
  return all[bits_x2(code) - 4];
}

std::uint8_t boundary_state(Code code, std::span<const std::int16_t> x) {
  return with_rate(code, [&]<int kEven, int kOdd>() { return find_boundary<kEven, kOdd>(window_values(code), x); });
}

void best_windows(Code code, std::span<const std::int16_t> x, std::uint8_t boundary, std::span<std::uint8_t> windows) {
  AXON_CHECK(x.size() >= 6 && x.size() % 2 == 0 && x.size() <= kMaxHeadDim && windows.size() == x.size());
  with_rate(code, [&]<int kEven, int kOdd>() { find_windows<kEven, kOdd>(window_values(code), x, boundary, windows); });
}

void branch_costs(Code code, std::int16_t x, std::span<std::int16_t> costs) {
  with_rate(code, [&]<int kEven, int kOdd>() { Viterbi<kEven, kOdd>(window_values(code)).costs(x, costs.data()); });
}

void encode_trellis(Code code, std::span<const std::int16_t> x, std::span<std::uint8_t> stream) {
  AXON_CHECK(is_trellis(code) && supports_head_dim(x.size()) && stream.size() == code_bytes(code, x.size()));
  std::array<std::uint8_t, kMaxHeadDim> windows;
  const std::span<std::uint8_t> used(windows.data(), x.size());
  best_windows(code, x, boundary_state(code, x), used);
  write_stream(code, used, stream);
}

void read_windows(Code code, std::span<const std::uint8_t> stream, std::span<std::uint8_t> windows) {
  const std::size_t bits = 8 * stream.size();
  std::size_t end = 0;
  for (std::size_t t = 0; t < windows.size(); ++t) {
    end += symbol_bits(code, t);
    const std::size_t first = (end + bits - 8) % bits, byte = first / 8;
    const unsigned both = stream[byte] | static_cast<unsigned>(stream[(byte + 1) % stream.size()]) << 8;
    windows[t] = static_cast<std::uint8_t>(both >> (first % 8));
  }
}

}  // namespace axon::turboquant
