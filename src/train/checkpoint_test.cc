#include "train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>

#include "io/safetensors.h"
#include "io/test_files.h"

namespace axon::train {
namespace {

using namespace testing_files;

// No file may grow beyond `bytes` while this lives: what a full disk does.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    old_ = std::signal(SIGXFSZ, SIG_IGN);
    rlimit small = before_;
    small.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &small);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, old_);
  }

 private:
  rlimit before_{};
  void (*old_)(int) = SIG_DFL;
};

struct State {
  std::vector<float> values, first, second, gradients;
  State() = default;
  State(std::size_t count, float from) {
    for (std::size_t i = 0; i < count; ++i) {
      values.push_back(from + static_cast<float>(i));
      first.push_back(from * 0.1f + static_cast<float>(i));
      second.push_back(from * 0.01f);
      gradients.push_back(-from);
    }
  }
  CheckpointArrays arrays() { return {values, first, second, gradients}; }
  CheckpointArrays without_gradients() { return {values, first, second, {}}; }
  bool operator==(const State&) const = default;
};

Checkpoints opened(const std::string& folder) {
  auto checkpoints = Checkpoints::open(folder);
  AXON_CHECK(checkpoints.ok());
  return std::move(checkpoints).value();
}
CheckpointNumbers numbers_of(std::uint64_t step) { return {{"step", fmt::format("{}", step)}}; }
void save(Checkpoints& checkpoints, std::uint64_t step, std::uint64_t keep = 9) {
  State state(5, static_cast<float>(step));
  const Status saved = checkpoints.save(step, state.arrays(), numbers_of(step), keep, {});
  ASSERT_TRUE(saved.ok()) << saved.error().message;
}
std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}
void expect_error(const Status& status, ErrorCode code, const std::vector<std::string>& words) {
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, code) << status.error().message;
  for (const std::string& word : words) {
    EXPECT_NE(status.error().message.find(word), std::string::npos) << word << " in: " << status.error().message;
  }
}

TEST(Checkpoints, ComeBackToTheBit) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder / "a/b");
  EXPECT_EQ(checkpoints.latest(), std::nullopt);
  State state(1000, 3.25f);
  state.values[1] = -0.0f;
  state.values[2] = std::numeric_limits<float>::denorm_min();
  CheckpointNumbers numbers{{"step", "12"}, {"rate", exact_text(0.1)}, {"setting.targets", "q_proj,\"\n"}};
  ASSERT_TRUE(checkpoints.save(12, state.arrays(), numbers, 3, {}).ok());
  EXPECT_EQ(checkpoints.latest(), 12u);
  EXPECT_EQ(checkpoints.path_of(12), folder / "a/b/step-00000012");
  State came(1000, 0);
  ASSERT_TRUE(checkpoints.load(12, came.arrays()).ok());
  EXPECT_EQ(std::memcmp(came.values.data(), state.values.data(), 4000), 0);
  EXPECT_EQ(came, state);
  auto read = checkpoints.numbers(12);
  ASSERT_TRUE(read.ok());
  numbers["format"] = read.value().at("format");
  EXPECT_EQ(read.value(), numbers);
}

TEST(Checkpoints, GradientsThatWereNotSavedAreZeros) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  State state(5, 2);
  ASSERT_TRUE(checkpoints.save(1, state.without_gradients(), {}, 3, {}).ok());
  State came(5, 7);
  ASSERT_TRUE(checkpoints.load(1, came.arrays()).ok());
  EXPECT_EQ(came.gradients, std::vector<float>(5, 0.0f));
  EXPECT_EQ(came.values, state.values);
}

TEST(Checkpoints, OnlyTheLastStay) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  for (const std::uint64_t step : {1u, 2u, 10u, 100u}) save(checkpoints, step, 2);
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"step-00000010", "step-00000100"}));
  EXPECT_EQ(checkpoints.latest(), 100u);
  save(checkpoints, 123456789012, 1);  // more digits than the name has zeros
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"step-123456789012"}));
  EXPECT_EQ(checkpoints.latest(), 123456789012u);
  State came(5, 0);
  EXPECT_TRUE(checkpoints.load(123456789012, came.arrays()).ok());
}

TEST(Checkpoints, OfTheSameStepStaysAsItIs) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  save(checkpoints, 4);
  const std::string before = get(folder / "step-00000004/state.safetensors");
  save(checkpoints, 4);
  EXPECT_EQ(get(folder / "step-00000004/state.safetensors"), before);
}

TEST(Checkpoints, LeftOversGoAndOthersFilesStay) {
  const Folder folder;
  const std::vector<std::string> others = {"notes.tmp-1", "step-", "step-00000009", "step-5", "step-x", "stepping"};
  for (const std::string& name : others) {
    if (name == "step-00000009") {
      put(folder / name, "a file");
    } else {
      std::filesystem::create_directory(folder / name);
    }
  }
  std::filesystem::create_directories(folder / "step-00000007.tmp-123/adapter");
  put(folder / "step-00000007.tmp-123/adapter/x", "half");
  put(folder / "step-00000008.tmp-77-2", "half");
  Checkpoints checkpoints = opened(folder.path());
  EXPECT_EQ(names_in(folder.path()), others);
  EXPECT_EQ(checkpoints.latest(), std::nullopt) << "none of them is a checkpoint";
  save(checkpoints, 3, 1);
  save(checkpoints, 6, 1);
  EXPECT_EQ(checkpoints.latest(), 6u);
  EXPECT_EQ(names_in(folder.path()).size(), others.size() + 1);
}

