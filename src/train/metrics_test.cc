#include "train/metrics.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "io/atomic_file.h"
#include "io/test_files.h"

namespace axon::train {
namespace {

using testing_files::Folder;

TrainMetrics trained(std::uint64_t step) {
  return {.step = step,
          .update = step / 4,
          .epoch = 0.25,
          .loss = 2.5,
          .gradient_norm = 0.1,
          .learning_rate = 1e-4,
          .tokens = 2048,
          .tokens_per_second = 512.5,
          .seconds = 4,
          .memory = 100_MiB,
          .ranks = 8,
          .paused_seconds = 0};
}

std::string text_of(const std::string& path) {
  auto text = read_small_file(path, 1u << 20);
  return text.ok() ? text.value() : text.error().message;
}

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> out;
  const Status status = each_metrics(path, [&](const MetricsLine& line) -> Status {
    out.push_back(metrics_text(line));
    return Ok{};
  });
  if (!status.ok()) out.push_back(status.error().message);
  return out;
}

std::string problem(std::string_view text) {
  const auto line = parse_metrics(text, "m");
  return line.ok() ? "none" : line.error().message;
}

TEST(MetricsLine, IsOneObjectWithStableKeys) {
  EXPECT_EQ(metrics_text(trained(12)),
            R"({"kind":"train","step":12,"update":3,"epoch":0.25,"loss":2.5,"grad_norm":0.1,"learning_rate":0.0001,)"
            R"("tokens":2048,"tokens_per_second":512.5,"seconds":4,"memory_bytes":104857600,"ranks":8,)"
            R"("paused_seconds":0})");
  TrainMetrics pairs = trained(1);
  pairs.celsius = 71.5;
  pairs.pairs = {.nll = 1,
                 .odds_ratio_loss = 2,
                 .chosen_logps = -3,
                 .rejected_logps = -4,
                 .reward_margin = 0.5,
                 .reward_accuracy = 0.75};
  const std::string text = metrics_text(pairs);
  EXPECT_NE(text.find(R"("celsius":71.5,"ranks":8,"paused_seconds":0,"nll":1,"odds_ratio_loss":2,"chosen_logps":-3,)"
                      R"("rejected_logps":-4,"reward_margin":0.5,"reward_accuracy":0.75})"),
            std::string::npos)
      << text;
  EXPECT_EQ(metrics_text(ValidationMetrics{.step = 4, .update = 2, .loss = 1.5, .perplexity = 4.5, .tokens = 10}),
            R"({"kind":"validation","step":4,"update":2,"loss":1.5,"perplexity":4.5,"tokens":10})");
  EXPECT_EQ(metrics_text(EventMetrics{.step = 0, .event = "start", .detail = "a \"b\"\n"}),
            R"({"kind":"event","step":0,"event":"start","detail":"a \"b\"\n"})");
}

TEST(MetricsLine, AThermalEventHasAState) {
  const EventMetrics hot{.step = 3, .event = "thermal", .detail = "76.0 C", .state = "half-rank", .celsius = 76};
  const std::string text = metrics_text(hot);
  EXPECT_EQ(text, R"({"kind":"event","step":3,"event":"thermal","detail":"76.0 C","state":"half-rank","celsius":76})");
  auto read = parse_metrics(text, "m");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(std::get<EventMetrics>(read.value()).state, "half-rank");
  EXPECT_EQ(problem(R"({"kind":"event","step":3,"event":"thermal","detail":"","state":4})"),
            R"(m: "state" must be a string, not 4)");
}

TEST(MetricsLine, WhatIsNotFiniteIsNull) {
  TrainMetrics line = trained(1);
  line.loss = std::numeric_limits<double>::quiet_NaN();
  line.gradient_norm = std::numeric_limits<double>::infinity();
  const std::string text = metrics_text(line);
  EXPECT_NE(text.find(R"("loss":null,"grad_norm":null)"), std::string::npos) << text;
  auto read = parse_metrics(text, "m");
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(std::isnan(std::get<TrainMetrics>(read.value()).loss));
  EXPECT_EQ(metrics_text(read.value()), text);
}

RC_GTEST_PROP(MetricsLine, ReadsBackToTheBit, (double a, double b, std::uint64_t n, bool some, std::string word)) {
  TrainMetrics line = trained(n);
  line.loss = a;
  line.paused_seconds = b;
  if (some) line.celsius = b;
  if (some) line.pairs = {.nll = b, .reward_margin = a};
  auto read = parse_metrics(metrics_text(line), "m");
  RC_ASSERT(read.ok());
  const auto& got = std::get<TrainMetrics>(read.value());
  RC_ASSERT(got.step == n && got.loss == a && got.paused_seconds == b && got.celsius == line.celsius);
  RC_ASSERT(got.pairs.has_value() == some && (!some || (got.pairs->nll == b && got.pairs->reward_margin == a)));
  RC_ASSERT(got.memory == line.memory && got.learning_rate == line.learning_rate);
  for (char& c : word) c = static_cast<char>(c & 0x7F);
  auto event = parse_metrics(metrics_text(EventMetrics{.step = n, .event = word, .detail = word}), "m");
  RC_ASSERT(event.ok());
  RC_ASSERT(std::get<EventMetrics>(event.value()).event == word);
}

