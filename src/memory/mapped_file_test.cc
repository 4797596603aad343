#include "memory/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

namespace axon {
namespace {

class MappedFileTest : public ::testing::Test {
 protected:
  MappedFileTest() : folder_(::testing::TempDir() + "axon-mapped-XXXXXX") {
    AXON_CHECK(mkdtemp(folder_.data()) != nullptr);
    path_ = folder_ + "/file";
  }
  ~MappedFileTest() override {
    std::remove(path_.c_str());
    std::remove(folder_.c_str());
  }
  void put(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

  std::string folder_, path_;
};

TEST_F(MappedFileTest, ShowsTheBytes) {
  put(std::string("a\0b", 3));
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file.value().text(), std::string_view("a\0b", 3));
  EXPECT_EQ(file.value().bytes()[2], std::byte{'b'});
  EXPECT_EQ(file.value().path(), path_);
}

TEST_F(MappedFileTest, EmptyFileIsAnEmptySpan) {
  put("");
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_TRUE(file.value().bytes().empty());
  EXPECT_TRUE(file.value().text().empty());
}

TEST_F(MappedFileTest, ErrorsNameThePath) {
  const auto missing = MappedFile::open(path_);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().message, path_ + ": No such file or directory");
  put("x");
  const auto below = MappedFile::open(path_ + "/a");
  ASSERT_FALSE(below.ok());
  EXPECT_EQ(below.error().code, ErrorCode::kNotFound);
  const auto folder = MappedFile::open(folder_);
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().code, ErrorCode::kIo);
  EXPECT_EQ(folder.error().message, folder_ + ": not a regular file");
}

TEST_F(MappedFileTest, OutlivesTheName) {
  put("still here");
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(file.value().text(), "still here");
}

TEST_F(MappedFileTest, MovesTheMapping) {
  put("one");
  auto opened = MappedFile::open(path_);
  ASSERT_TRUE(opened.ok());
  MappedFile file = std::move(opened).value();
  const std::byte* data = file.bytes().data();
  MappedFile other;
  other = std::move(file);
  EXPECT_EQ(other.bytes().data(), data);
  EXPECT_EQ(other.text(), "one");
  EXPECT_TRUE(file.bytes().empty());
  other = MappedFile();
  EXPECT_TRUE(other.bytes().empty());
}

// Pages of this process's mapping that are present, from the kernel's own book.
std::size_t resident_kib(const void* at) {
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool inside = false;
  while (std::getline(smaps, line)) {
    std::uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2 && line.find('-') < 17) {
      const auto address = reinterpret_cast<std::uintptr_t>(at);
      inside = begin <= address && address < end;
    }
    std::size_t kib = 0;
    if (inside && std::sscanf(line.c_str(), "Rss: %zu kB", &kib) == 1) return kib;
  }
  return 0;
}

TEST_F(MappedFileTest, DropGivesWholePagesBack) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t size = 256 * page;
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / page);
  put(text);
  auto opened = MappedFile::open(path_);
  ASSERT_TRUE(opened.ok());
  const MappedFile& file = opened.value();
  EXPECT_EQ(file.text(), text);  // touches every page
  const std::size_t before = resident_kib(file.bytes().data());
  ASSERT_GE(before, size / 1024);
  file.drop(file.bytes().subspan(1, page - 1));  // no whole page in it
  EXPECT_EQ(resident_kib(file.bytes().data()), before);
  file.drop(file.bytes().subspan(page / 2, 128 * page));  // 127 whole pages
  EXPECT_EQ(resident_kib(file.bytes().data()), before - 127 * page / 1024);
  file.drop(file.bytes().first(0));
  EXPECT_EQ(file.text(), text);  // they come back
}

TEST_F(MappedFileTest, PopulateBringsThePagesOfARange) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  put(std::string(64 * page, 'x'));
  auto opened = MappedFile::open(path_);
  ASSERT_TRUE(opened.ok());
  const MappedFile& file = opened.value();
  file.populate(file.bytes());
  EXPECT_EQ(resident_kib(file.bytes().data()), 64 * page / 1024);
  file.drop(file.bytes());
  EXPECT_EQ(resident_kib(file.bytes().data()), 0u);
  file.populate(file.bytes().first(0));
  EXPECT_EQ(resident_kib(file.bytes().data()), 0u);
  file.populate(file.bytes());
  EXPECT_EQ(file.text(), std::string(64 * page, 'x'));
}

// Address space alone, but for the head: more than this machine has is no matter.
TEST_F(MappedFileTest, UnwrittenIsAHeadAndZeros) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::string head(page + 10, 'h');
  auto made = MappedFile::unwritten("a plan", head, std::size_t{1} << 42);
  ASSERT_TRUE(made.ok()) << made.error().message;
  const MappedFile file = std::move(made).value();
  EXPECT_EQ(file.path(), "a plan");
  EXPECT_EQ(file.bytes().size(), std::size_t{1} << 42);
  EXPECT_EQ(file.text().substr(0, head.size()), head);
  EXPECT_LE(resident_kib(file.bytes().data()), 2 * page / 1024);
  EXPECT_EQ(file.bytes()[head.size()], std::byte{0});
  EXPECT_EQ(file.bytes()[std::size_t{1} << 41], std::byte{0});
  EXPECT_EQ(file.bytes().back(), std::byte{0});
}

TEST_F(MappedFileTest, UnwrittenSaysWhenThereAreNoAddresses) {
  const auto made = MappedFile::unwritten("a plan", "head", std::size_t{1} << 62);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, ErrorCode::kIo);
  EXPECT_EQ(made.error().message.find("a plan: no address space for 4611686018427387904 bytes"), 0u)
      << made.error().message;
}

TEST_F(MappedFileTest, UnwrittenWithoutAHead) {
  auto made = MappedFile::unwritten("a plan", "", 10);
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(made.value().text(), std::string(10, '\0'));
}

}  // namespace
}  // namespace axon
