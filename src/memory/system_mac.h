#pragma once
// macOS's figures on memory: what they mean is decided here, on every system and under test; asking the kernel for them
// is one small function that exists on macOS alone.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "memory/system.h"

namespace axon {

// Page counts are in pages of page_size bytes. Each is absent where the system did not say.
struct MacFigures {
  using Figure = std::optional<std::uint64_t>;
  Figure memory_bytes{};  // hw.memsize
  Figure page_size{};     // bytes: 16,384 on Apple silicon, 4,096 on Intel
  // As vm_stat prints them. The kernel's own free_count has the speculative pages in it (xnu, osfmk/kern/host.c); this
  // one has not.
  Figure free{}, active{}, inactive{}, speculative{}, wired{}, purgeable{}, file_backed{}, compressor{};
  Figure wired_limit_mib{};                  // iogpu.wired_limit_mb; 0: macOS decides. Absent on Intel
  Figure metal_working_set{};                // bytes: Metal's recommendedMaxWorkingSetSize, where someone asked
  Figure swap_total{}, swap_used{};          // bytes: vm.swapusage
  Figure processors{}, performance_cores{};  // hw.ncpu, hw.perflevel0.physicalcpu
  Figure pressure_level{};                   // kern.memorystatus_vm_pressure_level: 1 normal, 2 warn, 4 critical
};

// Available is free + file-backed + purgeable. File-backed pages are the active, inactive and speculative pages that
// have a file behind them, so those three are not added again; the rest of them is other programs' memory, which could
// be had only by compressing it or swapping it out. That is Activity Monitor's free memory and cached files.
SystemMemory system_memory_from(const MacFigures& figures);

// Processors for a run: the performance cores where there are two kinds (an even split of work over both waits for the
// slow ones), else all; 0 when unknown.
std::size_t mac_processors(const MacFigures& figures);

// What macOS lets the GPU hold when iogpu.wired_limit_mb is 0. Apple publishes no rule. Metal's
// recommendedMaxWorkingSetSize as programs logged it: 10.67 GiB of 16, 21.33 of 32 (2/3), 27.0 of 36, 48 of 64, 72 of
// 96 (3/4); newer systems give more (11.84 of 16, 17.76 of 24, 107.52 of 128), so this is the lower of the two.
double mac_gpu_share(Bytes physical);

// Fill in what the text has, one after the other; unknown lines and numbers that are none are passed over.
void parse_mac_sysctl(std::string_view text, MacFigures& figures);   // `sysctl NAME...`: "hw.memsize: 17179869184"
void parse_mac_vm_stat(std::string_view text, MacFigures& figures);  // `vm_stat`

#if defined(__APPLE__)
MacFigures probe_mac();
#endif

}  // namespace axon
