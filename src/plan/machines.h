#pragma once
// Machines to plan for without having them: what each has, what its system and programs keep, and who says so.

#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace axon {

// Memory that a run does not get.
struct Reserve {
  std::string_view what;
  Bytes bytes;
  std::string_view source;  // a document, or "assumption: ..." where there is none
  bool gpu_only = false;    // kept by a run on the GPU alone (framework, safety margin): this program runs on the CPU
};

struct MachineProfile {
  std::string_view name;   // as typed: "macbook-air-m4-16gb"
  std::string_view title;  // as printed
  Bytes ram;
  std::vector<Reserve> reserves;
  std::optional<double>
      gpu_share;  // of the memory, that the GPU may hold at once; none where CPU and GPU do not share it
  std::string_view gpu_share_source;  // empty without a share
  std::string_view source;            // of the RAM

  Bytes reserved() const;  // what a run on the CPU leaves alone
  Bytes budget() const;    // the rest
  // The same for a run on the GPU that shares the memory: every reserve, and no more than the share. None without a
  // share.
  std::optional<Bytes> gpu_budget() const;
};

// In the order of printing.
const std::vector<MachineProfile>& machine_profiles();
// Null when there is no machine of that name.
const MachineProfile* find_machine(std::string_view name);

}  // namespace axon
