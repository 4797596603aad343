#include "train/data_lines.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "io/test_files.h"
#include "train/data_for_test.h"

namespace axon::train {
namespace {

using testing::ok;
using testing_files::Folder;
using testing_files::put;

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> out;
  const LineFile file = ok(LineFile::open(path));
  ok(file.each([&](const Line& line) -> Status {
    EXPECT_EQ(line.number, out.size() + 1);
    std::string again;
    ok(file.read(line.offset, line.text.size(), again));
    EXPECT_EQ(again, line.text);
    out.push_back(line.too_long ? "too long" : std::string(line.text));
    return Ok{};
  }));
  EXPECT_EQ(out.size(), ok(file.count()));
  return out;
}

TEST(DataLines, EndsOfLinesAndTheByteOrderMark) {
  const Folder folder;
  put(folder / "a", "\xEF\xBB\xBFone\r\ntwo\n\n four\r");
  EXPECT_EQ(lines_of(folder / "a"), (std::vector<std::string>{"one", "two", "", " four"}));
  put(folder / "b", "one\n");
  EXPECT_EQ(lines_of(folder / "b"), (std::vector<std::string>{"one"}));
  put(folder / "c", "");
  EXPECT_TRUE(lines_of(folder / "c").empty());
}

RC_GTEST_PROP(DataLines, LongLinesAcrossBlocks, ()) {
  const auto lengths = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 400'000));
  const Folder folder;
  std::string text;
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < lengths.size() && i < 8; ++i) {
    expected.emplace_back(static_cast<std::size_t>(lengths[i]), static_cast<char>('a' + i));
    text += expected.back() + "\n";
  }
  put(folder / "a", text);
  RC_ASSERT(lines_of(folder / "a") == expected);
}

TEST(DataLines, WhatIsTooLongIsLeftOutAndTheRestIsRead) {
  const Folder folder;
  put(folder / "a", "one\n" + std::string(kMaxLine.count + 1, 'x') + "\nthree\n" + std::string(kMaxLine.count, 'y'));
  const auto lines = lines_of(folder / "a");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[1], "too long");
  EXPECT_EQ(lines[2], "three");
  EXPECT_EQ(lines[3].size(), kMaxLine.count);
}

TEST(DataLines, ErrorsNameThePath) {
  const Folder folder;
  const auto missing = LineFile::open(folder / "none");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().message, folder / "none: No such file or directory");
  const auto directory = LineFile::open(folder.path());
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().message, folder.path() + ": not a regular file");
  put(folder / "a", "text");
  const LineFile file = ok(LineFile::open(folder / "a"));
  std::string out;
  EXPECT_EQ(file.read(2, 3, out).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace axon::train
