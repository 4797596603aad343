// Products with codes for aarch64 with the dot product instructions; decoding is the portable one.

#include "kernels/cpu/coded_portable.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__clang__)
#define AXON_DOTPROD __attribute__((target("dotprod")))
#else
#define AXON_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

namespace axon::cpu::coded {
namespace {

// sum += a * b, four by four. Not the intrinsic: clang 14 has it only where the whole file may use the instructions.
AXON_DOTPROD inline void add_dots(int32x4_t& sum, int8x16_t a, int8x16_t b) {
  asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
}

AXON_DOTPROD std::int32_t dot(const std::int8_t* k, const std::int8_t* q, std::size_t A) {
  int32x4_t sum = vdupq_n_s32(0);
  for (std::size_t i = 0; i < A; i += 16) add_dots(sum, vld1q_s8(k + i), vld1q_s8(q + i));
  return vaddvq_s32(sum);
}

void sum_16(const Rows& values, std::size_t first, std::size_t tokens, const std::uint8_t* weights,
            std::int32_t* sums) {
  int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  for (std::size_t t = 0; t < tokens; ++t) {
    const int8x16_t v = vld1q_s8(values.row(t) + first);
    const int16x8_t low = vmovl_s8(vget_low_s8(v)), high = vmovl_s8(vget_high_s8(v));
    const auto w = static_cast<std::int16_t>(weights[t]);
    sum[0] = vmlal_n_s16(sum[0], vget_low_s16(low), w);
    sum[1] = vmlal_n_s16(sum[1], vget_high_s16(low), w);
    sum[2] = vmlal_n_s16(sum[2], vget_low_s16(high), w);
    sum[3] = vmlal_n_s16(sum[3], vget_high_s16(high), w);
  }
  for (std::size_t i = 0; i < 4; ++i) vst1q_s32(sums + 4 * i, sum[i]);
}

void score(CodedRegions keys, const Int8Queries& q, std::byte* scratch, Mat<float> scores) {
  score_by_dot(keys, q, scratch, scores, dot);
}

void weigh(CodedRegions values, Mat<const float> weights, Weights* out) { weigh_rows(values, weights, out); }

void add(CodedRegions values, const Weights* weights, std::byte* scratch, Mat<float> out) {
  add_by_16(values, weights, scratch, out, sum_16);
}

}  // namespace

const Kernels kNeonDotKernels{factors_portable, decode_to_mat, score, weigh, add};

}  // namespace axon::cpu::coded

#endif
