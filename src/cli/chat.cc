#include "cli/chat.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "generate/generate.h"
#include "tokenizer/chat_template.h"

namespace axon::cli {
namespace {

// Lines of standard input. An interruption ends the wait.
class LineReader {
 public:
  explicit LineReader(const std::atomic<bool>& interrupted) : interrupted_(interrupted) {}
  enum class Outcome { kLine, kEnd, kInterrupted };
  Outcome read(std::string& line) {
    for (;;) {
      const std::size_t newline = buffer_.find('\n');
      if (newline != std::string::npos) {
        line = buffer_.substr(0, newline);
        buffer_.erase(0, newline + 1);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        return Outcome::kLine;
      }
      // The signal may come between the look and the wait, or to another thread: so the wait is never long.
      pollfd wait{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      while (!interrupted_ && poll(&wait, 1, 100) == 0) {
      }
      if (interrupted_) return Outcome::kInterrupted;
      char chunk[4096];
      const ssize_t n = ::read(STDIN_FILENO, chunk, sizeof chunk);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        if (buffer_.empty()) return Outcome::kEnd;
        buffer_ += '\n';
        continue;
      }
      buffer_.append(chunk, static_cast<std::size_t>(n));
      if (buffer_.size() > kMaxPiped) buffer_ += '\n';
    }
  }

 private:
  const std::atomic<bool>& interrupted_;
  std::string buffer_;
};

class Chat {
 public:
  Chat(const RunOptions& options, Engine& engine, const RunPlan& plan, Interruption& interruption, StateFile& state)
      : options_(options),
        engine_(engine),
        plan_(plan),
        interruption_(interruption),
        state_(state),
        interactive_(isatty(STDIN_FILENO) != 0),
        reader_(interruption.flag()) {}

  // Talks, and saves what has changed.
  Result<int> run() {
    waiting_ = AXON_TRY(state_.restore(engine_));
    started_ = state_.goes_on();
    if (started_) fmt::print(stderr, "{}\n", dim(state_.line()));
    const int status = talk();
    if (!changed_ || !state_.asked()) return status;
    AXON_TRY(state_.save(engine_, waiting_));
    fmt::print(stderr, "{}\n", dim(state_.line()));
    return status;
  }

 private:
  int talk() {
    if (interactive_) {
      fmt::print(
          stderr, "{}\n",
          dim("/reset forgets the conversation, /stats shows time and memory, /exit leaves; Ctrl-C stops an answer"));
    }
    std::string line = options_.prompt;
    bool have = options_.prompt_given;
    for (;;) {
      if (!have) {
        if (interactive_) {
          fmt::print("{}", bold("You: "));
          std::fflush(stdout);
        }
        const LineReader::Outcome outcome = reader_.read(line);
        if (outcome != LineReader::Outcome::kLine) {
          if (interactive_) fmt::print("\n");
          if (interruption_.terminated()) return kExitError;
          if (outcome == LineReader::Outcome::kEnd) return kExitOk;
          interruption_.clear();
          fmt::print(stderr, "{}\n", dim("/exit or Ctrl-D leaves"));
          continue;
        }
      }
      have = false;
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (line == "/exit" || line == "/quit" || line == "exit" || line == "quit") return kExitOk;
      if (line == "/reset") {
        reset();
      } else if (line == "/stats") {
        stats();
      } else if (line.front() == '/') {
        fmt::print(stderr, "unknown command {}: there are /reset, /stats and /exit\n", line);
      } else if (const Status status = turn(line); !status.ok()) {
        fmt::print(stderr, "error: {}\n", status.error().message);
      }
      if (interruption_.terminated()) return kExitError;
    }
  }

  void reset() {
    engine_.session().reset();
    std::ranges::fill(engine_.sampler().noted(), 0);
    changed_ = true;
    waiting_.clear();
    started_ = false;
    turns_ = 0;
    fmt::print(stderr, "{}\n", dim("the conversation is forgotten"));
  }

