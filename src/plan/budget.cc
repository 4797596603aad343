#include "plan/budget.h"

namespace axon {

Budget decide_budget(std::optional<Bytes> given, const SystemMemory& system) {
  if (given) return {*given, "--memory-budget"};
  return {system.spare(), system.spare_source()};
}

}  // namespace axon
