#include "memory/system_mac.h"

#include <algorithm>

#include "memory/text_number.h"

#if defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

namespace axon {
namespace {

// vm.swapusage's "total = 2048.00M  used = 606.25M  free = 1441.75M  (encrypted)", in bytes. sysctl(8) prints MiB with
// two digits.
std::optional<std::uint64_t> swap_part(std::string_view text, std::string_view name) {
  const std::size_t at = text.find(name);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = trimmed(text.substr(at + name.size()));
  const std::size_t dot = rest.find('.'), unit = rest.find('M');
  if (unit == std::string_view::npos || dot == std::string_view::npos || unit != dot + 3) return std::nullopt;
  const auto whole = whole_number(rest.substr(0, dot)), hundredths = whole_number(rest.substr(dot + 1, 2));
  if (!whole || !hundredths) return std::nullopt;
  const auto bytes = checked_mul(*whole, 1 << 20);
  return bytes ? checked_add(*bytes, (*hundredths << 20) / 100) : std::nullopt;
}

// Calls take(name, value) for each "name: value" line.
template <class Take>
void for_each_field(std::string_view text, Take take) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos) take(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
}

std::string pressure_name(std::optional<std::uint64_t> level) {
  switch (level.value_or(0)) {
    case 1: return "normal";
    case 2: return "warn";
    case 4: return "critical";
    default: return {};
  }
}

void set_gpu_limit(const MacFigures& figures, SystemMemory& memory) {
  const auto bytes_of_limit = checked_mul(figures.wired_limit_mib.value_or(0), 1 << 20);
  if (figures.metal_working_set) {  // follows wired_limit_mb when that is set
    memory.gpu_limit = Bytes{*figures.metal_working_set};
    memory.gpu_limit_source = "Metal's recommendedMaxWorkingSetSize";
  } else if (!figures.wired_limit_mib || !bytes_of_limit) {
    return;
  } else if (*bytes_of_limit != 0) {
    memory.gpu_limit = Bytes{*bytes_of_limit};
    memory.gpu_limit_source = "iogpu.wired_limit_mb";
  } else {
    const double limit = static_cast<double>(memory.physical.count) * mac_gpu_share(memory.physical);
    memory.gpu_limit = Bytes{static_cast<std::uint64_t>(limit)};
    memory.gpu_limit_source = "macOS's default, estimated";
  }
  memory.gpu_limit = std::min(*memory.gpu_limit, memory.physical);
}

}  // namespace

double mac_gpu_share(Bytes physical) { return physical < 36_GiB ? 2.0 / 3.0 : 0.75; }

SystemMemory system_memory_from(const MacFigures& figures) {
  SystemMemory memory;
  memory.physical = Bytes{figures.memory_bytes.value_or(0)};
  const auto pages = [&](std::optional<std::uint64_t> count) {
    return Bytes{checked_mul(count.value_or(0), figures.page_size.value_or(0)).value_or(0)};
  };
  // Without the file-backed count, the speculative pages are the only ones known to have a file behind them.
  const Bytes cached = pages(figures.file_backed ? figures.file_backed : figures.speculative);
  for (const Bytes part : {pages(figures.free), cached, pages(figures.purgeable)}) {
    memory.available = Bytes{checked_add(memory.available.count, part.count).value_or(0)};
  }
  memory.available = std::min(memory.available, memory.physical);
  memory.swap_total = Bytes{figures.swap_total.value_or(0)};  // grows and shrinks as macOS adds swap files
  memory.swap_free = memory.swap_total - std::min(memory.swap_total, Bytes{figures.swap_used.value_or(0)});
  memory.pressure = pressure_name(figures.pressure_level);
  set_gpu_limit(figures, memory);
  return memory;
}

std::size_t mac_processors(const MacFigures& figures) {
  return static_cast<std::size_t>(figures.performance_cores.value_or(0) != 0 ? *figures.performance_cores
                                                                             : figures.processors.value_or(0));
}

