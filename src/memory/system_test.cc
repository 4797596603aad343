// What the machine can spare, read from recorded files (tests/fixtures/memory).

#include "memory/system.h"

#include <gtest/gtest.h>

#include <vector>

namespace axon {
namespace {

SystemMemory recorded(const std::string& name) {
  const SystemMemory memory = read_system_memory(std::string(AXON_SOURCE_DIR) + "/tests/fixtures/memory/" + name);
  if (name != "nowhere") {
    EXPECT_EQ(memory.physical, 24'684'092_KiB);
    EXPECT_EQ(memory.available, 23'549'612_KiB);
  }
  return memory;
}

TEST(SystemMemory, PlainMachineSparesWhatIsAvailable) {
  const SystemMemory memory = recorded("plain");
  EXPECT_FALSE(memory.cgroup_limit.has_value());
  EXPECT_FALSE(memory.cgroup_spare.has_value());
  EXPECT_EQ(memory.spare(), 23'549'612_KiB);
  EXPECT_STREQ(memory.spare_source(), "available memory");
}

// Version 1 writes 2^63 less a page for "none", and sums of the whole tree under total_*.
TEST(SystemMemory, Version1LimitOfAnAncestor) {
  const SystemMemory memory = recorded("cgroup_v1");
  ASSERT_TRUE(memory.cgroup_limit && memory.cgroup_spare);
  EXPECT_EQ(*memory.cgroup_limit, 2_GiB);
  EXPECT_EQ(*memory.cgroup_spare, 2_GiB - (1_GiB - 256_MiB - 128_MiB));  // the page cache can go
  EXPECT_EQ(memory.spare(), 1408_MiB);
  EXPECT_STREQ(memory.spare_source(), "control group limit");
}

TEST(SystemMemory, Version2TightestOfTheAncestors) {
  const SystemMemory memory = recorded("cgroup_v2");
  ASSERT_TRUE(memory.cgroup_limit && memory.cgroup_spare);
  EXPECT_EQ(*memory.cgroup_limit, 4_GiB);  // not the 8 GiB further in
  EXPECT_EQ(*memory.cgroup_spare, 4_GiB - (3_GiB - 1536_MiB));
  EXPECT_EQ(memory.spare(), 2560_MiB);
  EXPECT_STREQ(memory.spare_source(), "control group limit");
}

TEST(SystemMemory, ContainerWithoutALimit) {
  const SystemMemory memory = recorded("container_max");
  EXPECT_FALSE(memory.cgroup_spare.has_value());
  EXPECT_EQ(memory.spare(), memory.available);
}

// /proc/self/cgroup may name a folder that exists only outside the container.
TEST(SystemMemory, ContainerWithALimit) {
  const SystemMemory memory = recorded("container_limit");
  ASSERT_TRUE(memory.cgroup_limit && memory.cgroup_spare);
  EXPECT_EQ(*memory.cgroup_limit, 1_GiB);
  EXPECT_EQ(memory.spare(), 1_GiB - 50_MiB);
}

TEST(SystemMemory, MoreUsedThanAllowedSparesNothing) {
  const SystemMemory memory = recorded("exhausted");
  EXPECT_EQ(memory.spare(), 0_B);
  EXPECT_STREQ(memory.spare_source(), "control group limit");
}

TEST(SystemMemory, NothingSeenIsNothingPromised) {
  const SystemMemory memory = recorded("nowhere");
  EXPECT_EQ(memory.physical, 0_B);
  EXPECT_EQ(memory.spare(), 0_B);
}

// No figure that was not read may become a promise.
TEST(SystemMemory, StartsEmpty) {
  const SystemMemory memory;
  EXPECT_EQ(memory.spare(), 0_B);
  EXPECT_FALSE(memory.gpu_limit || memory.cgroup_limit || memory.cgroup_swap_limit);
  EXPECT_STREQ(memory.spare_source(), "available memory");
}

TEST(SystemMemory, TheSmallerOfTheTwoDecides) {
  SystemMemory memory{.physical = 8_GiB, .available = 2_GiB, .cgroup_limit = 4_GiB, .cgroup_spare = 3_GiB};
  EXPECT_EQ(memory.spare(), 2_GiB);
  EXPECT_STREQ(memory.spare_source(), "available memory");
  memory.cgroup_spare = 1_GiB;
  EXPECT_EQ(memory.spare(), 1_GiB);
  EXPECT_STREQ(memory.spare_source(), "control group limit");
}

TEST(SystemMemory, ThisMachine) {
  const SystemMemory memory = read_system_memory();
  EXPECT_GT(memory.physical, 100_MiB);
  EXPECT_LE(memory.available, memory.physical);
  EXPECT_LE(memory.spare(), memory.available);
  if (memory.cgroup_limit) {
    EXPECT_LE(*memory.cgroup_spare, *memory.cgroup_limit);
  }
  EXPECT_FALSE(memory.available_estimated);
  EXPECT_LE(memory.swap_free, memory.swap_total);
  EXPECT_LE(memory.huge_free, memory.huge_total);
  EXPECT_LT(memory.huge_total, memory.physical);
  EXPECT_GE(usable_processors(), 1u);
}

TEST(PeakResident, GrowsWithTouchedMemory) {
  const Bytes before = peak_resident();
  EXPECT_GT(before, 1_MiB);
  {
    // More than ever was resident, so that the peak must move whatever ran before.
    std::vector<char> touched(before.count + (32u << 20), 1);
    EXPECT_EQ(touched[touched.size() / 2], 1);
  }
  const Bytes after = peak_resident();
  EXPECT_GE(after, before + 30_MiB);
  EXPECT_GE(peak_resident(), after);  // and stays, though the memory is gone
}

}  // namespace
}  // namespace axon
