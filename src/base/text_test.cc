#include "base/text.h"

#include <gtest/gtest.h>

namespace axon {
namespace {

TEST(Text, NumbersInGroups) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(18446744073709551615u), "18,446,744,073,709,551,615");
}

TEST(Text, NothingUnprintablePasses) {
  EXPECT_EQ(printable("plain, größer, 模型"), "plain, größer, 模型");
  EXPECT_EQ(printable("a\x1b[31mb\nc"), "a\xEF\xBF\xBD[31mb c");
  EXPECT_EQ(printable("\xFFx\xC3"), "\xEF\xBF\xBDx\xEF\xBF\xBD");
  EXPECT_EQ(printable("\xE2\x80\xAE"
                      "abc"),
            "\xEF\xBF\xBD"
            "abc");  // right-to-left override
  EXPECT_EQ(printable("\xC0\xAF\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Text, NothingOfANameIsMarkup) {
  EXPECT_EQ(escaped("<a href=\"x\">&'</a>"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escaped("a\x01z"), "a\xEF\xBF\xBDz");
}

TEST(Text, WidthCountsCharacters) {
  EXPECT_EQ(display_width(""), 0u);
  EXPECT_EQ(display_width("größer"), 6u);
}

}  // namespace
}  // namespace axon
