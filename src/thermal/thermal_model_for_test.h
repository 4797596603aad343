#pragma once
// A laptop without a fan, of first order: C dT/dt = P - (T - ambient) / R, exact over each stretch of constant power.
//
// The constants are an estimate for a thin aluminium laptop of the MacBook Air's kind and no measurement: at 25 C and
// 18 W it passes 95 C after six minutes and would end at 151 C, so that in the long run it must throttle to half (8.6 W
// hold 85 C). Reviews tell of such machines that they begin to throttle after some minutes of full load, and settle at
// about half of the power that they began with.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "thermal/governor.h"

namespace axon {

struct FanlessLaptop {
  double ambient_c = 25;
  double joules_per_c = 63;  // C
  double c_per_watt = 7;     // R: time constant R C = 441 s
  double idle_watts = 3;
  double seconds = 0;
  double celsius = ambient_c + idle_watts * c_per_watt;
  double hottest_c = celsius;

  void run(double watts, double duration_s) {
    const double end = ambient_c + watts * c_per_watt;
    celsius = end + (celsius - end) * std::exp(-duration_s / (c_per_watt * joules_per_c));
    seconds += duration_s;
    hottest_c = std::max(hottest_c, celsius);
  }
  void rest(double duration_s) { run(idle_watts, duration_s); }
};

// Reads in whole degrees where asked to, as many sensors do.
class LaptopSensor : public Sensor {
 public:
  LaptopSensor(const FanlessLaptop& laptop, bool whole_degrees) : laptop_(laptop), whole_degrees_(whole_degrees) {}
  ThermalReading read() override { return {.celsius = whole_degrees_ ? std::floor(laptop_.celsius) : laptop_.celsius}; }
  std::string source() const override { return "a model"; }

 private:
  const FanlessLaptop& laptop_;
  bool whole_degrees_;
};

// Half of the rank computes: `half_saves` less time at the same power. Of a step's work adapters of rank 8 are a few
// percent, and half of those are saved.
struct StepCost {
  double seconds;
  double watts = 18;
  double half_saves = 0.02;
  void take(FanlessLaptop& laptop, bool half) const { laptop.run(watts, half ? seconds * (1 - half_saves) : seconds); }
};

// What a policy made of some hours.
struct Outcome {
  double steps = 0;       // an hour
  double half_share = 0;  // of the steps, with half rank
  double hottest_c = 0;
  int stops = 0;
  bool died = false;
};

}  // namespace axon
