#include "generate/generate.h"

#include <algorithm>

#include "memory/no_allocation.h"
#include "tokenizer/stream_decoder.h"

namespace axon {

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "?";
}

StopMatcher::StopMatcher(std::vector<std::string> stops, std::size_t piece_max) : stops_(std::move(stops)) {
  std::erase(stops_, std::string());
  std::size_t longest = 0;
  for (const std::string& stop : stops_) longest = std::max(longest, stop.size());
  held_.reserve(longest + piece_max + 1);
}

std::string_view StopMatcher::push(std::string_view piece) {
  held_.erase(0, given_);
  given_ = 0;
  if (stopped_) return {};
  held_.append(piece);
  // The one that is complete first, so that it does not matter how the text was cut; of several, the longest.
  std::size_t found = std::string::npos, found_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const std::size_t end = at + stop.size();
    if (end < found_end || (end == found_end && at < found)) found = at, found_end = end;
  }
  if (found != std::string::npos) {
    stopped_ = true;
    given_ = found;
    return std::string_view(held_).substr(0, found);
  }
  std::size_t keep = 0;  // the longest end of held_ that begins a stop text
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(held_.size(), stop.size() - 1); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  given_ = held_.size() - keep;
  return std::string_view(held_).substr(0, given_);
}

std::string_view StopMatcher::flush() {
  held_.erase(0, given_);
  given_ = stopped_ ? 0 : held_.size();
  return std::string_view(held_).substr(0, given_);
}

GenerateResult generate(Session& session, Sampler& sampler, const Tokenizer& tokenizer, const GenerateOptions& options,
                        const OnText& on_text, const std::atomic<bool>& cancel) {
  using Clock = std::chrono::steady_clock;
  GenerateResult result;
  result.ids.reserve(options.max_tokens);
  StreamDecoder decoder(tokenizer, !options.show_special);
  // A piece: what waited and a whole token, each byte at worst a three-byte U+FFFD.
  StopMatcher matcher(options.stop, 3 * (tokenizer.longest_token() + 8));
  const std::size_t drawable = std::min<std::size_t>(tokenizer.vocab_size(), session.model().config().vocab_size);
  std::size_t shown = 0;
  const auto show = [&](std::string_view text) {
    shown += text.size();
    if (!text.empty()) on_text(text);
  };

  const Clock::time_point start = Clock::now();
  Clock::time_point first = start;
  while (result.ids.size() < options.max_tokens) {
    if (cancel.load(std::memory_order_relaxed)) {
      result.reason = FinishReason::kCancelled;
      break;
    }
    std::string_view piece;
    {
      const NoAllocation sealed;
      if (!result.ids.empty()) {
        session.step(result.ids.back());
        ++result.steps;
      }
      const TokenId id = sampler.sample(session.logits().first(drawable));
      if (result.ids.empty()) first = Clock::now();
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end()) {
        result.reason = FinishReason::kStop;
        break;
      }
      result.ids.push_back(id);
      sampler.note({&id, 1});
      piece = matcher.push(decoder.push(id));
    }
    show(piece);
    if (matcher.stopped()) {
      result.reason = FinishReason::kStop;
      break;
    }
  }
  // Read are all but the last one, and that one too when a stop token was drawn after it.
  result.last_unread = !result.ids.empty() && result.steps < result.ids.size();
  result.first_token = first - start;
  result.decode = Clock::now() - first;
  show(matcher.push(decoder.flush()));
  show(matcher.flush());
  result.text = tokenizer.decode(result.ids, !options.show_special);
  AXON_CHECK(shown <= result.text.size());
  result.text.resize(shown);
  return result;
}

}  // namespace axon
