#pragma once
// The interactive chat: history lives in the session's state, so a follow-up turn reads only what is new.

#include <string_view>

#include "cli/state_file.h"

namespace axon::cli {

// The rest of the template after an answer.
inline constexpr std::string_view kTurnEnd = "<|im_end|>\n";

// Until end of input or /exit. The exit status. Goes on with the conversation of `state`, and leaves it there.
Result<int> chat(const RunOptions& options, Engine& engine, const RunPlan& plan, Interruption& interruption,
                 StateFile& state);

}  // namespace axon::cli
