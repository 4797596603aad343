#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace axon::train {
namespace {

// The sum of squares is formed in blocks of a fixed size and then over these in order: so threads do not matter.
constexpr std::size_t kBlock = 8192;

std::size_t blocks_of(std::size_t parameters) { return (parameters + kBlock - 1) / kBlock; }

void check(std::span<const ParameterRange> ranges, std::size_t parameters) {
  std::size_t end = 0;
  for (const ParameterRange& range : ranges) {
    AXON_CHECK(range.first >= end && range.count <= parameters && range.first <= parameters - range.count);
    end = range.first + range.count;
  }
}

// Calls f(range, begin, end) for what of each range is in [begin, end).
template <class F>
void each_part(std::span<const ParameterRange> ranges, std::size_t begin, std::size_t end, F&& f) {
  auto range = std::partition_point(ranges.begin(), ranges.end(),
                                    [&](const ParameterRange& r) { return r.first + r.count <= begin; });
  for (; range != ranges.end() && range->first < end; ++range) {
    const std::size_t from = std::max(begin, range->first), to = std::min(end, range->first + range->count);
    if (from < to) f(*range, from, to);
  }
}

}  // namespace

struct AdamW::Factors {
  float gradient = 1, keep = 1, rate = 0, root = 1, epsilon = 0;
  float beta1 = 0, rest1 = 0, beta2 = 0, rest2 = 0;
};

AdamW::AdamW(Carver& state, std::size_t parameters, const AdamWSettings& settings)
    : settings_(settings),
      first_(state.span<float>(parameters)),
      second_(state.span<float>(parameters)),
      squares_(state.span<double>(blocks_of(parameters))) {
  AXON_CHECK(settings.beta1 >= 0 && settings.beta1 < 1 && settings.beta2 >= 0 && settings.beta2 < 1);
  AXON_CHECK(settings.epsilon > 0 && settings.weight_decay >= 0);
}

Bytes AdamW::plan(std::size_t parameters) {
  Carver measure;
  AdamW(measure, parameters);
  return measure.peak();
}

double AdamW::gradient_norm(cpu::ThreadPool& pool, std::span<const ParameterRange> ranges, double average,
                            std::span<const float> gradients) {
  AXON_CHECK(gradients.size() == parameters());
  check(ranges, parameters());
  pool.split(squares_.size(), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t block = begin; block < end; ++block) {
      double sum = 0;
      each_part(ranges, block * kBlock, (block + 1) * kBlock,
                [&](const ParameterRange&, std::size_t from, std::size_t to) {
                  for (std::size_t i = from; i < to; ++i) {
                    const double g = static_cast<double>(gradients[i]);
                    sum += g * g;
                  }
                });
      squares_[block] = sum;
    }
  });
  double sum = 0;
  for (const double square : squares_) sum += square;
  return std::sqrt(sum) * average;
}

// MLX holds each factor in float32, and rounds 1 - beta from double.
AdamW::Factors AdamW::factors_of(const AdamWStep& step, float gradient_factor) const {
  Factors out;
  out.gradient = gradient_factor;
  out.keep = 1.0f - static_cast<float>(step.learning_rate) * static_cast<float>(settings_.weight_decay);
  out.rate = static_cast<float>(step.learning_rate);
  out.epsilon = static_cast<float>(settings_.epsilon);
  out.beta1 = static_cast<float>(settings_.beta1);
  out.rest1 = static_cast<float>(1 - settings_.beta1);
  out.beta2 = static_cast<float>(settings_.beta2);
  out.rest2 = static_cast<float>(1 - settings_.beta2);
  return out;
}

void AdamW::correct(std::uint64_t updates, double learning_rate, Factors& factors) const {
  if (!settings_.bias_correction) return;
  const double t = static_cast<double>(updates + 1);
  factors.rate = static_cast<float>(learning_rate / (1 - std::pow(settings_.beta1, t)));
  factors.root = static_cast<float>(1 / std::sqrt(1 - std::pow(settings_.beta2, t)));
}

AdamWOutcome AdamW::update(cpu::ThreadPool& pool, std::span<const ParameterRange> ranges, const AdamWStep& step,
                           std::span<const float> gradients, std::span<float> values) {
  AXON_CHECK(values.size() == parameters());
  const double norm = gradient_norm(pool, ranges, step.average, gradients);
  if (!std::isfinite(norm)) return {.gradient_norm = norm, .applied = false};
  const double clip = std::min(step.max_norm / (norm + 1e-6), 1.0);
  const Factors common = factors_of(step, static_cast<float>(step.average * clip));
  pool.split(squares_.size(), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
    each_part(ranges, begin * kBlock, end * kBlock, [&](const ParameterRange& range, std::size_t from, std::size_t to) {
      Factors f = common;
      correct(range.updates, step.learning_rate, f);
      const float* g_all = gradients.data();
      float *m_all = first_.data(), *v_all = second_.data(), *w_all = values.data();
      for (std::size_t i = from; i < to; ++i) {
        const float g = g_all[i] * f.gradient;
        const float m = f.beta1 * m_all[i] + f.rest1 * g;
        const float v = f.beta2 * v_all[i] + f.rest2 * (g * g);
        m_all[i] = m;
        v_all[i] = v;
        w_all[i] = w_all[i] * f.keep - f.rate * m / (std::sqrt(v) * f.root + f.epsilon);
      }
    });
  });
  return {.gradient_norm = norm, .applied = true};
}

}  // namespace axon::train
