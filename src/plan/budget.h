#pragma once
// What a run may take, and who says so.

#include <optional>
#include <string>

#include "base/bytes.h"
#include "memory/system.h"

namespace axon {

struct Budget {
  Bytes limit;
  std::string source;  // "--memory-budget", "available memory", "control group limit", "mac-mini-16gb"
};
// The given size, or what the machine can spare now.
Budget decide_budget(std::optional<Bytes> given, const SystemMemory& system);

}  // namespace axon
