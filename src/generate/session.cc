#include "generate/session.h"

#include <algorithm>

namespace axon {
namespace {

std::size_t tokens_max(const SessionOptions& o) { return std::min(o.prefill_chunk, o.context); }

}  // namespace

void Session::plan(const Config& config, const SessionOptions& options,
                   const std::function<void(std::string_view, const Carver&)>& visit) {
  const auto shapes = state_shapes(config, options.context);
  SequenceState::plan(shapes, options.kv_type(), visit);
  Carver workspace, logits;
  ModelWorkspace(workspace, tokens_max(options), config, options.adapters);
  logits.mat<float>(options.logits_rows, config.vocab_size);
  visit(account::kWorkspace, workspace);
  visit(account::kLogits, logits);
}

Status Session::check(const Config& config, const SessionOptions& options) {
  for (const LayerStateShape& shape : state_shapes(config, options.context)) {
    if (shape.attention) AXON_TRY(check_kv_type(options.kv_type(), shape.head_dim));
  }
  return Ok{};
}

Result<Session> Session::create(const Model& model, Device& device, Ledger& ledger, const SessionOptions& options) {
  Session session;
  session.model_ = &model;
  session.device_ = &device;
  session.options_ = options;
  const Config& config = model.config();
  AXON_TRY(check(config, options));
  session.state_ = AXON_TRY(SequenceState::create(ledger, state_shapes(config, options.context), options.kv_type()));
  Bytes workspace_size, logits_size;
  plan(config, options, [&](std::string_view account, const Carver& carver) {
    if (account == account::kWorkspace) workspace_size = carver.peak();
    if (account == account::kLogits) logits_size = carver.peak();
  });
  session.workspace_arena_ = AXON_TRY(Arena::create(ledger, account::kWorkspace, workspace_size));
  session.logits_arena_ = AXON_TRY(Arena::create(ledger, account::kLogits, logits_size));
  Carver workspace = session.workspace_arena_.carver(), logits = session.logits_arena_.carver();
  session.workspace_ = ModelWorkspace(workspace, tokens_max(options), config, options.adapters);
  session.logits_ = logits.mat<float>(options.logits_rows, config.vocab_size);
  return session;
}

void Session::forward(std::span<const std::uint32_t> ids) {
  model_->forward(*device_, ids, state_, workspace_);
  last_ = ids.size();
}

Status Session::prefill(std::span<const std::uint32_t> ids, const Progress& progress, std::size_t* read) {
  if (read != nullptr) *read = 0;
  if (ids.size() > room()) {
    return make_error(ErrorCode::kInvalidArgument, "{} tokens do not fit: {} of the context of {} are taken",
                      ids.size(), position(), options_.context);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= model_->config().vocab_size) {
      return make_error(ErrorCode::kInvalidArgument, "token {} is {}, but the vocabulary has {}", i, ids[i],
                        model_->config().vocab_size);
    }
  }
  for (std::size_t first = 0; first < ids.size(); first += tokens_max(options_)) {
    const std::size_t count = std::min(tokens_max(options_), ids.size() - first);
    forward(ids.subspan(first, count));
    if (read != nullptr) *read = first + count;
    if (progress && !progress(first + count, ids.size()) && first + count < ids.size()) {
      return Error{ErrorCode::kCancelled, "interrupted while reading the prompt"};
    }
  }
  return Ok{};
}

void Session::step(std::uint32_t id) { forward({&id, 1}); }

Status Session::restore(const SavedState& saved, std::string_view model) {
  last_ = 0;
  const StateTarget target{
      .shapes = {}, .kv = {}, .model = model, .context = options_.context, .vocab_size = model_->config().vocab_size};
  return saved.restore(target, state_);
}

std::span<float> Session::logits() {
  AXON_CHECK(last_ >= 1);  // nothing was read since the session was made or restored
  return logits_of(last_ - 1, 1).row(0);
}

Mat<float> Session::logits_of(std::size_t first, std::size_t rows) {
  AXON_CHECK(rows >= 1 && rows <= logits_.rows && first + rows <= last_);
  const Mat<float> out = logits_.rows_from(0, rows);
  model_->head(*device_, workspace_, first, out);
  return out;
}

}  // namespace axon
