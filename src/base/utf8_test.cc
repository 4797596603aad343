#include "base/utf8.h"

#include <gtest/gtest.h>

namespace axon {
namespace {

TEST(Utf8, WellFormedOnly) {
  for (const char* good :
       {"", "blk.0", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xEF\xBF\xBD", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_FALSE(utf8::first_error(good).has_value()) << good;
  }
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "a\xC3", "\xE2\x82", "\xE2\x28\xA1", "\xF0\x9F\x98", "\xFF"}) {
    EXPECT_TRUE(utf8::first_error(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace axon
