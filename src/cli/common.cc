#include "cli/common.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/utf8.h"
#include "kernels/cpu/level.h"
#include "plan/kv_costs.h"
#include "plan/machines.h"
#include "plan/report_words.h"

namespace axon::cli {
namespace {

std::atomic<bool> interrupted{false}, sigterm_came{false}, patient{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

extern "C" void on_signal(int signal) {
  if (signal == SIGTERM) sigterm_came = true;
  if (interrupted.exchange(true) && !(patient && signal == SIGINT)) {
    // The second time: now. The default action also lets the shell see why.
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

std::string paint(std::string_view text, const char* code, bool terminal) {
  return terminal ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

}  // namespace

int exit_status(ErrorCode code) { return code == ErrorCode::kOverBudget ? kExitDoesNotFit : kExitError; }

int report(const Error& error) {
  // Names in it were typed or come from files; line breaks are ours.
  std::string message;
  for (std::size_t at = 0; at <= error.message.size();) {
    const std::size_t end = std::min(error.message.find('\n', at), error.message.size());
    message += printable(std::string_view(error.message).substr(at, end - at));
    if (end < error.message.size()) message += '\n';
    at = end + 1;
  }
  fmt::print(stderr, "{} {}\n", paint("error:", "1;31", stderr_is_terminal()), message);
  return exit_status(error.code);
}

Result<Bytes> parse_size(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  errno = 0;
  const double number = std::strtod(copy.c_str(), &end);
  std::string unit;
  for (const char* p = end; *p != '\0'; ++p) {
    if (*p != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*p)));
  }
  const bool numeric = end != copy.c_str() && std::isfinite(number) && number >= 0 &&
                       (copy[0] == '.' || (copy[0] >= '0' && copy[0] <= '9')) &&
                       copy.find_first_of("xX") == std::string::npos;
  double factor = 0;
  if (unit.empty() || unit == "b") factor = 1;
  if (unit == "k" || unit == "kib") factor = 0x1p10;
  if (unit == "m" || unit == "mib") factor = 0x1p20;
  if (unit == "g" || unit == "gib") factor = 0x1p30;
  if (unit == "t" || unit == "tib") factor = 0x1p40;
  if (unit == "kb") factor = 1e3;
  if (unit == "mb") factor = 1e6;
  if (unit == "gb") factor = 1e9;
  if (unit == "tb") factor = 1e12;
  if (!numeric || factor == 0 || number * factor >= 0x1p62) {
    return make_error(ErrorCode::kInvalidArgument,
                      "\"{}\" is no size: expected a number and a unit, such as 64MiB, 1.5GiB or 8GB", text);
  }
  return Bytes{static_cast<std::uint64_t>(number * factor)};
}

Result<std::uint64_t> parse_tokens(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  const std::uint64_t factor = unit.empty()                 ? 1
                               : unit == "k" || unit == "K" ? std::uint64_t{1} << 10
                               : unit == "m" || unit == "M" ? std::uint64_t{1} << 20
                                                            : 0;
  if (error != std::errc() || factor == 0 || number < 1 || number > (std::uint64_t{1} << 40) / factor) {
    return make_error(ErrorCode::kInvalidArgument,
                      "\"{}\" is no number of tokens: expected 1 to 2^40, such as 4096, 64k (65,536) or 1M (1,048,576)",
                      text);
  }
  return number * factor;
}

Result<std::uint64_t> parse_depth(std::string_view text) {
  if (text == "0") return std::uint64_t{0};
  Result<std::uint64_t> tokens = parse_tokens(text);
  if (tokens.ok()) return tokens;
  return make_error(ErrorCode::kInvalidArgument,
                    "\"{}\" is no depth: expected 0 to 2^40 tokens, such as 0, 4096 or 64k (65,536)", text);
}

Status check_machine(std::string_view name) {
  if (find_machine(name) != nullptr) return Ok{};
  std::string names;
  for (const MachineProfile& m : machine_profiles()) names += fmt::format("{}{}", names.empty() ? "" : ", ", m.name);
  return make_error(ErrorCode::kNotFound, "unknown machine \"{}\": there are {}", name, names);
}

Result<std::optional<std::uint64_t>> parse_window(std::string_view text) {
  if (text.empty()) return std::optional<std::uint64_t>();
  if (text == "all") return std::optional<std::uint64_t>(0);
  return std::optional<std::uint64_t>(AXON_TRY(parse_tokens(text)));
}

Result<std::optional<Bytes>> parse_budget(const std::string& text) {
  if (text.empty()) return std::optional<Bytes>{};
  return std::optional<Bytes>(AXON_TRY(parse_size(text)));
}

Interruption::Interruption(Insistence insistence) {
  interrupted = false;
  sigterm_came = false;
  patient = insistence == Insistence::kOnlyTermination;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}
Interruption::~Interruption() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}
const std::atomic<bool>& Interruption::flag() const { return interrupted; }
bool Interruption::terminated() const { return sigterm_came; }
void Interruption::clear() { interrupted = false; }

void ProgressLine::update(double fraction, std::string_view detail) {
  if (!stderr_is_terminal()) return;
  const Clock::time_point now = Clock::now();
  const std::chrono::duration<double> elapsed = now - start_;
  if (elapsed < std::chrono::seconds(1) || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  std::string eta;
  if (fraction > 0.02) eta = fmt::format(", {:.0f} s left", elapsed.count() / fraction * (1 - fraction));
  fmt::print(stderr, "\r\x1b[K{} {:.0f} %{}{}", what_, fraction * 100,
             detail.empty() ? "" : fmt::format(" ({})", detail), eta);
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (shown_) fmt::print(stderr, "\r\x1b[K");
  shown_ = false;
}

bool stderr_is_terminal() { return isatty(STDERR_FILENO) != 0; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) != 0; }
std::string bold(std::string_view text) { return paint(text, "1", stdout_is_terminal()); }
std::string dim(std::string_view text) { return paint(text, "2", stderr_is_terminal()); }

std::string default_model() {
  namespace fs = std::filesystem;
  if (const char* given = std::getenv("BIT_AXON_MODEL")) return given;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    // <prefix>/bin/bit-axon, or <source>/build/<preset>/bit-axon.
    for (const fs::path& candidate : {program.parent_path().parent_path() / "share/bit-axon/models/bit-axon-nano",
                                      program.parent_path().parent_path().parent_path() / "models/bit-axon-nano"}) {
      if (fs::exists(candidate / "config.json", error)) return candidate.string();
    }
  }
  return "models/bit-axon-nano";
}

std::size_t thread_count(std::size_t asked) { return asked != 0 ? asked : usable_processors(); }

Result<OpenedModel> open_weights(const ModelOptions& options) {
  const std::string& window = options.attention_window;
  OpenedModel opened;
  opened.files = AXON_TRY(open_model(options.model.empty() ? default_model() : options.model));
  if (const std::optional<std::uint64_t> tokens = AXON_TRY(parse_window(window))) {
    Config& config = opened.files.config;
    config.swa_window_size = *tokens == 0 ? config.max_seq_len : *tokens;
    AXON_TRY(check_config(config, fmt::format("{} with --attention-window {}", opened.files.folder, window)));
  }
  if (!options.adapter.empty()) {
    opened.adapter = std::make_unique<AdapterFiles>(
        AXON_TRY(AdapterFiles::open(options.adapter, opened.files.config, options.adapter_scale)));
  }
  return opened;
}

Result<OpenedModel> open_for_run(const ModelOptions& options, bool needs_tokenizer) {
  OpenedModel opened = AXON_TRY(open_weights(options));
  if (opened.files.tokenizer_path.empty()) {
    if (!needs_tokenizer) return opened;
    return make_error(ErrorCode::kNotFound, "{}: no tokenizer.json beside the weights", opened.files.folder);
  }
  opened.tokenizer_file = AXON_TRY(MappedFile::open(opened.files.tokenizer_path));
  opened.tokenizer = AXON_TRY(Tokenizer::measure(opened.tokenizer_file.text(), opened.files.tokenizer_path));
  const std::size_t ids = opened.tokenizer->vocab_size(), rows = opened.files.config.vocab_size;
  if (ids > rows) {
    return make_error(ErrorCode::kInvalidArgument, "{}: has {} ids, but the model's vocab_size is {}",
                      opened.files.tokenizer_path, ids, rows);
  }
  return opened;
}

Result<EngineOptions> engine_options(const ModelOptions& options, const OpenedModel& model) {
  const Config& config = model.files.config;
  EngineOptions out;
  out.adapter = model.adapter.get();
  out.weights = AXON_TRY(parse_weight_format(options.weights));
  out.threads = thread_count(options.threads);
  if (out.threads > 1024) return make_error(ErrorCode::kInvalidArgument, "--threads {} is more than 1024", out.threads);
  if (options.prefill_chunk < 1 || options.prefill_chunk > 65536) {
    return make_error(ErrorCode::kInvalidArgument, "--prefill-chunk must be from 1 to 65536, but is {}",
                      options.prefill_chunk);
  }
  if (options.context > config.max_seq_len) {
    return make_error(ErrorCode::kInvalidArgument, "--context {} is more than the model's max_seq_len {}",
                      options.context, config.max_seq_len);
  }
  out.session = {.context = options.context != 0 ? options.context : config.max_seq_len,
                 .prefill_chunk = options.prefill_chunk,
                 .arithmetic = options.exact ? Arithmetic::kExact : Arithmetic::kFast,
                 .logits_rows = 1};
  if (!options.kv.empty()) out.session.kv = AXON_TRY(parse_kv_type(options.kv));
  return out;
}

Status check_utf8(std::string_view what, std::string_view text) {
  const auto at = utf8::first_error(text);
  if (!at) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "{} is not valid UTF-8 at byte {}", what, *at);
}

