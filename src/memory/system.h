#pragma once
// What this machine has and can spare, read from the operating system.

#include <cstddef>
#include <optional>
#include <string>

#include "base/bytes.h"

namespace axon {

// Bytes everywhere. A figure that could not be read is zero, empty or absent; absent figures promise nothing.
struct SystemMemory {
  Bytes physical;                     // Linux: MemTotal; macOS: hw.memsize
  Bytes available;                    // free, and caches that can be given up without writing anything out
  std::optional<Bytes> cgroup_limit;  // the tightest limit of this process's control group and its ancestors (v1, v2)
  std::optional<Bytes> cgroup_spare;  // what is left under that limit; page cache in the group counts as left

  bool cgroup_throttles = false;  // that limit is a memory.high: passing it slows the group to a crawl, kills nothing
  bool available_estimated = false;  // the kernel told no MemAvailable (before 3.14): from free and half of the caches
  Bytes swap_total{}, swap_free{};   // never part of spare(): a model whose weights are swapped is not running
  std::optional<Bytes> cgroup_swap_limit = std::nullopt;  // tightest memory.swap.max (v2); for information
  // Linux's pool of reserved huge pages (hugetlb). Ordinary allocations cannot use it; MemTotal counts it,
  // MemAvailable does not.
  Bytes huge_total{}, huge_free{};
  std::string transparent_huge_pages{};  // "always", "madvise" or "never"

  // macOS: how much memory the GPU may hold at once, and who says so. A run on the CPU is not bound by it.
  std::optional<Bytes> gpu_limit = std::nullopt;
  std::string gpu_limit_source{};
  std::string pressure{};  // macOS: "normal", "warn" or "critical"

  // What a new process may take without pushing others out.
  Bytes spare() const;
  // "available memory", "control group limit" or "control group throttle": which of them decided.
  const char* spare_source() const;
};

// `root` is prepended to every path of /proc and /sys; tests give a folder of recorded files. With an empty root on
// macOS the kernel is asked instead (memory/system_mac.h). Never fails: see SystemMemory for figures not seen.
SystemMemory read_system_memory(const std::string& root = "");

// Largest resident set of this process so far (Linux: VmHWM; macOS: ru_maxrss), file pages included.
Bytes peak_resident();

// Processors this process may use, at least 1. Linux: affinity, and the tightest control group quota rounded up.
// macOS: the performance cores, where there are two kinds.
std::size_t usable_processors();

// What the processor calls itself, e.g. "AMD EPYC 9654"; empty where the system does not say.
std::string processor_name(const std::string& root = "");

}  // namespace axon
