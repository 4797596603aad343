// The int8 kernels in plain C++, and the choice between the levels.

#include "kernels/cpu/int8_portable.h"

namespace axon::cpu::int8 {
namespace {

void widen(DType dtype, const void* in, std::size_t first, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = load_float(dtype, in, first + i);
}

float dot(const std::uint8_t* codes, const std::int8_t* q, std::size_t groups, std::size_t group_size, const float* sw,
          const float* bw, const float* sx, const float* sum) {
  float total = 0.0f;
  for (std::size_t g = 0; g < groups; ++g) {
    std::int32_t dots = 0;
    for (std::size_t i = g * group_size; i < (g + 1) * group_size; ++i) {
      // 255 * 127 fits 16 bits unsigned only: the product is taken in 32.
      dots += std::int32_t{codes[i]} * std::int32_t{q[i]};
    }
    total += sw[g] * sx[g] * static_cast<float>(dots) + bw[g] * sum[g];
  }
  return total;
}

void rows(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  rows_by_dot(job, begin, end, scratch, {widen, dot});
}

std::size_t interleave(int, std::size_t, std::size_t) { return 0; }

void quantise(const float* x, std::size_t cols, std::size_t group_size, std::size_t span, std::int8_t* q, float* scale,
              float* sum) {
  for (std::size_t first = 0; first < cols; first += group_size, ++scale, ++sum) {
    switch (group_size) {
      case 32: quantise_group<32>(x + first, q + first, scale, sum); break;
      case 64: quantise_group<64>(x + first, q + first, scale, sum); break;
      default: quantise_group<128>(x + first, q + first, scale, sum); break;
    }
  }
  const std::size_t groups = cols / group_size;
  finish_row(cols, group_size, span, q, scale - groups, sum - groups);
}

}  // namespace

const Kernels kScalarKernels{interleave, quantise, rows};

const Kernels& kernels(Level level) {
  switch (level) {
#if defined(__x86_64__)
    case Level::kAvx512Vnni: return kAvx512Kernels;
    case Level::kAvx512:
    case Level::kAvx2: return kAvx2Kernels;
#elif defined(__aarch64__)
    case Level::kNeonDot: return kNeonDotKernels;
#endif
    default: return kScalarKernels;
  }
}

}  // namespace axon::cpu::int8
