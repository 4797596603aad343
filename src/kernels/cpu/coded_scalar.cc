// Products with codes in plain C++, and the choice between the levels.

#include "kernels/cpu/coded_portable.h"
#include "tensor/dtype.h"

namespace axon::cpu::coded {
namespace {

using turboquant::Code;
using turboquant::ScaleKind;

// Two values of a trellis code at once, by the bits that their windows span: 8 and the odd symbol's.
template <Code kCode>
struct Pairs {
  static constexpr unsigned kEven = turboquant::symbol_bits(kCode, 0), kOdd = turboquant::symbol_bits(kCode, 1);
  static constexpr unsigned kSpan = 8 + kOdd;
  struct Pair {
    std::int8_t even, odd;
  };
  std::array<Pair, std::size_t{1} << kSpan> pairs;

  Pairs() {
    const auto values = turboquant::codebook(kCode).values;
    for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = {values[i & 255], values[(i >> kOdd) & 255]};
  }
  static const Pairs& get() {
    static const Pairs table;
    return table;
  }
};

std::uint64_t load_64(const std::uint8_t* p) {
  std::uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

// 16 values are a whole number of bytes: two halves of 8 from words that begin a byte before their first symbol.
template <Code kCode>
void decode_trellis(const CodedRegion& region, std::int8_t* out, std::size_t stride) {
  using Table = Pairs<kCode>;
  constexpr std::size_t kBytes = turboquant::bits_x2(kCode);  // of 16 values, and bits of 2
  constexpr unsigned kHalf = 4 * kBytes;                      // bits of 8 values
  const auto& pairs = Table::get().pairs;
  const std::size_t size = region.vector_bytes(), chunks = region.head_dim / 16;
  const auto four = [&](std::uint64_t word, std::int8_t* to) {
    for (unsigned i = 0; i < 4; ++i) {
      const std::size_t index = (word >> (i * kBytes + Table::kEven)) & (pairs.size() - 1);
      std::memcpy(to + 2 * i, &pairs[index], 2);
    }
  };
  for (std::size_t t = 0; t < region.tokens(); ++t) {
    const std::uint8_t* p = region.codes + t * size;
    for (std::size_t c = 0; c < chunks; ++c) {
      const std::uint8_t* from = p + c * kBytes;
      const std::uint64_t first = c == 0 ? load_64(from) << 8 | p[size - 1] : load_64(from - 1);
      const std::uint64_t second = load_64(from - 1 + kHalf / 8) >> (kHalf % 8);
      four(first, out + t * stride + 16 * c);
      four(second, out + t * stride + 16 * c + 8);
    }
  }
}

template <Code kCode>
void decode_scalar(const CodedRegion& region, std::int8_t* out, std::size_t stride) {
  constexpr unsigned kBits = turboquant::bits_x2(kCode) / 2, kLow = kBits == 3 ? 2 : kBits, kEach = 8 / kLow;
  const auto values = turboquant::codebook(kCode).values;
  const std::size_t size = region.vector_bytes(), A = region.head_dim;
  for (std::size_t t = 0; t < region.tokens(); ++t) {
    const std::uint8_t* low = region.codes + t * size;
    const std::uint8_t* high = low + A * kLow / 8;
    for (std::size_t i = 0; i < A; ++i) {
      unsigned index = (static_cast<unsigned>(low[i / kEach]) >> (i % kEach * kLow)) & ((1u << kLow) - 1);
      if (kBits == 3) index |= ((static_cast<unsigned>(high[i / 8]) >> (i % 8)) & 1u) << 2;
      out[t * stride + i] = values[index];
    }
  }
}

std::int32_t dot(const std::int8_t* k, const std::int8_t* q, std::size_t A) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < A; ++i) sum += std::int32_t{k[i]} * std::int32_t{q[i]};
  return sum;
}

void sum_16(const Rows& values, std::size_t first, std::size_t tokens, const std::uint8_t* weights,
            std::int32_t* sums) {
  for (std::size_t i = 0; i < 16; ++i) sums[i] = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::int8_t* v = values.row(t) + first;
    for (std::size_t i = 0; i < 16; ++i) sums[i] += std::int32_t{weights[t]} * std::int32_t{v[i]};
  }
}

void score(CodedRegions keys, const Int8Queries& q, std::byte* scratch, Mat<float> scores) {
  score_by_dot(keys, q, scratch, scores, dot);
}

void weigh(CodedRegions values, Mat<const float> weights, Weights* out) { weigh_rows(values, weights, out); }

void add(CodedRegions values, const Weights* weights, std::byte* scratch, Mat<float> out) {
  add_by_16(values, weights, scratch, out, sum_16);
}

}  // namespace

void decode_portable(const CodedRegion& region, std::int8_t* out, std::size_t stride) {
  if (!region.code) {
    for (std::size_t t = 0; t < region.tokens(); ++t) {
      std::memcpy(out + t * stride, region.codes + t * region.head_dim, region.head_dim);
    }
    return;
  }
  switch (*region.code) {
    case Code::kScalar1: return decode_scalar<Code::kScalar1>(region, out, stride);
    case Code::kScalar2: return decode_scalar<Code::kScalar2>(region, out, stride);
    case Code::kScalar3: return decode_scalar<Code::kScalar3>(region, out, stride);
    case Code::kScalar4: return decode_scalar<Code::kScalar4>(region, out, stride);
    case Code::kTrellis2: return decode_trellis<Code::kTrellis2>(region, out, stride);
    case Code::kTrellis2p5: return decode_trellis<Code::kTrellis2p5>(region, out, stride);
    case Code::kTrellis3: return decode_trellis<Code::kTrellis3>(region, out, stride);
    case Code::kTrellis3p5: return decode_trellis<Code::kTrellis3p5>(region, out, stride);
    case Code::kTrellis4: return decode_trellis<Code::kTrellis4>(region, out, stride);
  }
}

void factors_portable(ScaleKind kind, const std::uint8_t* scales, float power, float step, std::span<float> factors) {
  static const std::array<float, 256> of_byte = [] {
    std::array<float, 256> all{};
    for (std::uint16_t b = 0; b < 256; ++b) all[b] = turboquant::load_scale(ScaleKind::kByte, b, 0);
    return all;
  }();
  for (std::size_t t = 0; t < factors.size(); ++t) {
    if (kind == ScaleKind::kByte) {
      factors[t] = of_byte[scales[t]] * power * step;
    } else {
      factors[t] = f16_to_float(turboquant::load_scale_bits(kind, scales, t)) * power * step;
    }
  }
}

const Kernels kScalarKernels{factors_portable, decode_to_mat, score, weigh, add};

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

}  // namespace axon::cpu::coded
