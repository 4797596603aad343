#pragma once
// Rows of a matrix with the adapter of their layer added.

#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/adapters.h"

namespace axon {

// Over the values of a set, which must outlive it and stay as they are.
class LowRankRows {
 public:
  explicit LowRankRows(const AdapterSet& set);

  // Whether the layer has an adapter.
  bool has(const std::string& layer) const { return first_.contains(layer); }
  // w <- row `r` of W + s B A, or, with DoRA, of m / ||W + s B A|| (W + s B A); `w` comes in as row `r` of W, the
  // matrix of all experts where it is a stack.   w [in]
  void add(const std::string& layer, std::size_t r, std::span<float> w) const;

 private:
  struct One {
    Mat<const float> a, b;             // [R, in], [R, out]
    std::span<const float> magnitude;  // [out], DoRA
  };
  float scale_ = 0;
  std::vector<One> ones_;
  std::map<std::string, std::size_t, std::less<>> first_;  // of ones_: a layer's, or those of all its experts
};

}  // namespace axon
