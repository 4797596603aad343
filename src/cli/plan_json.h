#pragma once
// The plan as a JSON object. docs/plan-json.md is its schema.

#include "cli/common.h"
#include "plan/report.h"

namespace axon::cli {

Json plan_json(const PlanReport& report);

}  // namespace axon::cli
