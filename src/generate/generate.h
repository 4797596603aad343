#pragma once
// The token loop: sample, show, step, until something ends the answer.

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/sampler.h"
#include "generate/session.h"
#include "tokenizer/tokenizer.h"

namespace axon {

struct GenerateOptions {
  std::size_t max_tokens = 512;
  std::vector<std::string> stop;  // texts that end the answer and are not part of it
  std::vector<TokenId> stop_ids;  // tokens that do
  bool show_special = false;      // special tokens appear as text
};

enum class FinishReason { kStop, kLength, kCancelled };
std::string_view name_of(FinishReason reason);  // "stop", "length", "cancelled"

struct GenerateResult {
  std::vector<TokenId> ids;  // sampled, without the one that ended the answer
  std::string text;          // without the stop text
  FinishReason reason = FinishReason::kLength;
  bool last_unread = false;                     // the last of `ids` was sampled but not read by the session
  std::chrono::duration<double> first_token{};  // from the call to the first sample
  std::chrono::duration<double> decode{};       // all steps after the first sample
  std::size_t steps = 0;                        // tokens read by step()
};

// Text that may be shown; whole characters, and never a piece of a stop text.
using OnText = std::function<void(std::string_view)>;

// Continues a session that has read its prompt. Ids beyond the tokenizer's are never drawn. Between the first sample
// and the end, the loop allocates nothing but what `on_text` does itself.
GenerateResult generate(Session& session, Sampler& sampler, const Tokenizer& tokenizer, const GenerateOptions& options,
                        const OnText& on_text, const std::atomic<bool>& cancel);

// Holds back what could be the beginning of a stop text. Allocates when made, never afterwards.
class StopMatcher {
 public:
  // `piece_max`: the longest text that push() will get.
  StopMatcher(std::vector<std::string> stops, std::size_t piece_max);
  // Text that is certain to be shown now; valid until the next call. Nothing more comes once stopped() is true.
  std::string_view push(std::string_view piece);
  std::string_view flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::size_t given_ = 0;  // bytes at the front of held_ that were handed out by the last call
  bool stopped_ = false;
};

}  // namespace axon
