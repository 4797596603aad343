#include "quant/turboquant_rotation.h"

#include <cstring>

#include "base/random.h"

namespace axon::turboquant {

Status check_head_dim(std::size_t head_dim) {
  if (supports_head_dim(head_dim)) return Ok{};
  return make_error(ErrorCode::kUnsupported,
                    "head_dim {} cannot be coded by TurboQuant: it must be a multiple of 16, at most {}", head_dim,
                    kMaxHeadDim);
}

Rotation::Rotation(std::size_t head_dim)
    : head_dim_(head_dim), order_(head_dim & (~head_dim + 1)), signs_(2 * head_dim) {
  AXON_CHECK(supports_head_dim(head_dim));
  // Stream 3 is the first whose largest |R_ij| at A = 80 is below 0.28: no single outlier stays in one coordinate.
  constexpr CounterRng kSigns(hash64("turboquant rotation signs"), 3);
  for (std::size_t i = 0; i < signs_.size(); ++i) signs_[i] = (kSigns.bits(i) & 1) != 0 ? -1.0f : 1.0f;
}

namespace {

// Four floats of any CPU: sums and differences in pairs round as one by one.
using Four = float __attribute__((vector_size(16)));
Four load(const float* x) {
  Four v;
  std::memcpy(&v, x, sizeof v);
  return v;
}
void store(Four v, float* x) { std::memcpy(x, &v, sizeof v); }

// x <- H x for each run of `order` values, a multiple of 4; H of +-1.
void hadamard(float* x, std::size_t count, std::size_t order) {
  constexpr Four kOdd = {1, -1, 1, -1}, kHigh = {1, 1, -1, -1};
  for (std::size_t i = 0; i < count; i += 4) {
    Four v = load(x + i);
    v = __builtin_shufflevector(v, v, 1, 0, 3, 2) + v * kOdd;
    v = __builtin_shufflevector(v, v, 2, 3, 0, 1) + v * kHigh;
    store(v, x + i);
  }
  for (std::size_t half = 4; half < order; half *= 2) {
    for (std::size_t at = 0; at < count; at += 2 * half) {
      for (std::size_t i = at; i < at + half; i += 4) {
        const Four a = load(x + i), b = load(x + i + half);
        store(a + b, x + i);
        store(a - b, x + i + half);
      }
    }
  }
}

}  // namespace

void Rotation::mix(float* x) const {
  hadamard(x, head_dim_, order_);
  const std::size_t blocks = head_dim_ / order_;
  if (blocks == 1) return;
  const float factor = 2.0f / static_cast<float>(blocks);
  for (std::size_t i = 0; i < order_; i += 4) {
    Four sum = load(x + i);
    for (std::size_t b = 1; b < blocks; ++b) sum += load(x + b * order_ + i);
    for (std::size_t b = 0; b < blocks; ++b) store(load(x + b * order_ + i) - factor * sum, x + b * order_ + i);
  }
}

// The two factors 1 / sqrt(p) are one factor 1 / p, a power of two: exact.
void Rotation::apply(std::span<float> x) const {
  AXON_CHECK(x.size() == head_dim_);
  const float* inner = signs_.data() + head_dim_;
  for (std::size_t i = 0; i < head_dim_; ++i) x[i] *= inner[i];
  mix(x.data());
  for (std::size_t i = 0; i < head_dim_; ++i) x[i] *= signs_[i];
  mix(x.data());
  for (float& v : x) v *= 1.0f / static_cast<float>(order_);
}

void Rotation::invert(std::span<float> x) const {
  AXON_CHECK(x.size() == head_dim_);
  const float* inner = signs_.data() + head_dim_;
  mix(x.data());
  for (std::size_t i = 0; i < head_dim_; ++i) x[i] *= signs_[i];
  mix(x.data());
  for (std::size_t i = 0; i < head_dim_; ++i) x[i] *= inner[i] / static_cast<float>(order_);
}

std::vector<float> Rotation::matrix() const {
  std::vector<float> rows(head_dim_ * head_dim_, 0.0f);
  for (std::size_t r = 0; r < head_dim_; ++r) {  // row r of R is R^T e_r
    rows[r * head_dim_ + r] = 1.0f;
    invert({rows.data() + r * head_dim_, head_dim_});
  }
  return rows;
}

}  // namespace axon::turboquant