Status check_length(std::string_view prompt, Engine& engine) {
  const std::size_t context = engine.session().options().context;
  const std::size_t tokens = prompt.size() / std::max<std::size_t>(engine.tokenizer().longest_token(), 1);
  if (tokens <= context) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "the prompt has {} bytes, at least {} tokens, but the context is {}",
                    prompt.size(), tokens, context);
}

Result<RunPlan> plan_or_refuse(const OpenedModel& model, const EngineOptions& options, const std::string& budget,
                               std::string_view context_option) {
  const Budget limit = decide_budget(AXON_TRY(parse_budget(budget)), read_system_memory());
  RunPlan plan = AXON_TRY(plan_run(model.files, model.shape(), options, limit));
  if (plan.fits()) return plan;
  const std::vector<Suggestion> fitting = AXON_TRY(suggest(model.files, model.shape(), options, limit, context_option));
  return Error{ErrorCode::kOverBudget, refusal(plan, fitting, context_option)};
}

Result<std::unique_ptr<Engine>> load_engine(OpenedModel model, const RunPlan& plan, const EngineOptions& options,
                                            const Interruption& interruption) {
  ProgressLine line("loading");
  const auto progress = [&](std::size_t done, std::size_t total) {
    line.update(static_cast<double>(done) / static_cast<double>(total), fmt::format("tensor {} of {}", done, total));
    return !interruption.flag();
  };
  const MappedFile tokenizer = std::move(model.tokenizer_file);
  return Engine::create(std::move(model.files), model.shape(), tokenizer.text(), plan.engine, options,
                        plan.budget.limit, progress);
}

