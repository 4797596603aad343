#pragma once
// The accounts of a plan over context length, as a picture that stands alone.

#include <string>
#include <vector>

#include "plan/report.h"

namespace axon {

struct ChartSeries {
  std::string name;
  std::vector<Bytes> values;  // one a point of the curve
  bool estimate = false;
};
// From the bottom up. All accounts of weights are one series, and those too small to be seen are one: at each point
// the series sum to the footprint's total. At most 8.
std::vector<ChartSeries> chart_series(const std::vector<PlanCell>& curve);

// An <svg> element with its own style, light and dark; empty when the curve is. Contexts must rise.
std::string chart_svg(const PlanReport& report);

}  // namespace axon
