// GGUF files on disk: one file, and models in shards.

#include <gtest/gtest.h>

#include "io/gguf.h"
#include "io/gguf_file_for_test.h"

namespace axon {
namespace {

using namespace testing_files;

// Shard `number` (from 0) of `count` with one tensor; the first says how many tensors there are in all.
GgufFile shard(std::uint16_t number, std::uint16_t count, std::string_view tensor) {
  GgufFile file;
  file.raw("split.no", GgufValueType::kU16, le(number)).raw("split.count", GgufValueType::kU16, le(count));
  if (number == 0) file.text("general.architecture", "llama").u32("split.tensors.count", count);
  file.tensor(tensor, {64, 2}, "Q8_0");
  return file;
}

void expect_refused(const std::string& path, ErrorCode code, std::string_view part) {
  const auto result = Gguf::open(path);
  ASSERT_FALSE(result.ok()) << part;
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message << "\nnot: " << part;
}

TEST(GgufOpen, OneFile) {
  const Folder folder;
  GgufFile().u32("x", 3).tensor("w", {1 << 20, 1 << 10}).write(folder / "m.gguf");  // 4 GiB that are a hole
  auto result = Gguf::open(folder / "m.gguf");
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Gguf gguf = std::move(result).value();
  EXPECT_EQ(gguf.find("x")->whole(), 3u);
  EXPECT_EQ(gguf.find_tensor("w")->bytes.size(), std::size_t{1} << 32);
  EXPECT_EQ(gguf.paths(), std::vector<std::string>{folder / "m.gguf"});
  expect_refused(folder / "n.gguf", ErrorCode::kNotFound, "n.gguf: No such file");
  expect_refused(folder.path(), ErrorCode::kIo, "not a regular file");
  put(folder / "empty.gguf", "");
  expect_refused(folder / "empty.gguf", ErrorCode::kCorrupt, "empty.gguf: not a GGUF file");
}

TEST(GgufOpen, Shards) {
  const Folder folder;
  for (std::uint16_t i = 0; i < 3; ++i) {
    shard(i, 3, fmt::format("blk.{}.w", i)).write(folder / fmt::format("m-{:05}-of-00003.gguf", i + 1));
  }
  auto result = Gguf::open(folder / "m-00001-of-00003.gguf");
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Gguf gguf = std::move(result).value();
  EXPECT_EQ(gguf.tensors().size(), 3u);
  EXPECT_EQ(gguf.find_tensor("blk.2.w")->shard, 2u);
  EXPECT_EQ(gguf.find_tensor("blk.2.w")->bytes.size(), 136u);
  EXPECT_EQ(gguf.paths()[1], folder / "m-00002-of-00003.gguf");
  EXPECT_EQ(*gguf.find("general.architecture")->get<std::string>(), "llama");
  expect_refused(folder / "m-00002-of-00003.gguf", ErrorCode::kInvalidArgument,
                 "is shard 2 of 3: give the first, whose name ends in -00001-of-00003.gguf");
}

TEST(GgufOpen, MissingAndForeignShards) {
  const Folder folder;
  const std::string first = folder / "m-00001-of-00002.gguf", second = folder / "m-00002-of-00002.gguf";
  shard(0, 2, "a").write(first);
  expect_refused(first, ErrorCode::kNotFound, "m-00002-of-00002.gguf: No such file or directory (shard 2 of 2, as ");
  std::filesystem::create_symlink(first, second);  // a model that is its own second half
  expect_refused(first, ErrorCode::kCorrupt,
                 "m-00002-of-00002.gguf: split.no and split.count: expected 1 and 2, got 0 and 2");
  std::filesystem::remove(second);
  shard(1, 3, "b").write(second);
  expect_refused(first, ErrorCode::kCorrupt, "expected 1 and 2, got 1 and 3");
  shard(1, 2, "a").write(second);
  expect_refused(first, ErrorCode::kCorrupt, "tensor \"a\" is both in ");
  shard(1, 2, "b").tensor("c", {1}).write(second);
  expect_refused(first, ErrorCode::kCorrupt, "split.tensors.count is 2, but the 2 shards have 3 tensors");
  put(second, "GGUF");
  expect_refused(first, ErrorCode::kCorrupt, "m-00002-of-00002.gguf: version: needs 4 bytes at position 4");
  shard(0, 2, "a").write(folder / "m.gguf");
  expect_refused(folder / "m.gguf", ErrorCode::kInvalidArgument, "its name must end in -00001-of-00002.gguf");
  shard(0, 65535, "a").write(folder / "n.gguf");
  expect_refused(folder / "n.gguf", ErrorCode::kCorrupt, "0 of 65535: expected at most 4096 shards");
  shard(5, 2, "a").write(folder / "n.gguf");
  expect_refused(folder / "n.gguf", ErrorCode::kCorrupt, "5 of 2: expected at most");
  GgufFile().text("split.count", "2").write(folder / "n.gguf");
  expect_refused(folder / "n.gguf", ErrorCode::kCorrupt, "split.count: expected a whole number from 0, got \"2\"");
}

}  // namespace
}  // namespace axon
