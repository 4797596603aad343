#include "convert/low_rank_rows.h"

#include <cmath>

namespace axon {

LowRankRows::LowRankRows(const AdapterSet& set) : scale_(set.shape().scale) {
  for (const AdapterTensor& t : set.tensors()) {
    const std::span<const float> values = set.values_of(t);
    if (t.part == AdapterTensor::Part::kA) {
      first_.try_emplace(set.shape().linears[t.linear].name, ones_.size());
      ones_.push_back({.a = {values.data(), t.rows, t.cols}, .b = {}, .magnitude = {}});
    } else if (t.part == AdapterTensor::Part::kB) {
      ones_.back().b = {values.data(), t.rows, t.cols};
    } else {
      ones_.back().magnitude = values;
    }
  }
}

void LowRankRows::add(const std::string& layer, std::size_t r, std::span<float> w) const {
  const std::size_t first = first_.find(layer)->second, out = ones_[first].b.cols;
  const One& one = ones_[first + r / out];
  const std::size_t row = r % out;
  for (std::size_t j = 0; j < one.a.rows; ++j) {
    const float factor = scale_ * one.b.row(j)[row];
    const float* a = one.a.row_ptr(j);
    for (std::size_t c = 0; c < w.size(); ++c) w[c] += factor * a[c];
  }
  if (one.magnitude.empty()) return;
  double square = 0.0;
  for (const float v : w) square += double{v} * double{v};
  const double norm = std::sqrt(std::max(square, 1e-30));  // as AdapterSet::refresh
  const auto column = static_cast<float>(double{one.magnitude[row]} / norm);
  for (float& v : w) v *= column;
}

}  // namespace axon
