#include "memory/system_linux.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "memory/text_number.h"

namespace axon {
namespace {

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::optional<Bytes> number_file(const std::string& path) {
  const auto text = read_text(path);
  const auto value = text ? whole_number(*text) : std::nullopt;
  return value ? std::optional(Bytes{*value}) : std::nullopt;
}

// What follows `prefix` on the first line that starts with it.
std::optional<std::string_view> line_after(std::string_view text, std::string_view prefix) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(prefix)) return line.substr(prefix.size());
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return std::nullopt;
}

// "Name:   123 kB" (kB means KiB there).
std::optional<Bytes> kib_field(std::string_view text, const std::string& name) {
  auto rest = line_after(text, name + ":");
  if (!rest || !trimmed(*rest).ends_with(" kB")) return std::nullopt;
  const std::string_view digits = trimmed(*rest);
  const auto kib = whole_number(digits.substr(0, digits.size() - 3));
  const auto bytes = kib ? checked_mul(*kib, 1024) : std::nullopt;
  return bytes ? std::optional(Bytes{*bytes}) : std::nullopt;
}

Bytes sum(Bytes a, Bytes b) { return Bytes{checked_add(a.count, b.count).value_or(0)}; }
Bytes less(Bytes a, Bytes b) { return a > b ? a - b : Bytes{}; }

// For kernels before 3.14. Cached counts shared memory (tmpfs), which cannot be dropped. Of what can be, half: the
// kernel's own estimate (mm/show_mem.c, si_mem_available) keeps back at most half of the caches, and its low watermark,
// which decides how much, is not in meminfo.
Bytes estimated_available(std::string_view info) {
  const auto field = [&](const char* name) { return kib_field(info, name).value_or(Bytes{}); };
  const Bytes caches = sum(less(sum(field("Buffers"), field("Cached")), field("Shmem")), field("SReclaimable"));
  return sum(field("MemFree"), Bytes{caches.count / 2});
}

void read_meminfo(std::string_view info, SystemMemory& memory) {
  const auto field = [&](const char* name) { return kib_field(info, name).value_or(Bytes{}); };
  memory.physical = field("MemTotal");
  const auto available = kib_field(info, "MemAvailable");
  memory.available_estimated = !available && memory.physical > Bytes{};
  memory.available = std::min(available ? *available : estimated_available(info), memory.physical);
  memory.swap_total = field("SwapTotal");
  memory.swap_free = std::min(field("SwapFree"), memory.swap_total);
  // Taken out of the free lists when the pool grows, so NR_FREE_PAGES and with it MemAvailable leave them out.
  const std::uint64_t page = field("Hugepagesize").count;
  const auto pool = [&](const char* name) {
    const auto count = line_after(info, name);
    return Bytes{checked_mul(count ? whole_number(*count).value_or(0) : 0, page).value_or(0)};
  };
  // "Hugetlb" (newer kernels) counts the pools of every size, HugePages_* the default size alone.
  memory.huge_total = std::max(pool("HugePages_Total:"), field("Hugetlb"));
  memory.huge_free = std::min(pool("HugePages_Free:"), memory.huge_total);
}

// One hierarchy in which this process has a group.
struct Group {
  std::string folder;  // absolute, under the hierarchy's mount point
  std::string mount;
  bool v2 = false;
};

// Where the `controller` of this process lives. Version 2 is the line without controllers.
std::vector<Group> groups_of(const std::string& root, const std::string& controller) {
  std::vector<Group> groups;
  const auto text = read_text(root + "/proc/self/cgroup");
  if (!text) return groups;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path.empty() || path.front() != '/') continue;
    const std::string top = root + "/sys/fs/cgroup";
    if (controllers.empty()) groups.push_back({top + path, top, true});
    if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      groups.push_back({top + "/" + controller + path, top + "/" + controller, false});
    }
  }
  return groups;
}