void parse_mac_sysctl(std::string_view text, MacFigures& figures) {
  for_each_field(text, [&](std::string_view name, std::string_view value) {
    const auto take = [&](std::string_view wanted, std::optional<std::uint64_t>& figure) {
      if (name == wanted) figure = whole_number(value);
    };
    take("hw.memsize", figures.memory_bytes);
    take("hw.pagesize", figures.page_size);
    take("hw.ncpu", figures.processors);
    take("hw.perflevel0.physicalcpu", figures.performance_cores);
    take("iogpu.wired_limit_mb", figures.wired_limit_mib);
    take("kern.memorystatus_vm_pressure_level", figures.pressure_level);
    if (name == "vm.swapusage") {
      figures.swap_total = swap_part(value, "total =");
      figures.swap_used = swap_part(value, "used =");
    }
  });
}

void parse_mac_vm_stat(std::string_view text, MacFigures& figures) {
  for_each_field(text, [&](std::string_view name, std::string_view value) {
    if (name == "Mach Virtual Memory Statistics") {  // "(page size of 16384 bytes)"
      const std::string_view before = "(page size of ", after = " bytes)";
      if (value.starts_with(before) && value.ends_with(after)) {
        figures.page_size = whole_number(value.substr(before.size(), value.size() - before.size() - after.size()));
      }
    }
    if (value.ends_with('.')) value.remove_suffix(1);
    const auto take = [&](std::string_view wanted, std::optional<std::uint64_t>& figure) {
      if (name == wanted) figure = whole_number(value);
    };
    take("Pages free", figures.free);
    take("Pages active", figures.active);
    take("Pages inactive", figures.inactive);
    take("Pages speculative", figures.speculative);
    take("Pages wired down", figures.wired);
    take("Pages purgeable", figures.purgeable);
    take("File-backed pages", figures.file_backed);
    take("Pages occupied by compressor", figures.compressor);
  });
}

#if defined(__APPLE__)

namespace {

// Integers of 4 or 8 bytes; both are little-endian on every Mac.
std::optional<std::uint64_t> sysctl_number(const char* name) {
  std::uint64_t value = 0;
  std::size_t size = sizeof value;
  if (sysctlbyname(name, &value, &size, nullptr, 0) != 0) return std::nullopt;
  return value;
}

}  // namespace

MacFigures probe_mac() {
  MacFigures figures;
  figures.memory_bytes = sysctl_number("hw.memsize");
  figures.page_size = static_cast<std::uint64_t>(vm_kernel_page_size);  // the unit of the counts below
  figures.processors = sysctl_number("hw.ncpu");
  figures.performance_cores = sysctl_number("hw.perflevel0.physicalcpu");
  figures.wired_limit_mib = sysctl_number("iogpu.wired_limit_mb");
  figures.pressure_level = sysctl_number("kern.memorystatus_vm_pressure_level");
  xsw_usage swap{};
  std::size_t size = sizeof swap;
  if (sysctlbyname("vm.swapusage", &swap, &size, nullptr, 0) == 0) {
    figures.swap_total = swap.xsu_total;
    figures.swap_used = swap.xsu_used;
  }
  vm_statistics64_data_t vm{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  const mach_port_t host = mach_host_self();
  if (host_statistics64(host, HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&vm), &count) == KERN_SUCCESS) {
    figures.free = vm.free_count - std::min(vm.free_count, vm.speculative_count);
    figures.active = vm.active_count;
    figures.inactive = vm.inactive_count;
    figures.speculative = vm.speculative_count;
    figures.wired = vm.wire_count;
    figures.purgeable = vm.purgeable_count;
    figures.file_backed = vm.external_page_count;
    figures.compressor = vm.compressor_page_count;
  }
  mach_port_deallocate(mach_task_self(), host);
  return figures;
}

#endif

}  // namespace axon
