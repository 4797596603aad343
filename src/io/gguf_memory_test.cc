// How much heap a hostile GGUF header can make the reader take.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "io/gguf.h"
#include "io/gguf_file_for_test.h"
#include "io/memory_limit_for_test.h"

namespace axon {
namespace {

using namespace testing_files;

class GgufMemory : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(AXON_HEAP_IS_NOT_OURS)
    GTEST_SKIP() << "a sanitizer keeps the heap";
#endif
  }
};

// In a child process that may take the file's size and 16 MiB: runs out of memory (abort) or ends with what parse said.
void expect_bounded(const std::string& file, bool expect_ok) {
  EXPECT_EXIT(
      {
        limit_data(file.size() + (16 << 20));
        const bool ok = Gguf::parse(bytes_of(file), "f").ok();
        std::_Exit(ok == expect_ok ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_F(GgufMemory, MostTensors) {
  for (const std::size_t name_size : {5u, 20u, 64u}) {
    GgufFile file;
    for (std::size_t i = 0; i < gguf_limit::kTensors; ++i) {
      std::string name = fmt::format("{:x}", i);
      name.resize(name_size, 'n');
      file.tensor_raw(name, {0}, 0, 0);
    }
    expect_bounded(file.bytes(), true);
  }
}

TEST_F(GgufMemory, MostNumbersAndEntries) {
  GgufFile file;
  const std::vector<std::uint8_t> most(gguf_limit::kArrayNumbers);
  for (std::size_t i = 0; i < 4'096; ++i) file.array(fmt::format("{}", i), GgufValueType::kU8, most);
  expect_bounded(file.bytes(), false);
  GgufFile ok;
  for (std::size_t i = 0; i < 32; ++i) ok.array(fmt::format("{}", i), GgufValueType::kU8, most);
  for (std::size_t i = 32; i < 4'096; ++i) ok.u32(fmt::format("{}", i), 0);
  expect_bounded(ok.bytes(), true);
}

TEST_F(GgufMemory, TextsAndLongArrays) {
  GgufFile file;
  for (std::size_t i = 0; i < 300; ++i) file.text(fmt::format("{}", i), std::string(gguf_limit::kTextBytes, 'x'));
  file.text("huge", std::string(50'000'000, 'x')).texts("tokens", 4'000'000);
  file.array("scores", GgufValueType::kF32, std::vector<float>(4'000'000, 1.0f));
  expect_bounded(file.bytes(), true);
}

TEST_F(GgufMemory, CountsThatLie) {
  const auto with = [](std::uint64_t tensors, std::uint64_t entries) {
    return "GGUF" + le(3u) + le(tensors) + le(entries) + std::string(136, '\0');
  };
  for (const std::uint64_t count : {1ull << 20, 1ull << 32, 1ull << 60, ~0ull}) {
    expect_bounded(with(count, 0), false);
    expect_bounded(with(0, count), false);
  }
}

}  // namespace
}  // namespace axon
