#pragma once
// What this machine has and can spare, read from /proc and the control group.

#include <optional>
#include <string>

#include "base/bytes.h"

namespace axon {

struct SystemMemory {
  Bytes physical;                     // MemTotal
  Bytes available;                    // MemAvailable: free, and page cache that can be given up
  std::optional<Bytes> cgroup_limit;  // the tightest limit of this process's control group and its ancestors (v1, v2)
  std::optional<Bytes> cgroup_spare;  // what is left under that limit; page cache in the group counts as left

  // What a new process may take without pushing others out.
  Bytes spare() const;
  // "available memory" or "control group limit": which of the two decided.
  const char* spare_source() const;
};

// `root` is prepended to every path; tests give a folder of recorded files. Unreadable figures count as zero, so that
// nothing is promised which was not seen.
SystemMemory read_system_memory(const std::string& root = "");

// Largest resident set of this process so far (VmHWM), file pages included.
Bytes peak_resident();

// Processors this process may use: affinity, and the control group's quota rounded up.
std::size_t usable_processors();

}  // namespace axon
