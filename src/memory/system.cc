#include "memory/system.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

namespace axon {
namespace {

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// "Name:   123 kB" in a file of such lines.
std::optional<Bytes> kib_field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + ":")) continue;
    return Bytes{std::strtoull(line.c_str() + name.size() + 1, nullptr, 10) << 10};
  }
  return std::nullopt;
}

// "name 123" in a file of such lines (memory.stat).
Bytes stat_field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + " ")) return Bytes{std::strtoull(line.c_str() + name.size() + 1, nullptr, 10)};
  }
  return {};
}

std::optional<Bytes> number_file(const std::string& path) {
  const auto text = read_text(path);
  if (!text || text->empty() || text->front() < '0' || text->front() > '9') return std::nullopt;  // "max"
  return Bytes{std::strtoull(text->c_str(), nullptr, 10)};
}

struct Group {
  std::string folder;  // absolute, under the hierarchy's mount point
  std::string mount;
  bool v2 = false;
};

// Where this process's memory controller lives.
std::vector<Group> memory_groups(const std::string& root) {
  std::vector<Group> groups;
  const auto text = read_text(root + "/proc/self/cgroup");
  if (!text) return groups;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) groups.push_back({root + "/sys/fs/cgroup" + path, root + "/sys/fs/cgroup", true});
    if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      groups.push_back({root + "/sys/fs/cgroup/memory" + path, root + "/sys/fs/cgroup/memory", false});
    }
  }
  return groups;
}

void apply_limit(const std::string& folder, bool v2, const Bytes physical, SystemMemory& memory) {
  const auto limit = number_file(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!limit || *limit >= physical) return;  // v1 writes a huge number for "none"
  const auto used = number_file(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  const auto stat = read_text(folder + "/memory.stat");
  const Bytes cache = stat ? stat_field(*stat, v2 ? "inactive_file" : "total_inactive_file") +
                                 stat_field(*stat, v2 ? "active_file" : "total_active_file")
                           : Bytes{};
  const Bytes held = used.value_or(Bytes{}) > cache ? used.value_or(Bytes{}) - cache : Bytes{};
  const Bytes spare = *limit > held ? *limit - held : Bytes{};
  if (!memory.cgroup_spare || spare < *memory.cgroup_spare) {
    memory.cgroup_spare = spare;
    memory.cgroup_limit = *limit;
  }
}

}  // namespace

Bytes SystemMemory::spare() const { return cgroup_spare ? std::min(available, *cgroup_spare) : available; }

const char* SystemMemory::spare_source() const {
  return cgroup_spare && *cgroup_spare < available ? "control group limit" : "available memory";
}

SystemMemory read_system_memory(const std::string& root) {
  SystemMemory memory;
  if (const auto info = read_text(root + "/proc/meminfo")) {
    memory.physical = kib_field(*info, "MemTotal").value_or(Bytes{});
    memory.available = kib_field(*info, "MemAvailable").value_or(Bytes{});
  }
  for (const Group& group : memory_groups(root)) {
    // A limit may sit on any ancestor. In a container the path may name a folder that only the host sees.
    std::string folder = group.folder;
    while (folder.size() > group.mount.size()) {
      apply_limit(folder, group.v2, memory.physical, memory);
      folder.resize(folder.find_last_of('/'));
    }
    apply_limit(group.mount, group.v2, memory.physical, memory);
  }
  return memory;
}

Bytes peak_resident() {
  const auto status = read_text("/proc/self/status");
  return status ? kib_field(*status, "VmHWM").value_or(Bytes{}) : Bytes{};
}

std::size_t usable_processors() {
  std::size_t count = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
  if (const auto quota = read_text("/sys/fs/cgroup/cpu.max")) {
    char* end = nullptr;
    const unsigned long long used = std::strtoull(quota->c_str(), &end, 10);
    const unsigned long long period = end == nullptr ? 0 : std::strtoull(end, nullptr, 10);
    if (used > 0 && period > 0)
      count = std::min<std::size_t>(count, std::max<std::size_t>(1, (used + period - 1) / period));
  }
  return count;
}

}  // namespace axon
