// What the levels share for trellis codes: from vectors to a pass's inputs, from what a pass has decided to the best
// path, and from the path to bytes and scales. Only they include it.
//
// A pass runs the recursion of quant/turboquant_trellis.h over positions and leaves kStepBytes for each: bit i of a
// round says that window i + h beat window i, h being 128, 64, 32 and 16 in the rounds at bytes 0, 16, 24 and 28.
// Metrics may be offset by any constant, and a window that no path has reached may have any metric above all others:
// neither changes the path.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/coded_encode_kernels.h"
#include "quant/turboquant_recode.h"
#include "quant/turboquant_rotation.h"
#include "quant/turboquant_trellis.h"

#define AXON_ALWAYS_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define AXON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AXON_UNROLL _Pragma("GCC unroll 16")
#endif

namespace axon::cpu::coded {

inline constexpr std::size_t kStepBytes = 32;
inline constexpr std::size_t kReach = 16;   // positions on each side of the boundary
inline constexpr std::size_t kVectors = 8;  // coded together at most: their paths are traced side by side
inline constexpr std::size_t kStepsHeld = 2 * (turboquant::kMaxHeadDim + 1);

// Inputs and window values are doubled where costs are 8 e^2 or 16 e^2: it saves a shift for each cost.
constexpr int input_scale(int even_bits, int odd_bits) {
  return turboquant::fixed_costs(even_bits, odd_bits).limit > 8191 ? 1 : 2;
}

template <int kEven, int kOdd>
constexpr turboquant::Code code_of() {
  return static_cast<turboquant::Code>(5 * (kEven + kOdd));
}

// Of one code. Windows have the newest bit lowest.
struct PathTables {
  alignas(64) std::array<std::int16_t, 256> values;  // input_scale * window_values, in the pass's order
  std::array<std::int8_t, 256> coded;                // what the window decodes to
  std::array<std::uint8_t, 256> reversed;            // the window with the oldest bit lowest
};
template <class Pass, int kEven, int kOdd>
const PathTables& path_tables() {
  static const PathTables tables = [] {
    PathTables out{};
    const auto& fixed = turboquant::window_values(code_of<kEven, kOdd>());
    const auto values = turboquant::codebook(code_of<kEven, kOdd>()).values;
    for (std::size_t w = 0; w < 256; ++w) {
      const std::uint8_t reversed = turboquant::reverse_bits(static_cast<std::uint8_t>(w));
      out.values[Pass::place(w)] = static_cast<std::int16_t>(input_scale(kEven, kOdd) * fixed[w]);
      out.coded[w] = values[reversed];
      out.reversed[w] = reversed;
    }
    return out;
  }();
  return tables;
}

template <class T>
AXON_ALWAYS_INLINE T load_as(const std::uint8_t* p) {
  T out;
  std::memcpy(&out, p, sizeof(T));
  return out;
}

// The best window that ends in `state`, kBits being those of the symbol after it.
template <int kBits>
AXON_ALWAYS_INLINE std::uint64_t winner(const std::uint8_t* step, std::uint64_t state) {
  std::uint64_t i = state;
  if constexpr (kBits >= 4) i += ((std::uint64_t{load_as<std::uint16_t>(step + 28)} >> i) & 1) << 4;
  if constexpr (kBits >= 3) i += ((std::uint64_t{load_as<std::uint32_t>(step + 24)} >> i) & 1) << 5;
  i += ((load_as<std::uint64_t>(step + 16) >> i) & 1) << 6;
  const std::uint64_t first = load_as<std::uint64_t>(step + (i >> 6) * 8);
  return i + (((first >> (i & 63)) & 1) << 7);
}

struct Work {
  alignas(64) std::uint8_t decisions[kStepsHeld * kStepBytes];
  std::int32_t inputs[kStepsHeld];  // int16 twice
  std::uint8_t windows[kStepsHeld];
  std::int8_t coded[kStepsHeld];
  std::uint8_t boundary[kVectors];
};

// From the best windows at position kReach - 1, `last`, to the states before position 0.
template <int kEven, int kOdd, std::size_t kCount>
AXON_ALWAYS_INLINE void trace_boundary(const std::uint8_t* decisions, const std::uint8_t* last,
                                       std::uint8_t* boundary) {
  std::uint64_t state[kCount];
  for (std::size_t g = 0; g < kCount; ++g) state[g] = static_cast<std::uint64_t>(last[g] >> kOdd);
  for (std::size_t t = kReach - 1;; t -= 2) {
    for (std::size_t g = 0; g < kCount; ++g) {
      state[g] = winner<kOdd>(decisions + (g * kReach + t) * kStepBytes, state[g]) >> kEven;
    }
    if (t == 1) break;
    for (std::size_t g = 0; g < kCount; ++g) {
      state[g] = winner<kEven>(decisions + (g * kReach + t - 1) * kStepBytes, state[g]) >> kOdd;
    }
  }
  for (std::size_t g = 0; g < kCount; ++g) boundary[g] = static_cast<std::uint8_t>(state[g]);
}

// Vectors [first, first + kCount) of a group, each with A + 1 steps; the last one leads to the boundary.
template <int kEven, int kOdd, std::size_t kCount>
AXON_ALWAYS_INLINE void trace(const PathTables& tables, std::size_t A, std::size_t first, Work& work) {
  std::uint64_t state[kCount];
  const std::uint8_t* steps = work.decisions + first * (A + 1) * kStepBytes;
  for (std::size_t g = 0; g < kCount; ++g) state[g] = work.boundary[first + g];
  const auto put = [&](std::size_t g, std::size_t t, std::uint64_t window) __attribute__((always_inline)) {
    work.windows[(first + g) * A + t] = tables.reversed[window];
    work.coded[(first + g) * A + t] = tables.coded[window];
  };
  for (std::size_t t = A; t > 0; t -= 2) {
    for (std::size_t g = 0; g < kCount; ++g) {
      const std::uint64_t window = winner<kEven>(steps + (g * (A + 1) + t) * kStepBytes, state[g]);
      put(g, t - 1, window);
      state[g] = window >> kOdd;
    }
    for (std::size_t g = 0; g < kCount; ++g) {
      const std::uint64_t window = winner<kOdd>(steps + (g * (A + 1) + t - 1) * kStepBytes, state[g]);
      put(g, t - 2, window);
      state[g] = window >> kEven;
    }
  }
}

// windows [A], oldest bit lowest: the symbol is on top.
template <class Pass, int kEven, int kOdd>
AXON_ALWAYS_INLINE void write_stream(const std::uint8_t* windows, std::size_t A, std::uint8_t* stream) {
  constexpr std::uint64_t kTwo = (0xFFu << (8 - kEven) & 0xFFu) | (0xFFu << (8 - kOdd) & 0xFFu) << 8;
  constexpr std::uint64_t kSymbols = kTwo * 0x0001000100010001u;
  constexpr int kBytes = kEven + kOdd;  // of 16 symbols
  for (std::size_t t = 0; t < A; t += 16) {
    const std::uint64_t low = Pass::compress(load_as<std::uint64_t>(windows + t), kSymbols);
    const std::uint64_t high = Pass::compress(load_as<std::uint64_t>(windows + t + 8), kSymbols);
    const std::uint64_t both = low | high << (4 * kBytes);
    std::memcpy(stream, &both, kBytes);
    stream += kBytes;
  }
}

AXON_ALWAYS_INLINE std::int32_t dot_i8(const std::int8_t* a, const std::int8_t* b, std::size_t A) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < A; ++i) sum += std::int32_t{a[i]} * std::int32_t{b[i]};
  return sum;
}

