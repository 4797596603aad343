#include "cli/state_file.h"

#include <algorithm>
#include <filesystem>

#include "base/random.h"
#include "model/fingerprint.h"
#include "plan/report_words.h"

namespace axon::cli {
namespace {

constexpr std::string_view kSystem = "system";

// Enough to tell one message from another.
std::string digest(std::string_view system) {
  return system.empty() ? std::string() : fmt::format("{:016x}", hash64(system));
}

// The form of the weights, and what is added to them.
std::string held_as(const RunOptions& options, const OpenedModel& model) {
  if (model.adapter == nullptr) return options.weights;
  return fmt::format("{} and adapter {:016x}", options.weights, model.adapter->digest());
}

std::string describe(const OpenedModel& model, const EngineOptions& engine, std::string_view weights) {
  const std::filesystem::path folder = std::filesystem::path(model.files.folder + "/").lexically_normal();
  std::string out =
      fmt::format("{}, --weights {} --kv {} --context {} --attention-window {}",
                  printable(folder.parent_path().filename().string()), weights, engine.session.kv_type().name(),
                  engine.session.context, model.files.config.swa_window_size);
  if (model.adapter != nullptr) out += fmt::format(" --adapter {}", printable(model.adapter->path()));
  return out;
}

}  // namespace

Result<StateFile> StateFile::open(const RunOptions& options, const OpenedModel& model, const EngineOptions& engine) {
  StateFile out;
  if (options.state.empty()) return out;
  out.path_ = options.state;
  AXON_TRY(AtomicFile::create(out.path_, Existing::kReplace));  // removed at once: a try
  const Config& config = model.files.config;
  out.model_ = fingerprint(config, model.files.tensors, held_as(options, model));
  out.made_with_ = describe(model, engine, options.weights);
  out.system_ = digest(options.raw ? "" : options.system);
  std::error_code ignored;
  if (!std::filesystem::exists(out.path_, ignored)) return out;
  SavedState saved = AXON_TRY(SavedState::open(out.path_));
  const std::vector<LayerStateShape> shapes = state_shapes(config, engine.session.context);
  AXON_TRY(saved.check({.shapes = shapes,
                        .kv = engine.session.kv_type(),
                        .model = out.model_,
                        .context = engine.session.context,
                        .vocab_size = config.vocab_size}));
  out.restored_ = out.remembered_ = static_cast<std::size_t>(saved.position()) + saved.unread().size();
  const std::string* system = saved.value(kSystem);
  const std::string began_with = system == nullptr ? std::string() : *system;
  if (out.goes_on() && !out.system_.empty() && out.system_ != began_with) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "--system begins a conversation, but the one in {} has begun {}: leave it out, or use another file", out.path_,
        began_with.empty() ? "without one" : "with another");
  }
  if (out.goes_on()) out.system_ = began_with;
  out.saved_.emplace(std::move(saved));
  return out;
}

Result<std::vector<TokenId>> StateFile::restore(Engine& engine) {
  if (!saved_) return std::vector<TokenId>();
  AXON_TRY(engine.session().restore(*saved_, model_));
  const std::vector<std::uint64_t> seen = saved_->seen();
  const std::span<std::uint64_t> noted = engine.sampler().noted();
  std::copy_n(seen.begin(), std::min(seen.size(), noted.size()), noted.begin());
  std::vector<TokenId> unread = saved_->unread();
  saved_.reset();
  return unread;
}

void StateFile::begin(std::string_view system) { system_ = digest(system); }

Status StateFile::save(Engine& engine, std::span<const TokenId> unread) {
  if (!asked()) return Ok{};
  StateNotes notes{.model = model_,
                   .made_with = made_with_,
                   .values = {{std::string(kSystem), system_}},
                   .unread = unread,
                   .seen = engine.sampler().noted()};
  AXON_TRY(engine.session().save(path_, notes));
  remembered_ = engine.session().position() + unread.size();
  written_ = true;
  return Ok{};
}

std::string StateFile::line(std::size_t tokens) const {
  return fmt::format("state: {}, {} token{} remembered", printable(path_), tokens, tokens == 1 ? "" : "s");
}

Json StateFile::json() const {
  return {{"file", path_}, {"restored_tokens", restored_}, {"tokens", remembered_}, {"saved", written_}};
}

}  // namespace axon::cli
