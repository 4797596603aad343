// macOS's figures, from texts in the format that sysctl and vm_stat print (tests/fixtures/memory/mac_*).

#include "memory/system_mac.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>
#include <sstream>

namespace axon {
namespace {

constexpr Bytes pages(std::uint64_t count, std::uint64_t size = 16'384) { return Bytes{count * size}; }

std::string read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(std::string(AXON_SOURCE_DIR) + "/tests/fixtures/memory/" + path).rdbuf();
  return out.str();
}

MacFigures figures_of(const std::string& name) {
  MacFigures figures;
  parse_mac_sysctl(read(name + "/sysctl.txt"), figures);
  parse_mac_vm_stat(read(name + "/vm_stat.txt"), figures);
  return figures;
}

TEST(MacMemory, LaptopInUse) {
  const MacFigures figures = figures_of("mac_m4_16gb");
  EXPECT_EQ(figures.active, 362'224u);
  EXPECT_EQ(figures.wired, 152'865u);
  EXPECT_EQ(figures.compressor, 95'402u);  // "occupied by", not "stored in"
  // What makes counting inactive pages beside file-backed ones a double count (holds in every recording).
  EXPECT_LT(*figures.file_backed, *figures.active + *figures.inactive + *figures.speculative);
  const SystemMemory memory = system_memory_from(figures);
  EXPECT_EQ(memory.physical, 16_GiB);
  EXPECT_EQ(memory.available, pages(30'589 + 285'000 + 12'074));
  EXPECT_EQ(memory.spare(), memory.available);  // whatever the GPU may hold
  EXPECT_EQ(memory.swap_total, 2_GiB);
  EXPECT_EQ(memory.swap_free, 1441_MiB + 768_KiB);
  EXPECT_EQ(memory.pressure, "normal");
  ASSERT_TRUE(memory.gpu_limit);
  EXPECT_EQ(*memory.gpu_limit, 11'453'246'122_B);  // programs log 11453.25 MB (10^6) on such a machine
  EXPECT_EQ(memory.gpu_limit_source, "macOS's default, estimated");
  EXPECT_EQ(mac_processors(figures), 4u);
}

TEST(MacMemory, UnderPressureInactivePagesAreNotFree) {
  const MacFigures figures = figures_of("mac_m1_8gb_pressure");
  const SystemMemory memory = system_memory_from(figures);
  EXPECT_EQ(memory.available, pages(4'144 + 52'000 + 301));  // 882 MiB; free + inactive would be 1.7 GiB
  EXPECT_LT(memory.available, pages(*figures.free + *figures.inactive));
  EXPECT_EQ(memory.pressure, "warn");
  EXPECT_EQ(memory.swap_total, 6_GiB);
}

TEST(MacMemory, RaisedWiredLimit) {
  const SystemMemory memory = system_memory_from(figures_of("mac_mini_16gb_wired"));
  EXPECT_EQ(memory.gpu_limit, 14_GiB);
  EXPECT_EQ(memory.gpu_limit_source, "iogpu.wired_limit_mb");
  EXPECT_EQ(memory.available, pages(616'097 + 130'312 + 5'376));
  EXPECT_EQ(memory.swap_total, 0_B);
}

TEST(MacMemory, IntelHasSmallPagesAndNoSuchLimit) {
  const MacFigures figures = figures_of("mac_intel_32gb");
  const SystemMemory memory = system_memory_from(figures);
  EXPECT_EQ(memory.available, pages(1'616'097 + 1'300'312 + 125'376, 4'096));
  EXPECT_EQ(memory.gpu_limit, std::nullopt);
  EXPECT_EQ(mac_processors(figures), 16u);
}

TEST(MacMemory, GpuLimit) {
  MacFigures figures{.memory_bytes = (36_GiB).count, .wired_limit_mib = 0};
  EXPECT_EQ(system_memory_from(figures).gpu_limit, 27_GiB);
  figures.wired_limit_mib = 1 << 20;  // 1 TiB
  EXPECT_EQ(system_memory_from(figures).gpu_limit, 36_GiB);
  figures.metal_working_set = (30_GiB).count;
  EXPECT_EQ(system_memory_from(figures).gpu_limit, 30_GiB);
  EXPECT_EQ(system_memory_from(figures).gpu_limit_source, "Metal's recommendedMaxWorkingSetSize");
  figures = {.memory_bytes = (16_GiB).count, .wired_limit_mib = ~0ull};  // more than 64 bits of bytes
  EXPECT_EQ(system_memory_from(figures).gpu_limit, std::nullopt);
  EXPECT_DOUBLE_EQ(mac_gpu_share(32_GiB), 2.0 / 3.0);
  EXPECT_DOUBLE_EQ(mac_gpu_share(128_GiB), 0.75);
}

TEST(MacMemory, PageSizeFromEitherText) {
  MacFigures figures;
  parse_mac_sysctl("hw.pagesize: 4096\nhw.memsize: 1073741824\n", figures);
  parse_mac_vm_stat("Pages free:   3.\n", figures);
  EXPECT_EQ(system_memory_from(figures).available, pages(3, 4'096));
}

// Systems before 10.9 printed no file-backed count.
TEST(MacMemory, WithoutFileBackedCountOnlySpeculativePagesAreCache) {
  MacFigures figures{.memory_bytes = (1_GiB).count,
                     .page_size = 4'096,
                     .free = 10,
                     .inactive = 1'000,
                     .speculative = 5,
                     .purgeable = 2};
  EXPECT_EQ(system_memory_from(figures).available, pages(17, 4'096));
}

TEST(MacMemory, NothingSeenIsNothingPromised) {
  EXPECT_EQ(system_memory_from({}).spare(), 0_B);
  EXPECT_EQ(mac_processors({}), 0u);
  EXPECT_EQ(system_memory_from({.memory_bytes = (1_GiB).count, .free = 100}).spare(), 0_B) << "pages of unknown size";
  EXPECT_EQ(system_memory_from({.page_size = 4'096, .free = 100}).spare(), 0_B) << "no memory to have pages of";
  EXPECT_EQ(system_memory_from({.memory_bytes = 4'096, .page_size = 4'096, .free = 2}).available, 4_KiB);
}

TEST(MacMemory, TextsThatAreBroken) {
  MacFigures figures;
  parse_mac_sysctl(
      "sysctl: unknown oid 'iogpu.wired_limit_mb'\nhw.memsize: -1\nhw.ncpu: 99999999999999999999\nhw.pagesize",
      figures);
  parse_mac_sysctl("vm.swapusage: total = 1.50G  used = x  free\n:\n: :\n", figures);
  parse_mac_vm_stat("Mach Virtual Memory Statistics: (page size of many bytes)\nPages free: 12 .\nPages active: .\n",
                    figures);
  EXPECT_EQ(figures.memory_bytes, std::nullopt);
  EXPECT_EQ(figures.processors, std::nullopt);
  EXPECT_EQ(figures.wired_limit_mib, std::nullopt);
  EXPECT_EQ(figures.swap_total, std::nullopt);
  EXPECT_EQ(figures.swap_used, std::nullopt);
  EXPECT_EQ(figures.page_size, std::nullopt);
  EXPECT_EQ(figures.active, std::nullopt);
}

RC_GTEST_PROP(MacMemory, AnyTextAndAnyFiguresAreSafe, (const std::string& text)) {
  MacFigures figures;
  parse_mac_sysctl(text, figures);
  parse_mac_vm_stat("Mach Virtual Memory Statistics: (page size of " + text, figures);
  parse_mac_sysctl("vm.swapusage: total = " + text, figures);
  figures.memory_bytes = *rc::gen::arbitrary<std::uint64_t>();
  figures.page_size = *rc::gen::arbitrary<std::uint64_t>();
  figures.free = *rc::gen::arbitrary<std::uint64_t>();
  figures.file_backed = *rc::gen::arbitrary<std::uint64_t>();
  figures.swap_used = *rc::gen::arbitrary<std::uint64_t>();
  figures.wired_limit_mib = *rc::gen::arbitrary<std::uint64_t>();
  const SystemMemory memory = system_memory_from(figures);
  RC_ASSERT(memory.spare() <= memory.physical);
  RC_ASSERT(memory.swap_free <= memory.swap_total);
  RC_ASSERT(!memory.gpu_limit || *memory.gpu_limit <= memory.physical);
}

}  // namespace
}  // namespace axon