// Returns the sum of squares.
template <int kEven, int kOdd>
AXON_ALWAYS_INLINE std::int32_t read_vector(std::span<const std::int8_t> values, std::int32_t* inputs) {
  const std::int32_t ii = dot_i8(values.data(), values.data(), values.size());
  if (ii == 0) {
    std::memset(inputs, 0, values.size() * sizeof(std::int32_t));
    return 0;
  }
  std::array<std::int16_t, turboquant::kMaxHeadDim> x;
  const float unit = turboquant::recode_unit(values.size(), ii, 1 << turboquant::kInputFractionBits);
  turboquant::recode_input(values, unit, {x.data(), values.size()});
  for (std::size_t t = 0; t < values.size(); ++t) {
    const auto half = static_cast<std::uint16_t>(input_scale(kEven, kOdd) * x[t]);
    inputs[t] = static_cast<std::int32_t>(half * 0x10001u);
  }
  return ii;
}

template <class Pass, int kEven, int kOdd>
AXON_ALWAYS_INLINE void find_paths(const PathTables& tables, std::size_t count, std::size_t A, Work& work) {
  std::uint8_t last[kVectors];
  for (std::size_t g = 0; g < count; ++g) {
    last[g] = Pass::template around<kEven, kOdd>(tables.values.data(), work.inputs + g * A, A,
                                                 work.decisions + g * kReach * kStepBytes);
  }
  std::size_t traced = 0;
  for (; traced + 4 <= count; traced += 4) {
    trace_boundary<kEven, kOdd, 4>(work.decisions + traced * kReach * kStepBytes, last + traced,
                                   work.boundary + traced);
  }
  for (; traced < count; ++traced) {
    trace_boundary<kEven, kOdd, 1>(work.decisions + traced * kReach * kStepBytes, last + traced,
                                   work.boundary + traced);
  }
  for (std::size_t g = 0; g < count; ++g) {
    Pass::template along<kEven, kOdd>(tables.values.data(), work.inputs + g * A, A, work.boundary[g],
                                      work.decisions + g * (A + 1) * kStepBytes);
  }
  for (traced = 0; traced + 4 <= count; traced += 4) trace<kEven, kOdd, 4>(tables, A, traced, work);
  for (; traced < count; ++traced) trace<kEven, kOdd, 1>(tables, A, traced, work);
}

