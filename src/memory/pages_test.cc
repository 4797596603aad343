#include "memory/pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace axon {
namespace {

// An anonymous mapping of some pages.
class Pages : public ::testing::Test {
 protected:
  static constexpr std::size_t kCount = 64;
  Pages() {
    void* data = mmap(nullptr, kCount * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    AXON_CHECK(data != MAP_FAILED);
    madvise(data, kCount * page_, MADV_NOHUGEPAGE);
    data_ = static_cast<char*>(data);
  }
  ~Pages() override { munmap(data_, kCount * page_); }
  // Which are in memory, as one letter each.
  std::string resident() const {
    std::vector<unsigned char> in_core(kCount);
    EXPECT_EQ(mincore(data_, kCount * page_, in_core.data()), 0);
    std::string out;
    for (const unsigned char c : in_core) out += (c & 1) != 0 ? 'x' : '.';
    return out;
  }
  static std::string only(std::size_t first, std::size_t count) {
    return std::string(first, '.') + std::string(count, 'x') + std::string(kCount - first - count, '.');
  }

  const std::size_t page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  char* data_ = nullptr;
};

TEST_F(Pages, NothingIsThereAtFirst) { EXPECT_EQ(resident(), only(0, 0)); }

TEST_F(Pages, OfARangeAllThatItTouches) {
  populate_pages(data_ + 3 * page_ + 7, 2 * page_, PageUse::kWrite);
  EXPECT_EQ(resident(), only(3, 3));
}

TEST_F(Pages, OneByteIsOnePage) {
  populate_pages(data_ + 6 * page_ - 1, 1, PageUse::kWrite);
  EXPECT_EQ(resident(), only(5, 1));
}

TEST_F(Pages, AllOfThem) {
  populate_pages(data_, kCount * page_, PageUse::kWrite);
  EXPECT_EQ(resident(), only(0, kCount));
}

TEST_F(Pages, NothingOfNothing) {
  populate_pages(data_, 0, PageUse::kWrite);
  EXPECT_EQ(resident(), only(0, 0));
}

TEST_F(Pages, ContentsStay) {
  data_[5 * page_ + 1] = 'a';
  data_[9 * page_] = 'b';
  for (const PageUse use : {PageUse::kRead, PageUse::kWrite}) {
    populate_pages(data_, kCount * page_, use);
    EXPECT_EQ(data_[5 * page_ + 1], 'a');
    EXPECT_EQ(data_[9 * page_], 'b');
    EXPECT_EQ(std::count(data_, data_ + kCount * page_, '\0'), static_cast<std::ptrdiff_t>(kCount * page_ - 2));
  }
}

}  // namespace
}  // namespace axon
