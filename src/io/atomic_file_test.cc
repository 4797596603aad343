#include "io/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "io/safetensors.h"
#include "io/test_files.h"

namespace axon {
namespace {

using namespace testing_files;

// No file may grow beyond `bytes` while this lives: what a full disk does to write(2), first short, then failing.
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

TEST(AtomicFile, AppearsOnlyWhenFinished) {
  const Folder folder;
  const std::string path = folder / "a.txt";
  auto result = AtomicFile::create(path);
  ASSERT_TRUE(result.ok()) << result.error().message;
  AtomicFile file = std::move(result).value();
  ASSERT_TRUE(file.write("hello ").ok());
  ASSERT_TRUE(file.write("world").ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::exists(fmt::format("{}.tmp-{}", path, getpid())));
  ASSERT_TRUE(file.finish().ok());
  EXPECT_EQ(get(path), "hello world");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, RemovesTheTemporaryWhenAbandoned) {
  const Folder folder;
  {
    auto file = AtomicFile::create(folder / "a");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file.value().write("x").ok());
    EXPECT_EQ(folder.entries(), 1u);
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(AtomicFile, NeverReplaces) {
  const Folder folder;
  put(folder / "a", "old");
  const auto refused = AtomicFile::create(folder / "a");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, (folder / "a") + " already exists");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  EXPECT_FALSE(AtomicFile::create(folder / "dangling").ok());
  {
    auto file = AtomicFile::create(folder / "b");
    ASSERT_TRUE(file.ok() && file.value().write("new").ok());
    put(folder / "b", "came up meanwhile");
    const Status finished = file.value().finish();
    ASSERT_FALSE(finished.ok());
    EXPECT_EQ(finished.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(get(folder / "b"), "came up meanwhile");
  EXPECT_EQ(folder.entries(), 3u);
}

TEST(AtomicFile, ALeftoverOfACrashIsNoObstacle) {
  const Folder folder;
  const std::string leftover = fmt::format("{}.tmp-{}", folder / "a", getpid());
  put(leftover, "partial");
  ASSERT_TRUE(write_file(folder / "a", "whole").ok());
  EXPECT_EQ(get(folder / "a"), "whole");
  EXPECT_EQ(get(leftover), "partial");
}

TEST(AtomicFile, BadPlacesAreErrors) {
  const Folder folder;
  const auto missing = AtomicFile::create(folder / "no/such/a");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find(folder / "no/such/a"), std::string::npos);
  EXPECT_FALSE(AtomicFile::create("").ok());
  EXPECT_FALSE(AtomicDirectory::create("").ok());
  EXPECT_FALSE(AtomicDirectory::create(folder / "no/such").ok());
}

TEST(AtomicFile, FullDiskIsAnErrorAndLeavesNothing) {
  const Folder folder;
  const std::string large(100'000, 'x');
  {
    const FullDisk disk(150'000);
    auto file = AtomicFile::create(folder / "a");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file.value().write(large).ok());
    const Status second = file.value().write(large);  // 50,000 bytes still fit
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, ErrorCode::kIo);
    EXPECT_EQ(second.error().message, (folder / "a") + ": cannot write after 150000 bytes: File too large");
    EXPECT_FALSE(file.value().write("y").ok());
    EXPECT_FALSE(file.value().finish().ok());
  }
  EXPECT_EQ(folder.entries(), 0u);
  {
    const FullDisk disk(50);  // not even the header fits
    const auto writer = SafetensorsWriter::create(folder / "b", {{"x", DType::kU8, {1}}}, {});
    ASSERT_FALSE(writer.ok());
    EXPECT_EQ(writer.error().code, ErrorCode::kIo);
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(AtomicDirectory, AppearsWholeWithItsFiles) {
  const Folder folder;
  auto result = AtomicDirectory::create(folder / "model/");
  ASSERT_TRUE(result.ok()) << result.error().message;
  AtomicDirectory directory = std::move(result).value();
  EXPECT_EQ(directory.final_path(), folder / "model");
  EXPECT_EQ(directory.path(), fmt::format("{}.tmp-{}", folder / "model", getpid()));
  ASSERT_TRUE(write_file(directory.path() + "/config.json", "{}").ok());
  EXPECT_FALSE(std::filesystem::exists(folder / "model"));
  ASSERT_TRUE(directory.finish().ok());
  EXPECT_EQ(get(folder / "model/config.json"), "{}");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicDirectory, RemovesAllWhenAbandoned) {
  const Folder folder;
  {
    auto directory = AtomicDirectory::create(folder / "model");
    ASSERT_TRUE(directory.ok());
    std::filesystem::create_directory(directory.value().path() + "/tokenizer");
    put(directory.value().path() + "/tokenizer/a", "x");
    AtomicDirectory moved = std::move(directory).value();
    EXPECT_EQ(folder.entries(), 1u);
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(AtomicDirectory, NeverReplaces) {
  const Folder folder;
  std::filesystem::create_directory(folder / "model");
  const auto refused = AtomicDirectory::create(folder / "model");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, (folder / "model") + " already exists");
  {
    auto directory = AtomicDirectory::create(folder / "later");
    ASSERT_TRUE(directory.ok());
    std::filesystem::create_directory(folder / "later");  // rename(2) would replace an empty folder
    EXPECT_FALSE(directory.value().finish().ok());
  }
  EXPECT_EQ(folder.entries(), 2u);
}

TEST(AtomicDirectory, ReplacesWhenAsked) {
  const Folder folder;
  const auto write = [&](const std::string& text) {
    AtomicDirectory directory = AtomicDirectory::create(folder / "step/", Existing::kReplace).value();
    ASSERT_TRUE(write_file(directory.path() + "/" + text, text).ok());
    ASSERT_TRUE(directory.finish().ok());
  };
  write("first");
  write("second");
  EXPECT_EQ(folder.entries(), 1u);
  EXPECT_EQ(get(folder / "step/second"), "second");
  EXPECT_FALSE(std::filesystem::exists(folder / "step/first"));
  {
    AtomicDirectory half = AtomicDirectory::create(folder / "step", Existing::kReplace).value();
    ASSERT_TRUE(write_file(half.path() + "/third", "third").ok());
    EXPECT_TRUE(std::filesystem::exists(folder / "step/second"));
  }
  EXPECT_EQ(get(folder / "step/second"), "second");
  EXPECT_EQ(folder.entries(), 1u);
  put(folder / "file", "text");
  const auto refused = AtomicDirectory::create(folder / "file", Existing::kReplace);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, (folder / "file") + " already exists, and is no folder that could be replaced");
}

TEST(AtomicDirectory, FullDiskIsAnErrorThatNamesThePlace) {
  const Folder folder;
  {
    const FullDisk disk(1000);
    const AtomicDirectory directory = AtomicDirectory::create(folder / "step").value();
    const Status written = write_file(directory.path() + "/weights", std::string(2000, 'x'));
    ASSERT_FALSE(written.ok());
    EXPECT_EQ(written.error().code, ErrorCode::kIo);
    EXPECT_NE(written.error().message.find(folder / "step"), std::string::npos);
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(RemoveLeftovers, OfEndedProcessesAlone) {
  const Folder folder;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);  // a number that no process has
  const std::string ended = fmt::format(".tmp-{}", child), living = fmt::format(".tmp-{}", getpid());
  std::filesystem::create_directory(folder / ("step_1" + ended));
  put(folder / ("step_1" + ended + "/weights"), "half");
  put(folder / ("step_2" + ended + "-3"), "half");
  const std::vector<std::string> stay = {
      "step_1" + living, "other" + ended,         "step_3", "step_4.tmp-", "step_5.tmp-x",
      "step_6.tmp-0",    "step_7" + ended + "-x", ended};
  for (const std::string& name : stay) put(folder / name, "whole");
  ASSERT_TRUE(remove_leftovers(folder.path(), "step_").ok());
  for (const std::string& name : stay) EXPECT_TRUE(std::filesystem::exists(folder / name)) << name;
  EXPECT_EQ(folder.entries(), stay.size());
  EXPECT_EQ(remove_leftovers(folder / "none", "").error().code, ErrorCode::kNotFound);
}

TEST(ReadSmallFile, BoundsAndReasons) {
  const Folder folder;
  const std::string text(40'000, 'z');
  ASSERT_TRUE(write_file(folder / "a", text).ok());
  auto read = read_small_file(folder / "a", text.size());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value(), text);
  const auto larger = read_small_file(folder / "a", text.size() - 1);
  ASSERT_FALSE(larger.ok());
  EXPECT_EQ(larger.error().code, ErrorCode::kCorrupt);
  const auto missing = read_small_file(folder / "b", 10);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  const auto special = read_small_file(folder.path(), 10);
  ASSERT_FALSE(special.ok());
  EXPECT_EQ(special.error().code, ErrorCode::kIo);
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(read_small_file(folder / "pipe", 10).ok());  // and does not wait for a writer
}

// Reports may be written again; the old one stands until the new one is whole.
TEST(AtomicFile, ReplacesWhenAsked) {
  const Folder folder;
  ASSERT_TRUE(write_file(folder / "a", "old").ok());
  EXPECT_EQ(write_file(folder / "a", "new").error().code, ErrorCode::kInvalidArgument);
  {
    AtomicFile half = AtomicFile::create(folder / "a", Existing::kReplace).value();
    ASSERT_TRUE(half.write(std::string_view("half")).ok());
    EXPECT_EQ(read_small_file(folder / "a", 100).value(), "old");
  }
  EXPECT_EQ(read_small_file(folder / "a", 100).value(), "old");
  ASSERT_TRUE(write_file(folder / "a", "new", Existing::kReplace).ok());
  EXPECT_EQ(read_small_file(folder / "a", 100).value(), "new");
  ASSERT_TRUE(write_file(folder / "b", "first", Existing::kReplace).ok());
  EXPECT_EQ(read_small_file(folder / "b", 100).value(), "first");
}

TEST(AtomicFile, ReplacesFilesOnly) {
  const Folder folder;
  std::filesystem::create_directory(folder / "folder");
  const auto refused = write_file(folder / "folder", "text", Existing::kReplace);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("no file that could be replaced"), std::string::npos);
  EXPECT_EQ(write_file("/dev/null", "text", Existing::kReplace).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace axon