template <class Pass, int kEven, int kOdd>
AXON_ALWAYS_INLINE void encode_rows(Mat<const std::int8_t> values, std::span<const float> factors, std::uint8_t* codes,
                                    std::span<float> scales) {
  constexpr turboquant::Code kCode = code_of<kEven, kOdd>();
  const PathTables& tables = path_tables<Pass, kEven, kOdd>();
  const std::size_t A = values.cols, size = turboquant::code_bytes(kCode, A);
  const std::size_t group = std::min(kVectors, kStepsHeld / (A + 1));
  Work work;
  for (std::size_t r = 0; r < values.rows; r += group) {
    const std::size_t count = std::min(group, values.rows - r);
    std::int32_t ii[kVectors];
    for (std::size_t g = 0; g < count; ++g) {
      ii[g] = read_vector<kEven, kOdd>(values.row(r + g), work.inputs + g * A);
    }
    find_paths<Pass, kEven, kOdd>(tables, count, A, work);
    for (std::size_t g = 0; g < count; ++g, codes += size) {
      const std::int8_t* coded = work.coded + g * A;
      const std::int32_t yc = dot_i8(values.row_ptr(r + g), coded, A), cc = dot_i8(coded, coded, A);
      scales[r + g] = turboquant::recode_scale(kCode, {ii[g], yc, cc}, factors[r + g]);
      if (ii[g] == 0 || factors[r + g] == 0) {
        std::memset(codes, 0, size);
      } else {
        write_stream<Pass, kEven, kOdd>(work.windows + g * A, A, codes);
      }
    }
  }
}

}  // namespace axon::cpu::coded