TEST(MetricsLine, SaysWhatIsWrong) {
  EXPECT_EQ(problem(R"({"kind":"event","step":1,"event":"stop","detail":"","later":[1,2]})"), "none");
  EXPECT_EQ(problem(R"({"step":1})"), R"(m: "kind" must be "train", "validation" or "event", not missing)");
  EXPECT_EQ(problem(R"({"kind":"tests"})"), R"(m: "kind" must be "train", "validation" or "event", not "tests")");
  EXPECT_EQ(problem(R"([])"), R"(m: "kind" must be "train", "validation" or "event", not missing)");
  EXPECT_EQ(problem(R"({"kind":"event","step":1,"detail":""})"), R"(m: "event" is missing)");
  EXPECT_EQ(problem(R"({"kind":"event","step":-1,"event":1})"), R"(m: "step" must be a whole number, not -1)");
  EXPECT_EQ(problem(R"({"kind":"event","step":1,"event":2,"detail":""})"), R"(m: "event" must be a string, not 2)");
  EXPECT_EQ(problem(R"({"kind":"validation","step":1,"update":1,"loss":"x","perplexity":1,"tokens":1})"),
            R"(m: "loss" must be a number, not "x")");
  EXPECT_NE(problem("{").find("m: "), std::string::npos);
}

TEST(MetricsFile, EachLineIsThereAtOnce) {
  const Folder dir;
  const std::string path = dir / "metrics.jsonl";
  auto file = MetricsFile::create(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(text_of(path), "");
  ASSERT_TRUE(file.value().write(trained(1)).ok());
  EXPECT_EQ(text_of(path), metrics_text(trained(1)) + "\n");
  ASSERT_TRUE(file.value().write(EventMetrics{.step = 1, .event = "stop"}).ok());
  ASSERT_TRUE(file.value().sync().ok());
  EXPECT_EQ(lines_of(path).size(), 2u);
}

TEST(MetricsFile, ABeginningNeverWritesOverAnother) {
  const Folder dir;
  const std::string path = dir / "metrics.jsonl";
  ASSERT_TRUE(MetricsFile::create(path).ok());
  const auto second = MetricsFile::create(path);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(second.error().message, path + " already exists");
  const auto nowhere = MetricsFile::create(dir / "no/metrics.jsonl");
  ASSERT_FALSE(nowhere.ok());
  EXPECT_EQ(nowhere.error().code, ErrorCode::kNotFound);
}

TEST(MetricsFile, ResumingEqualsARunWithoutAStop) {
  const Folder dir;
  const std::string whole = dir / "whole.jsonl", cut = dir / "cut.jsonl";
  const auto run = [&](MetricsFile& file, std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t step = from; step <= to; ++step) {
      ASSERT_TRUE(file.write(trained(step)).ok());
      if (step % 3 != 0) continue;
      ASSERT_TRUE(file.write(ValidationMetrics{.step = step, .loss = 1}).ok());
    }
  };
  auto first = MetricsFile::create(whole);
  ASSERT_TRUE(first.ok());
  run(first.value(), 1, 10);
  {
    auto second = MetricsFile::create(cut);  // killed in step 8, its last checkpoint after step 6
    ASSERT_TRUE(second.ok());
    run(second.value(), 1, 7);
  }
  ASSERT_TRUE(write_file(cut, text_of(cut) + R"({"kind":"train","st)", Existing::kReplace).ok());
  EXPECT_EQ(lines_of(cut).size(), 9u);  // the torn line is no error
  auto resumed = MetricsFile::resume(cut, 6);
  ASSERT_TRUE(resumed.ok()) << resumed.error().message;
  EXPECT_EQ(lines_of(cut).size(), 8u);
  run(resumed.value(), 7, 10);
  EXPECT_EQ(text_of(cut), text_of(whole));
  EXPECT_EQ(dir.entries(), 2u);  // and no temporary is left
}

TEST(MetricsFile, ResumingWithoutAFileBeginsOne) {
  const Folder dir;
  auto file = MetricsFile::resume(dir / "metrics.jsonl", 5);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file.value().write(trained(6)).ok());
  EXPECT_EQ(lines_of(dir / "metrics.jsonl").size(), 1u);
}

TEST(MetricsFile, ABrokenLineInTheMiddleIsNotPassedOver) {
  const Folder dir;
  const std::string path = dir / "metrics.jsonl";
  const std::string before = metrics_text(trained(1)) + "\n{\"kind\":\"tr\n" + metrics_text(trained(2)) + "\n";
  ASSERT_TRUE(write_file(path, before).ok());
  const auto resumed = MetricsFile::resume(path, 1);
  ASSERT_FALSE(resumed.ok());
  EXPECT_EQ(resumed.error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(resumed.error().message.starts_with(path + ": line 2")) << resumed.error().message;
  EXPECT_EQ(text_of(path), before);
  EXPECT_EQ(lines_of(path).back(), resumed.error().message);
}

}  // namespace
}  // namespace axon::train