// Calls visit(folder, v2) for the groups of this process and all their ancestors: a limit may sit on any. In a
// container the path may name a folder that only the host sees.
template <class Visit>
void for_each_group(const std::string& root, const std::string& controller, Visit visit) {
  for (const Group& group : groups_of(root, controller)) {
    std::string folder = group.folder;
    while (folder.size() > group.mount.size()) {
      visit(folder, group.v2);
      folder.resize(folder.find_last_of('/'));
    }
    visit(group.mount, group.v2);
  }
}

// Group's use without the page cache, which goes when the group needs memory.
Bytes held_by(const std::string& folder, bool v2) {
  const auto used = number_file(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  const auto stat = read_text(folder + "/memory.stat");
  const auto field = [&](const char* name) {
    const auto rest = stat ? line_after(*stat, name) : std::nullopt;
    return Bytes{rest ? whole_number(*rest).value_or(0) : 0};
  };
  const Bytes cache = v2 ? sum(field("inactive_file "), field("active_file "))
                         : sum(field("total_inactive_file "), field("total_active_file "));
  return less(used.value_or(Bytes{}), cache);
}

void apply_limits(const std::string& folder, bool v2, SystemMemory& memory) {
  const auto hard = number_file(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  const auto soft = v2 ? number_file(folder + "/memory.high") : std::nullopt;
  const bool throttles = soft && (!hard || *soft < *hard);
  const auto limit = throttles ? soft : hard;
  if (!limit || *limit >= memory.physical) return;  // v1 writes a huge number for "none"
  const Bytes spare = less(*limit, held_by(folder, v2));
  if (memory.cgroup_spare && spare >= *memory.cgroup_spare) return;
  memory.cgroup_spare = spare;
  memory.cgroup_limit = *limit;
  memory.cgroup_throttles = throttles;
}

// "always [madvise] never"
std::string chosen_word(const std::string& text) {
  const std::size_t open = text.find('['), close = text.find(']', open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return text.substr(open + 1, close - open - 1);
}

}  // namespace

SystemMemory read_linux_memory(const std::string& root) {
  SystemMemory memory;
  if (const auto info = read_text(root + "/proc/meminfo")) read_meminfo(*info, memory);
  for_each_group(root, "memory", [&](const std::string& folder, bool v2) {
    apply_limits(folder, v2, memory);
    const auto swap = v2 ? number_file(folder + "/memory.swap.max") : std::nullopt;
    if (swap) memory.cgroup_swap_limit = std::min(*swap, memory.cgroup_swap_limit.value_or(*swap));
  });
  memory.transparent_huge_pages =
      chosen_word(read_text(root + "/sys/kernel/mm/transparent_hugepage/enabled").value_or(""));
  return memory;
}

std::optional<std::size_t> linux_processor_quota(const std::string& root) {
  std::optional<std::size_t> tightest;
  for_each_group(root, "cpu", [&](const std::string& folder, bool v2) {
    std::optional<std::uint64_t> quota, period;
    if (v2) {  // "200000 100000", or "max 100000"
      const std::string text = read_text(folder + "/cpu.max").value_or("");
      const std::size_t space = text.find(' ');
      if (space == std::string::npos) return;
      quota = whole_number(std::string_view(text).substr(0, space));
      period = whole_number(std::string_view(text).substr(space));
    } else {  // "-1" for none
      quota = whole_number(read_text(folder + "/cpu.cfs_quota_us").value_or(""));
      period = whole_number(read_text(folder + "/cpu.cfs_period_us").value_or(""));
    }
    if (!quota || !period || *quota == 0 || *period == 0) return;
    const std::size_t processors = *quota / *period + (*quota % *period != 0);
    tightest = std::min(processors, tightest.value_or(processors));
  });
  return tightest;
}

std::string linux_processor_name(const std::string& root) {
  const std::string info = read_text(root + "/proc/cpuinfo").value_or("");
  std::string_view rest = trimmed(line_after(info, "model name").value_or(""));
  if (!rest.starts_with(':')) return "";
  return std::string(trimmed(rest.substr(1)));
}

}  // namespace axon
