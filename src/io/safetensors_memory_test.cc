// How much heap a hostile header can make the reader take.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#include "io/memory_limit_for_test.h"
#include "io/safetensors.h"
#include "io/test_files.h"

namespace axon {
namespace {

using namespace testing_files;

class SafetensorsMemory : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(AXON_HEAP_IS_NOT_OURS)
    GTEST_SKIP() << "a sanitizer keeps the heap";
#endif
  }
};

// In a child process that may take the file's size and 12 MiB: runs out of memory (abort) or ends with what parse said.
void expect_bounded(const std::string& header, bool expect_ok) {
  const std::string file = make_file(header, 0);
  EXPECT_EXIT(
      {
        limit_data(file.size() + (12 << 20));
        const bool ok = Safetensors::parse(bytes_of(file), "f").ok();
        std::_Exit(ok == expect_ok ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_F(SafetensorsMemory, TheLimitHolds) {
  EXPECT_EXIT(
      {
        limit_data(12 << 20);
        try {
          std::fputs(std::string(64 << 20, 'x').c_str() + (64 << 20) - 1, stdout);
        } catch (const std::bad_alloc&) {
          std::_Exit(7);
        }
      },
      ::testing::ExitedWithCode(7), "");
}

std::string many_tensors(std::size_t count, std::size_t name_size) {
  std::string header = "{";
  for (std::size_t i = 0; i < count; ++i) {
    std::string name = fmt::format("{:x}", i);
    name.resize(std::max(name.size(), name_size), 'n');
    header += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", name);
  }
  header.back() = '}';
  return header;
}

TEST_F(SafetensorsMemory, MostTensors) {
  expect_bounded(many_tensors(safetensors_limit::kTensors, 0), true);
  expect_bounded(many_tensors(safetensors_limit::kTensors, 40), true);
  expect_bounded(many_tensors(2 * safetensors_limit::kTensors, 0), false);
}

TEST_F(SafetensorsMemory, LongNamesAndValues) {
  expect_bounded(many_tensors(20, 1'000'000), true);
  expect_bounded(fmt::format(R"({{"{}":{{}}}})", std::string(50'000'000, 'n')), false);
  std::string metadata = "{\"__metadata__\":{";
  for (int i = 0; i < 30; ++i) metadata += fmt::format("\"{}\":\"{}\",", i, std::string(1'000'000, 'v'));
  metadata.back() = '}';
  metadata += '}';
  expect_bounded(metadata, true);
}

TEST_F(SafetensorsMemory, BlanksAndNumbers) {
  expect_bounded(fmt::format("{{}}{:50000000}", ""), true);
  expect_bounded(fmt::format("{{{:50000000}}}", ""), false);
  expect_bounded(fmt::format(R"({{"x":{}}})", std::string(50'000'000, '1')), false);
  expect_bounded(fmt::format(R"({{"x":{}}})", std::string(50'000'000, '[')), false);
}

TEST_F(SafetensorsMemory, ManyMetadataEntries) {
  std::string metadata = "{\"__metadata__\":{";
  for (int i = 0; i < 1'000'000; ++i) metadata += fmt::format("\"{:x}\":\"\",", i);
  metadata.back() = '}';
  metadata += '}';
  expect_bounded(metadata, false);
}

}  // namespace
}  // namespace axon