namespace {

Bytes peak_of(std::span<const Ledger* const> ledgers) {
  Bytes sum;
  for (const Ledger* ledger : ledgers) sum += ledger->peak();
  return sum;
}

Bytes peak_of(std::span<const Ledger* const> ledgers, std::string_view account) {
  Bytes sum;
  for (const Ledger* ledger : ledgers) sum += ledger->peak(account);
  return sum;
}

}  // namespace

Json memory_json(const RunPlan& plan, const Ledger& ledger) {
  const Ledger* const one = &ledger;
  return memory_json(plan, std::span(&one, 1));
}

Json memory_json(const RunPlan& plan, std::span<const Ledger* const> ledgers) {
  Json accounts = Json::array();
  for (const PlanLine& line : plan.engine.lines) {
    accounts.push_back({{"account", line.account},
                        {"planned_bytes", line.bytes.count},
                        {"peak_bytes", peak_of(ledgers, line.account).count}});
  }
  return {{"planned_bytes", plan.total.count},
          {"ledger_peak_bytes", peak_of(ledgers).count},
          {"resident_peak_bytes", peak_resident().count},
          {"budget_bytes", plan.budget.limit.count},
          {"budget_source", plan.budget.source},
          {"accounts", std::move(accounts)}};
}

std::string memory_table(const RunPlan& plan, const Ledger& ledger) {
  std::string out = fmt::format("{:<34} {:>12} {:>12}\n", "account", "planned", "measured");
  for (const PlanLine& line : plan.engine.lines) {
    out += fmt::format("{:<34} {:>12} {:>12}\n", line.account, to_string(line.bytes),
                       to_string(ledger.peak(line.account)));
  }
  return out + fmt::format("{:<34} {:>12} {:>12}\n", "total", to_string(plan.total), to_string(ledger.peak()));
}

std::string memory_line(const RunPlan& plan, const Ledger& ledger) {
  const Ledger* const one = &ledger;
  return memory_line(plan, std::span(&one, 1));
}

std::string memory_line(const RunPlan& plan, std::span<const Ledger* const> ledgers) {
  const Bytes peak = peak_of(ledgers);
  return fmt::format("memory: planned {}, ledger peak {} ({}); resident peak {}; budget {} ({})", to_string(plan.total),
                     to_string(peak), plan.total == peak ? "equal to the byte" : "NOT EQUAL",
                     to_string(peak_resident()), to_string(plan.budget.limit), plan.budget.source);
}

std::string smaller_kv_line(const Session& session, const RunPlan& plan) {
  const auto shapes = state_shapes(session.model().config(), session.options().context);
  const auto bytes_of = [&](const KvType& type) {
    Bytes out;
    SequenceState::plan(shapes, type, [&](std::string_view account, const Carver& carver) {
      if (account == account::kKvCache) out = carver.peak();
    });
    return out;
  };
  const KvType own = session.options().kv_type();
  const Bytes held = bytes_of(own);
  if (10 * held.count < plan.total.count) return "";
  std::string smaller;
  for (const std::string_view name : kv_ladder()) {
    SessionOptions options = session.options();
    options.kv = parse_kv_type(name).value();
    if (!Session::check(session.model().config(), options).ok() || bytes_of(*options.kv) >= held) continue;
    const KvCost* cost = find_kv_cost(name);
    smaller += fmt::format("{}{} saves {}{}", smaller.empty() ? "; --kv " : ", ", name,
                           to_string(held - bytes_of(*options.kv)),
                           cost == nullptr ? "" : fmt::format(" (perplexity {:+.2f} %)", cost->perplexity));
  }
  if (smaller.empty()) return "";
  return fmt::format("kv cache: {}, {}{}; bit-axon plan says more", to_string(held), own.name(), smaller);
}

}  // namespace axon::cli