TEST(Checkpoints, PlacesThatCannotBe) {
  const Folder folder;
  put(folder / "file", "x");
  for (const std::string name : {"file", "file/checkpoints"}) {
    const auto refused = Checkpoints::open(folder / name);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kIo);
    EXPECT_NE(refused.error().message.find(folder / name), std::string::npos) << refused.error().message;
  }
}

TEST(Checkpoints, MoreFilesBelongToThem) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  State state(5, 1);
  std::string where;
  const auto more = [&](const std::string& path) -> Status {
    where = path;
    put(path + "/adapter.txt", "adapter");
    return Ok{};
  };
  ASSERT_TRUE(checkpoints.save(1, state.arrays(), {}, 3, more).ok());
  EXPECT_FALSE(std::filesystem::exists(where)) << "it was written under another name";
  EXPECT_EQ(get(folder / "step-00000001/adapter.txt"), "adapter");
  const Status failed = checkpoints.save(2, state.arrays(), {}, 1, [](const std::string&) -> Status {
    return make_error(ErrorCode::kIo, "no room for the adapter");
  });
  expect_error(failed, ErrorCode::kIo, {"no room for the adapter"});
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"step-00000001"});
}

TEST(Checkpoints, AFullDiskLeavesTheLastOne) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  State state(10'000, 1);
  ASSERT_TRUE(checkpoints.save(1, state.arrays(), numbers_of(1), 1, {}).ok());
  for (const rlim_t bytes : {100u, 4'000u, 100'000u, 160'000u}) {  // in the header, in the values, near the end
    const FullDisk disk(bytes);
    expect_error(checkpoints.save(2, state.arrays(), numbers_of(2), 1, {}), ErrorCode::kIo,
                 {"state.safetensors", "File too large"});
  }
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"step-00000001"});
  State came(10'000, 0);
  ASSERT_TRUE(checkpoints.load(1, came.arrays()).ok());
  EXPECT_EQ(came, state);
}

TEST(Checkpoints, EveryTruncationIsSeen) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  save(checkpoints, 1);
  const std::string path = folder / "step-00000001/state.safetensors", whole = get(path);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    put(path, std::string_view(whole).substr(0, length));
    State came(5, 0);
    expect_error(checkpoints.load(1, came.arrays()), ErrorCode::kCorrupt, {path});
    EXPECT_FALSE(checkpoints.numbers(1).ok());
  }
  std::filesystem::remove(path);
  State came(5, 0);
  expect_error(checkpoints.load(1, came.arrays()), ErrorCode::kNotFound, {path});
}

TEST(Checkpoints, OfOtherSizesOrTypesOrFormats) {
  const Folder folder;
  Checkpoints checkpoints = opened(folder.path());
  save(checkpoints, 1);
  State longer(6, 0);
  expect_error(checkpoints.load(1, longer.arrays()), ErrorCode::kCorrupt,
               {"step-00000001", "values", "6 float32 values", "has 5"});
  const std::string path = folder / "step-00000001/state.safetensors", whole = get(path);
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string text = whole;
    const std::size_t at = text.find(from);
    AXON_CHECK(at != std::string::npos && from.size() == to.size());
    put(path, text.replace(at, to.size(), to));
  };
  State came(5, 0);
  with("second_moments", "second_momenta");
  expect_error(checkpoints.load(1, came.arrays()), ErrorCode::kCorrupt, {path, "second_moments", "has 0"});
  with("\"F32\"", "\"I32\"");
  expect_error(checkpoints.load(1, came.arrays()), ErrorCode::kCorrupt, {path, "5 float32 values", "I32"});
  with("training state 1", "training state 2");
  const auto numbers = checkpoints.numbers(1);
  ASSERT_FALSE(numbers.ok());
  EXPECT_EQ(numbers.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(numbers.error().message.find("training state 2"), std::string::npos) << numbers.error().message;
}

TEST(Checkpoints, NumbersAreExactOrRefused) {
  for (const double value : {0.0, -0.0, 0.1, -1e-300, 1e300, 5e-324, 1.0 / 3, HUGE_VAL}) {
    auto back = exact_double({{"x", exact_text(value)}}, "x");
    ASSERT_TRUE(back.ok()) << exact_text(value);
    EXPECT_EQ(std::memcmp(&back.value(), &value, sizeof value), 0) << value;
  }
  const CheckpointNumbers bad{
      {"empty", ""}, {"word", "one"}, {"rest", "1x"}, {"below", "-1"}, {"big", "99999999999999999999"}};
  for (const auto& [key, text] : bad) {
    const auto count = exact_count(bad, key);
    ASSERT_FALSE(count.ok()) << key;
    EXPECT_EQ(count.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(count.error().message.find(key), std::string::npos);
  }
  for (const std::string key : {"empty", "word", "rest"}) EXPECT_FALSE(exact_double(bad, key).ok()) << key;
  EXPECT_EQ(exact_count({}, "step").error().message, "has no number \"step\"");
  EXPECT_EQ(exact_double({}, "rate").error().message, "has no number \"rate\"");
}

}  // namespace
}  // namespace axon::train
