// Linux's figures, read from folders laid out as /proc and /sys are (tests/fixtures/memory), and from broken ones.

#include "memory/system_linux.h"

#include <unistd.h>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <utility>

namespace axon {
namespace {

std::string fixture(const std::string& name) { return std::string(AXON_SOURCE_DIR) + "/tests/fixtures/memory/" + name; }

// A root with these files, gone at the end.
class Root {
 public:
  explicit Root(std::initializer_list<std::pair<const char*, std::string>> files)
      : folder_(testing::TempDir() + "axon_system_linux_" + std::to_string(::getpid()) + "_" +
                std::to_string(counter_++)) {
    for (const auto& [path, text] : files) write(path, text);
  }
  ~Root() { std::filesystem::remove_all(folder_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;
  SystemMemory memory() const { return read_linux_memory(folder_); }
  const std::string& path() const { return folder_; }

 private:
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = folder_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  static inline int counter_ = 0;
  std::string folder_;
};

constexpr const char* kMeminfo = "proc/meminfo";

TEST(LinuxMemory, SwapIsToldAndNeverSpare) {
  const SystemMemory memory = read_linux_memory(fixture("laptop_swap_zram"));
  EXPECT_EQ(memory.physical, 16'303'428_KiB);
  EXPECT_EQ(memory.swap_total, 12'582'904_KiB);  // 8 GiB of zram, whose store is in this very memory, and a file
  EXPECT_EQ(memory.swap_free, 11'534'328_KiB);
  EXPECT_EQ(memory.spare(), 9'876'544_KiB);
  EXPECT_STREQ(memory.spare_source(), "available memory");
  EXPECT_FALSE(memory.available_estimated);
  EXPECT_EQ(memory.transparent_huge_pages, "madvise");
  EXPECT_FALSE(memory.cgroup_limit || memory.cgroup_swap_limit) << "\"max\" is no limit";
  EXPECT_EQ(linux_processor_quota(fixture("laptop_swap_zram")), std::nullopt);
}

// 4,096 pages of 2 MiB and two of 1 GiB.
TEST(LinuxMemory, ReservedHugePages) {
  const SystemMemory memory = read_linux_memory(fixture("hugetlb"));
  EXPECT_EQ(memory.huge_total, 10_GiB);
  EXPECT_EQ(memory.huge_free, 2_GiB);
  EXPECT_EQ(memory.spare(), 20'000'000_KiB);  // MemAvailable left the pool out already
  EXPECT_EQ(memory.transparent_huge_pages, "always");
  EXPECT_EQ(read_linux_memory(fixture("hugetlb_no_sum")).huge_total, 8_GiB);  // no Hugetlb line: the default size alone
}

TEST(LinuxMemory, ThrottlingLimitIsALimit) {
  const SystemMemory memory = read_linux_memory(fixture("cgroup_v2_high"));
  ASSERT_TRUE(memory.cgroup_limit && memory.cgroup_spare && memory.cgroup_swap_limit);
  EXPECT_EQ(*memory.cgroup_limit, 3_GiB);                         // memory.high, not the 4 GiB of memory.max
  EXPECT_EQ(*memory.cgroup_spare, 3_GiB - (1536_MiB - 512_MiB));  // the page cache can go
  EXPECT_TRUE(memory.cgroup_throttles);
  EXPECT_STREQ(memory.spare_source(), "control group throttle");
  EXPECT_EQ(*memory.cgroup_swap_limit, 1_GiB);                      // the ancestor's, not the 2 GiB further in
  EXPECT_EQ(linux_processor_quota(fixture("cgroup_v2_high")), 4u);  // 3.5, from the ancestor
}

TEST(LinuxMemory, ThrottleAboveTheLimitDoesNotMatter) {
  const SystemMemory memory = read_linux_memory(fixture("cgroup_v2_high_above_max"));
  ASSERT_TRUE(memory.cgroup_limit);
  EXPECT_EQ(*memory.cgroup_limit, 2_GiB);
  EXPECT_EQ(memory.spare(), 1_GiB);
  EXPECT_FALSE(memory.cgroup_throttles);
  EXPECT_STREQ(memory.spare_source(), "control group limit");
}

TEST(LinuxMemory, VirtualMachineOfWindows) {
  const SystemMemory memory = read_linux_memory(fixture("wsl2"));
  EXPECT_EQ(memory.physical, 8'026'420_KiB);  // half of the 16 GiB that Windows has
  EXPECT_EQ(memory.spare(), 7'129'088_KiB);
  EXPECT_FALSE(memory.cgroup_limit.has_value());
}

TEST(LinuxMemory, OldKernelIsEstimated) {
  const SystemMemory memory = read_linux_memory(fixture("before_mem_available"));
  EXPECT_TRUE(memory.available_estimated);
  EXPECT_EQ(memory.available, 1'048'576_KiB + Bytes{((204'800 + 3'145'728 - 1'048'576 + 200'000) * 1024ull) / 2});
}

TEST(LinuxMemory, QuotaOfVersion1) { EXPECT_EQ(linux_processor_quota(fixture("cgroup_v1_cpu")), 2u); }

TEST(LinuxMemory, AbsentFilesAndFields) {
  EXPECT_EQ(Root({}).memory().physical, 0_B);
  EXPECT_EQ(linux_processor_quota(Root({}).path()), std::nullopt);
  EXPECT_EQ(Root({{kMeminfo, ""}}).memory().spare(), 0_B);
  const SystemMemory total_only = Root({{kMeminfo, "MemTotal: 1024 kB\n"}}).memory();
  EXPECT_EQ(total_only.physical, 1_MiB);
  EXPECT_EQ(total_only.spare(), 0_B);
  EXPECT_EQ(Root({{kMeminfo, "MemAvailable: 1024 kB\n"}}).memory().spare(), 0_B) << "of a machine without memory";
}

TEST(LinuxMemory, NumbersThatAreNone) {
  const char* values[] = {"-5 kB",
                          "12abc kB",
                          "0x10 kB",
                          "1024",
                          "1024 MB",
                          "kB",
                          "99999999999999999999 kB",
                          "18014398509481985 kB"};  // 2^54 + 1 KiB: more than 64 bits of bytes
  for (const std::string value : values) {
    const SystemMemory memory = Root({{kMeminfo, "MemTotal: 4096 kB\nMemAvailable: " + value + "\n"}}).memory();
    EXPECT_EQ(memory.physical, 4_MiB) << value;
    EXPECT_EQ(memory.available, 0_B) << value;
    EXPECT_EQ(Root({{kMeminfo, "MemTotal: " + value + "\n"}}).memory().physical, 0_B) << value;
  }
}

TEST(LinuxMemory, AvailableIsBoundedByPhysical) {
  EXPECT_EQ(Root({{kMeminfo, "MemTotal: 4096 kB\nMemAvailable: 8192 kB\n"}}).memory().available, 4_MiB);
  const SystemMemory swap = Root({{kMeminfo, "MemTotal: 4 kB\nSwapTotal: 8 kB\nSwapFree: 16 kB\n"}}).memory();
  EXPECT_EQ(swap.swap_free, swap.swap_total);
}

TEST(LinuxMemory, HugePoolThatOverflows) {
  const SystemMemory memory = Root({{kMeminfo,
                                     "MemTotal: 4096 kB\nHugePages_Total: 18446744073709551615\nHugePages_Free: 1\n"
                                     "Hugepagesize: 2048 kB\n"}})
                                  .memory();
  EXPECT_EQ(memory.huge_total, 0_B);
  EXPECT_EQ(memory.huge_free, 0_B);
}

TEST(LinuxMemory, ControlGroupFilesThatAreBroken) {
  const std::string meminfo = "MemTotal: 8192 kB\nMemAvailable: 4096 kB\n";
  for (const std::string limit : {"", "max", "garbage", "-1", "1048576 trailing", "99999999999999999999999"}) {
    const Root root({{kMeminfo, meminfo}, {"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/memory.max", limit}});
    EXPECT_EQ(root.memory().cgroup_limit, std::nullopt) << limit;
  }
  for (const std::string groups : {"", "nonsense\n", "0:\n", "0::relative\n", "::::\n", ":memory:\n"}) {
    const Root root({{kMeminfo, meminfo}, {"proc/self/cgroup", groups}, {"sys/fs/cgroup/memory.max", "1048576\n"}});
    EXPECT_EQ(root.memory().spare(), 4_MiB) << groups;
  }
  // More page cache than use (the counters are read at different moments), and a sum of it that overflows.
  for (const std::string stat :
       {"inactive_file 9000000\nactive_file 1\n", "inactive_file 18446744073709551615\nactive_file 1\n"}) {
    const Root root({{kMeminfo, meminfo},
                     {"proc/self/cgroup", "0::/\n"},
                     {"sys/fs/cgroup/memory.max", "1048576\n"},
                     {"sys/fs/cgroup/memory.current", "524288\n"},
                     {"sys/fs/cgroup/memory.stat", stat}});
    EXPECT_EQ(root.memory().spare(), stat.starts_with("inactive_file 9") ? 1_MiB : 512_KiB);
  }
}

// The other way round than in the fixtures: the group itself is the tightest.
TEST(LinuxMemory, TightestMayBeTheGroupItself) {
  const Root root({{kMeminfo, "MemTotal: 8192 kB\nMemAvailable: 8192 kB\n"},
                   {"proc/self/cgroup", "0::/a\n"},
                   {"sys/fs/cgroup/memory.max", "4194304\n"},
                   {"sys/fs/cgroup/memory.swap.max", "2097152\n"},
                   {"sys/fs/cgroup/cpu.max", "400000 100000\n"},
                   {"sys/fs/cgroup/a/memory.max", "1048576\n"},
                   {"sys/fs/cgroup/a/memory.swap.max", "0\n"},
                   {"sys/fs/cgroup/a/cpu.max", "100000 100000\n"}});
  EXPECT_EQ(root.memory().cgroup_limit, 1_MiB);
  EXPECT_EQ(root.memory().cgroup_swap_limit, 0_B);
  EXPECT_EQ(linux_processor_quota(root.path()), 1u);
}

TEST(LinuxMemory, QuotasThatAreNone) {
  for (const std::string quota : {"max 100000\n", "0 100000\n", "100000 0\n", "100000\n", "-1 100000\n", "x y\n", ""}) {
    const Root root({{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", quota}});
    EXPECT_EQ(linux_processor_quota(root.path()), std::nullopt) << quota;
  }
  const Root root({{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "50000 100000\n"}});
  EXPECT_EQ(linux_processor_quota(root.path()), 1u);
}

TEST(LinuxProcessor, NameIsTheFirstOne) {
  const Root root({{"proc/cpuinfo",
                    "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654 \n\nprocessor\t: 1\n"
                    "model name\t: another\n"}});
  EXPECT_EQ(linux_processor_name(root.path()), "AMD EPYC 9654");
  EXPECT_EQ(processor_name(root.path()), "AMD EPYC 9654");
  for (const std::string text : {"", "model name\n", "model name\t:\n", "processor\t: 0\nCPU part\t: 0xd0c\n"}) {
    EXPECT_EQ(linux_processor_name(Root({{"proc/cpuinfo", text}}).path()), "") << text;
  }
  EXPECT_EQ(linux_processor_name(Root({}).path()), "");
}

// Whatever the files say: nothing beyond the machine is promised.
RC_GTEST_PROP(LinuxMemory, AnyTextIsSafe, ()) {
  const auto line = rc::gen::map(
      rc::gen::tuple(
          rc::gen::element<std::string>("MemTotal:", "MemAvailable:", "MemFree:", "Cached:", "Shmem:", "SwapTotal:",
                                        "SwapFree:", "HugePages_Total:", "Hugepagesize:", "Hugetlb:"),
          rc::gen::oneOf(rc::gen::arbitrary<std::uint64_t>(), rc::gen::inRange<std::uint64_t>(0, 1 << 20)),
          rc::gen::element<std::string>(" kB\n", "\n", " kB", " MB\n", "garbage\n")),
      [](const auto& parts) { return std::get<0>(parts) + std::to_string(std::get<1>(parts)) + std::get<2>(parts); });
  std::string text;
  for (const std::string& part : *rc::gen::container<std::vector<std::string>>(line)) text += part;
  const SystemMemory memory = Root({{kMeminfo, text}}).memory();
  RC_ASSERT(memory.spare() <= memory.physical);
  RC_ASSERT(memory.swap_free <= memory.swap_total);
  RC_ASSERT(memory.huge_free <= memory.huge_total);
}

}  // namespace
}  // namespace axon