  void stats() {
    fmt::print(stderr,
               "{} turn{}, {} of {} tokens of context; last turn: {} new prompt tokens at {:.1f} tokens/s, {} "
               "generated at {:.1f} tokens/s\n{}\n",
               turns_, turns_ == 1 ? "" : "s", engine_.session().position(), engine_.session().options().context,
               last_prompt_, last_prefill_rate_, last_answer_, last_decode_rate_, memory_line(plan_, engine_.ledger()));
    if (state_.asked()) {
      fmt::print(stderr, "{}\n", state_.line(engine_.session().position() + waiting_.size()));
    }
  }

  Status turn(const std::string& text) {
    Session& session = engine_.session();
    AXON_TRY(check_utf8("the prompt", text));
    AXON_TRY(check_length(text, engine_));
    const std::size_t carried = waiting_.size();
    std::vector<Message> messages;
    if (!started_ && !options_.system.empty()) messages.push_back({"system", options_.system});
    messages.push_back({"user", text});
    AXON_TRY(encode_chat(engine_.tokenizer(), messages, /*add_generation_prompt=*/true, waiting_));
    if (waiting_.size() + options_.max_tokens + kEndOfTurn > session.room()) {
      const std::size_t needed = waiting_.size() + options_.max_tokens + kEndOfTurn;
      waiting_.resize(carried);
      return make_error(ErrorCode::kInvalidArgument,
                        "this turn may need {} tokens, but only {} of the context of {} are left: /reset starts anew",
                        needed, session.room(), session.options().context);
    }
    if (!started_) state_.begin(options_.system);
    started_ = changed_ = true;
    interruption_.clear();
    const auto start = std::chrono::steady_clock::now();
    std::size_t read = 0;
    const Status prefilled = session.prefill(
        waiting_, [&](std::size_t, std::size_t) { return !interruption_.flag(); }, &read);
    engine_.sampler().note(std::span<const TokenId>(waiting_).first(read));
    last_prompt_ = read;
    // What an interruption left unread is read with the next turn: the conversation stays whole.
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(read));
    if (!prefilled.ok()) {
      AXON_TRY(end_turn());
      return prefilled.error();
    }
    const std::chrono::duration<double> prefill = std::chrono::steady_clock::now() - start;
    if (interactive_) fmt::print("{}", bold("Assistant: "));
    const GenerateResult result = generate(
        session, engine_.sampler(), engine_.tokenizer(),
        {.max_tokens = options_.max_tokens, .stop = options_.stop, .stop_ids = engine_.tokenizer().stop_ids()},
        [](std::string_view piece) {
          std::fwrite(piece.data(), 1, piece.size(), stdout);
          std::fflush(stdout);
        },
        interruption_.flag());
    interruption_.clear();
    fmt::print("\n");
    std::fflush(stdout);
    if (result.last_unread) waiting_.push_back(result.ids.back());
    AXON_TRY(end_turn());
    ++turns_;
    last_answer_ = result.ids.size();
    last_prefill_rate_ = static_cast<double>(last_prompt_) / (prefill.count() + result.first_token.count());
    last_decode_rate_ = result.decode.count() > 0 ? static_cast<double>(result.steps) / result.decode.count() : 0;
    return Ok{};
  }

  Status end_turn() { return engine_.tokenizer().encode(kTurnEnd, waiting_); }

  static constexpr std::size_t kEndOfTurn = 2;
  const RunOptions& options_;
  Engine& engine_;
  const RunPlan& plan_;
  Interruption& interruption_;
  StateFile& state_;
  const bool interactive_;
  LineReader reader_;
  std::vector<TokenId> waiting_;  // belongs to the conversation, not yet read by the session
  bool started_ = false, changed_ = false;
  std::size_t turns_ = 0, last_prompt_ = 0, last_answer_ = 0;
  double last_prefill_rate_ = 0, last_decode_rate_ = 0;
};

}  // namespace

Result<int> chat(const RunOptions& options, Engine& engine, const RunPlan& plan, Interruption& interruption,
                 StateFile& state) {
  return Chat(options, engine, plan, interruption, state).run();
}

}  // namespace axon::cli
