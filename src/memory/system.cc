#include "memory/system.h"

#include <algorithm>
#include <thread>

#include "memory/system_linux.h"
#include "memory/system_mac.h"

#if defined(__APPLE__)
#include <sys/resource.h>
#include <sys/sysctl.h>

#include <array>
#else
#include <sched.h>

#include <cstdlib>
#include <fstream>
#endif

namespace axon {

Bytes SystemMemory::spare() const { return cgroup_spare ? std::min(available, *cgroup_spare) : available; }

const char* SystemMemory::spare_source() const {
  if (!cgroup_spare || *cgroup_spare >= available) return "available memory";
  return cgroup_throttles ? "control group throttle" : "control group limit";
}

#if defined(__APPLE__)

SystemMemory read_system_memory(const std::string& root) {
  return root.empty() ? system_memory_from(probe_mac()) : read_linux_memory(root);
}

Bytes peak_resident() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return {};
  return Bytes{static_cast<std::uint64_t>(usage.ru_maxrss)};  // bytes here, KiB elsewhere
}

std::size_t usable_processors() {
  const std::size_t cores = mac_processors(probe_mac());
  return cores != 0 ? cores : std::max(1u, std::thread::hardware_concurrency());
}

std::string processor_name(const std::string& root) {
  if (!root.empty()) return linux_processor_name(root);
  std::array<char, 128> name{};
  std::size_t size = name.size() - 1;
  return sysctlbyname("machdep.cpu.brand_string", name.data(), &size, nullptr, 0) == 0 ? name.data() : "";
}

#else

SystemMemory read_system_memory(const std::string& root) { return read_linux_memory(root); }

Bytes peak_resident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return Bytes{std::strtoull(line.c_str() + 6, nullptr, 10) << 10};
  }
  return {};
}

std::size_t usable_processors() {
  std::size_t count = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
  return std::max<std::size_t>(1, std::min(count, linux_processor_quota("").value_or(count)));
}

std::string processor_name(const std::string& root) { return linux_processor_name(root); }

#endif

}  // namespace axon
