#include "kernels/cpu/dropout.h"

#include <cmath>

#include "base/random.h"

namespace axon::cpu {
namespace {

// Plain code: the generator multiplies 64-bit integers, for which most levels have no vector instruction.
template <bool kAdd>
void dropout_row(const CounterRng& rng, std::uint64_t number, std::uint64_t least, float factor, const float* x,
                 float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const float left = (rng.bits(number + i) >> 11) >= least ? factor * x[i] : 0.0f;
    y[i] = kAdd ? y[i] + left : left;
  }
}

}  // namespace

void dropout(ThreadPool& pool, const Dropout& dropout, Mat<const float> x, Mat<float> y, bool add) {
  AXON_DCHECK(x.rows == y.rows && x.cols == y.cols && dropout.p >= 0.0f && dropout.p < 1.0f);
  const CounterRng rng(dropout.seed, dropout.stream);
  // uniform() is the upper 53 bits by 2^53: compared with p in whole numbers, with the same answer.
  const auto least = static_cast<std::uint64_t>(std::ceil(std::ldexp(double{dropout.p}, 53)));
  const auto factor = static_cast<float>(1.0 / (1.0 - double{dropout.p}));
  const auto row = add ? dropout_row<true> : dropout_row<false>;
  // 2 rows of 2560 take about as long as waking a thread.
  pool.split(x.rows, 2, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      row(rng, dropout.first + t * x.cols, least, factor, x.row_ptr(t), y.row_ptr(t), x.cols);
    }
  });
}

}  // namespace axon::cpu
