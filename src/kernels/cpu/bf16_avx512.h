#pragma once
// What the AVX512-BF16 kernels share: their instructions, and weights of any kind as bf16.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/bf16_kernels.h"
#include "tensor/weight.h"

#if defined(__x86_64__)

// GCC 12 takes its own undefined registers in this header for a mistake (bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#define AXON_BF16 __attribute__((target("avx2,bmi2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define AXON_BF16_INLINE static inline AXON_BF16 __attribute__((always_inline, unused))
#if defined(__clang__)
#define AXON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AXON_UNROLL _Pragma("GCC unroll 16")
#endif

namespace axon::cpu::bf16 {

inline constexpr std::size_t kLanes = 32;  // bf16 of a vector

// The first `count` elements of a vector.
AXON_BF16_INLINE __mmask32 first_lanes(std::size_t count) {
  return static_cast<__mmask32>(count >= kLanes ? 0xFFFFFFFFu : (1u << count) - 1u);
}

// sum += the products of pairs. Not the intrinsic: around that, GCC 12 copies each sum to another register and back.
AXON_BF16_INLINE void add_dots(__m512& sum, __m512i w, __m512i x) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
}

// Columns [first, first + count) of row r as bf16, and zeros up to the next multiple of 32. A quantised value is
// code * scale + bias in float32, then rounded to the nearest, ties to even. `first` is a multiple of 32; so is
// `count` where the weight is quantised.
void decode_row(const Weight& weight, std::size_t r, std::size_t first, std::size_t count, std::uint16_t* out);

// Kernels::columns.
void columns(const Job& job, std::size_t begin, std::size_t end, std::byte* scratch);

}  // namespace axon::cpu::bf16

#endif
