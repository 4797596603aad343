#pragma once
// The interactive chat: history lives in the session's state, so a follow-up turn reads only what is new.

#include "cli/common.h"

namespace axon::cli {

// Until end of input or /exit. The exit status.
Result<int> chat(const RunOptions& options, Engine& engine, const RunPlan& plan, Interruption& interruption);

}  // namespace axon::cli
