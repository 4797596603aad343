// int8 kernels for aarch64 with the dot product instructions: rows of bytes against tokens, 16 columns an instruction.

#include "kernels/cpu/int8_portable.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__clang__)
#define AXON_DOTPROD __attribute__((target("dotprod")))
#else
#define AXON_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

namespace axon::cpu::int8 {
namespace {

void widen(DType dtype, const void* in, std::size_t first, std::size_t count, float* out) {
  const auto* p = static_cast<const unsigned char*>(in) + first * size_of(dtype);
  std::size_t i = 0;
  for (; dtype != DType::kF32 && i + 4 <= count; i += 4) {
    std::uint16_t bits[4];
    __builtin_memcpy(bits, p + 2 * i, sizeof(bits));
    const uint16x4_t half = vld1_u16(bits);
    const float32x4_t v =
        dtype == DType::kF16 ? vcvt_f32_f16(vreinterpret_f16_u16(half)) : vreinterpretq_f32_u32(vshll_n_u16(half, 16));
    vst1q_f32(out + i, v);
  }
  for (; i < count; ++i) out[i] = load_float(dtype, p, i);
}

// sum += a * b, four by four. Not the intrinsic: clang 14 has it only where the whole file may use the instructions.
AXON_DOTPROD inline void add_dots(int32x4_t& sum, int8x16_t a, int8x16_t b) {
  asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
}

// Codes of 8 bits do not fit int8: 128 is taken off, and 128 * sum(q) added again.
template <bool kWide>
AXON_DOTPROD float dot(const std::uint8_t* codes, const std::int8_t* q, std::size_t groups, std::size_t group_size,
                       const float* sw, const float* bw, const float* sx, const float* sum) {
  float32x4_t total = vdupq_n_f32(0.0f);
  float bias = 0.0f;
  const int8x16_t ones = vdupq_n_s8(1);
  for (std::size_t g = 0; g < groups; ++g) {
    int32x4_t dots = vdupq_n_s32(0);
    int32x4_t q_sum = vdupq_n_s32(0);
    for (std::size_t i = 0; i < group_size; i += 16, codes += 16, q += 16) {
      uint8x16_t code = vld1q_u8(codes);
      if constexpr (kWide) code = veorq_u8(code, vdupq_n_u8(128));
      const int8x16_t x = vld1q_s8(q);
      add_dots(dots, vreinterpretq_s8_u8(code), x);
      if constexpr (kWide) add_dots(q_sum, ones, x);
    }
    if constexpr (kWide) dots = vaddq_s32(dots, vshlq_n_s32(q_sum, 7));
    total = vfmaq_n_f32(total, vcvtq_f32_s32(dots), sw[g] * sx[g]);
    bias += bw[g] * sum[g];
  }
  return vaddvq_f32(total) + bias;
}

void rows(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch) {
  rows_by_dot(job, begin, end, scratch, {widen, job.weight.affine.bits == 8 ? dot<true> : dot<false>});
}

std::size_t interleave(int, std::size_t, std::size_t) { return 0; }

void quantise(const float* x, std::size_t cols, std::size_t group_size, std::size_t span, std::int8_t* q, float* scale,
              float* sum) {
  for (std::size_t first = 0; first < cols; first += group_size, ++scale, ++sum) {
    uint32x4_t most = vdupq_n_u32(0);
    for (std::size_t i = first; i < first + group_size; i += 4) {
      most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    }
    const GroupScale s = scale_of_group(vmaxvq_u32(most));
    int32x4_t total = vdupq_n_s32(0);
    for (std::size_t i = first; i < first + group_size; i += 8) {
      const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), s.inverse));
      const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), s.inverse));
      total = vaddq_s32(total, vaddq_s32(a, b));
      vst1_s8(q + i, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
    }
    *scale = s.scale;
    *sum = s.scale * static_cast<float>(vaddvq_s32(total));
  }
  const std::size_t groups = cols / group_size;
  finish_row(cols, group_size, span, q, scale - groups, sum - groups);
}

}  // namespace

const Kernels kNeonDotKernels{interleave, quantise, rows};

}  // namespace axon::cpu::int8

#endif
