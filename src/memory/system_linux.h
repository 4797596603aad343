#pragma once
// Linux's figures on memory and processors, from the files of /proc and /sys below a root.

#include <cstddef>
#include <optional>
#include <string>

#include "memory/system.h"

namespace axon {

// Reads proc/meminfo, the memory limits of this process's control groups, and sys/kernel/mm. Numbers that are not
// numbers, or that do not fit 64 bits of bytes, count as not there; available is never more than physical.
SystemMemory read_linux_memory(const std::string& root);

// The tightest processor quota (v1: cpu.cfs_quota_us, v2: cpu.max) of this process's control group and its ancestors,
// in processors, rounded up; none without a quota.
std::optional<std::size_t> linux_processor_quota(const std::string& root);

// The first "model name" of proc/cpuinfo; empty where there is none, as on ARM.
std::string linux_processor_name(const std::string& root);

}  // namespace axon
