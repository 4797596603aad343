#pragma once
// Lines over the steps of a training, as a picture that needs nothing else: no script, light and dark.

#include <string>
#include <string_view>
#include <vector>

#include "train/history.h"

namespace axon::train {

struct ChartLine {
  enum class Look { kFaint, kStrong, kSecond, kDots };  // raw values; the main line; beside it; few values, marked
  std::string name;
  Look look = Look::kStrong;
  std::vector<Curve::Point> points;
};

// A stretch of steps in which something held: what the governor decided.
struct ChartBand {
  double from = 0, to = 0;
  std::string name;
  bool grave = false;
};

struct LineChart {
  std::string title, unit;  // "Loss", "nats a token"
  std::vector<ChartLine> lines;
  std::vector<ChartBand> bands{};
  bool from_zero = false;
};

enum class ChartStyle { kInside, kOutside };  // with its <style>, or in a page that has it

// An <svg> element; one that says so when no line has a point.
std::string line_chart_svg(const LineChart& chart, ChartStyle style);
std::string_view line_chart_style();

}  // namespace axon::train
