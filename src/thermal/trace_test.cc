// Traces: what they say between their lines, and which are none.

#include "thermal/trace.h"

#include <unistd.h>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdio>
#include <fstream>
#include <utility>

namespace axon {
namespace {

ThermalTrace parsed(std::string_view text) { return ThermalTrace::parse(text, "trace").value(); }

std::string error_of(std::string_view text) {
  const auto result = ThermalTrace::parse(text, "t.csv");
  if (result.ok()) return "none";
  EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
  return result.error().message;
}

TEST(ThermalTrace, BetweenTheLines) {
  const ThermalTrace trace = parsed("# a warm day\n10 60\n20, 80 # warmer\r\n\n\t30.5 ,\t70.25");
  EXPECT_EQ(trace.size(), 3u);
  EXPECT_DOUBLE_EQ(*trace.at(0).celsius, 60);
  EXPECT_DOUBLE_EQ(*trace.at(10).celsius, 60);
  EXPECT_DOUBLE_EQ(*trace.at(12.5).celsius, 65);
  EXPECT_DOUBLE_EQ(*trace.at(20).celsius, 80);
  EXPECT_DOUBLE_EQ(*trace.at(30.5).celsius, 70.25);
  EXPECT_DOUBLE_EQ(*trace.at(1e9).celsius, 70.25);
  EXPECT_EQ(trace.at(15).power, PowerSource::kUnknown);
}

TEST(ThermalTrace, PowerHoldsUntilTheNextWord) {
  const ThermalTrace trace = parsed("0 60\n10 60 battery\n20 61\n30 62 ac\n");
  EXPECT_EQ(trace.at(9.9).power, PowerSource::kUnknown);
  EXPECT_EQ(trace.at(10).power, PowerSource::kBattery);
  EXPECT_EQ(trace.at(29.9).power, PowerSource::kBattery);
  EXPECT_EQ(trace.at(30).power, PowerSource::kMains);
}

TEST(ThermalTrace, ErrorsNameLineAndReason) {
  EXPECT_EQ(error_of("0 60\n\nnoon 61\n"), "t.csv: line 3: seconds must be a number from 0 to 1e9, not \"noon\"");
  EXPECT_EQ(error_of("-1 60"), "t.csv: line 1: seconds must be a number from 0 to 1e9, not \"-1\"");
  EXPECT_EQ(error_of("nan 60"), "t.csv: line 1: seconds must be a number from 0 to 1e9, not \"nan\"");
  EXPECT_EQ(error_of("1"), "t.csv: line 1: degrees must be a number from -50 to 150, not \"\"");
  EXPECT_EQ(error_of("1 151"), "t.csv: line 1: degrees must be a number from -50 to 150, not \"151\"");
  EXPECT_EQ(error_of("1 60\n1 61"), "t.csv: line 2: seconds must rise: 1 comes after 1");
  EXPECT_EQ(error_of("1 60 solar"), "t.csv: line 1: power must be \"ac\" or \"battery\", not \"solar\"");
  EXPECT_EQ(error_of("1 60 ac 5"), "t.csv: line 1: \"5\" follows seconds, degrees and power");
  EXPECT_EQ(error_of("# nothing\n"), "t.csv: no line of the form \"seconds celsius [ac|battery]\"");
  EXPECT_EQ(error_of(""), "t.csv: no line of the form \"seconds celsius [ac|battery]\"");
  EXPECT_EQ(error_of("1 \xFF"), "t.csv: line 1: degrees must be a number from -50 to 150, not \"\xEF\xBF\xBD\"");
}

TEST(ThermalTrace, FromAFile) {
  const std::string path = testing::TempDir() + "axon_trace_" + std::to_string(::getpid());
  std::ofstream(path) << "0 50\n100 60\n";
  auto trace = ThermalTrace::open(path);
  ASSERT_TRUE(trace.ok());
  double seconds = 50;
  const auto sensor = trace_sensor(std::move(trace).value(), [&] { return seconds; });
  EXPECT_DOUBLE_EQ(*sensor->read().celsius, 55);
  seconds = 75;
  EXPECT_DOUBLE_EQ(*sensor->read().celsius, 57.5);
  EXPECT_EQ(sensor->source(), "a trace of 2 moments");
  std::remove(path.c_str());
  const auto missing = ThermalTrace::open(path);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find(path), std::string::npos);
}

RC_GTEST_PROP(ThermalTrace, StaysBetweenItsNeighbours, ()) {
  const double low = *rc::gen::inRange(0, 100), high = *rc::gen::inRange(0, 100), share = *rc::gen::inRange(0, 101);
  const double celsius = *parsed(fmt::format("0 {}\n100 {}\n", low, high)).at(share).celsius;
  RC_ASSERT(celsius >= std::min(low, high) - 1e-9 && celsius <= std::max(low, high) + 1e-9);
}

}  // namespace
}  // namespace axon
