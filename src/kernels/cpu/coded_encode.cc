// The choice between the levels.

#include "kernels/cpu/coded_encode.h"

#include <cmath>

#include "kernels/cpu/coded_encode_kernels.h"
#include "kernels/cpu/level.h"
#include "quant/turboquant_recode.h"
#include "quant/turboquant_rotation.h"

namespace axon::cpu {
namespace {

using turboquant::Code;

void encode_trellis_portable(Code code, Mat<const std::int8_t> values, std::span<const float> factors,
                             std::uint8_t* codes, std::span<float> scales) {
  const std::size_t size = turboquant::code_bytes(code, values.cols);
  for (std::size_t t = 0; t < values.rows; ++t) {
    scales[t] = turboquant::recode(code, values.row(t), factors[t], {codes + t * size, size});
  }
}

}  // namespace

void encode(Code code, Mat<const std::int8_t> values, std::span<const float> factors, std::uint8_t* codes,
            std::span<float> scales) {
  AXON_CHECK(turboquant::supports_head_dim(values.cols));
  AXON_CHECK(factors.size() == values.rows && scales.size() == values.rows);
  for ([[maybe_unused]] const float factor : factors) AXON_DCHECK(factor >= 0 && std::isfinite(factor));
  if (!turboquant::is_trellis(code)) return coded::encode_scalar_codes(code, values, factors, codes, scales);
  switch (level()) {
#if defined(__x86_64__)
    case Level::kAvx512Vnni: return coded::encode_trellis_avx512(code, values, factors, codes, scales);
    case Level::kAvx512:
    case Level::kAvx2: return coded::encode_trellis_avx2(code, values, factors, codes, scales);
#endif
    default: return encode_trellis_portable(code, values, factors, codes, scales);
  }
}

}  // namespace axon::cpu
