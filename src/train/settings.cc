#include "train/settings.h"

namespace axon::train {
namespace {

template <class T>
Status in_range(std::string_view name, T value, T least, T most) {
  if (value >= least && value <= most) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "{} must be from {} to {}, but is {}", name, least, most, value);
}

std::string joined(std::span<const std::string> words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ",") + word;
  return out;
}

}  // namespace

Status check_settings(const TrainSettings& s) {
  AXON_TRY(in_range<std::uint64_t>("rank", s.rank, 1, 4096));
  AXON_TRY(in_range("scale", s.scale, 1e-6, 1e6));
  AXON_TRY(in_range("dropout", s.dropout, 0.0, 0.99));
  AXON_TRY(in_range<std::uint64_t>("batch-size", s.batch_size, 1, 1u << 20));
  AXON_TRY(in_range<std::uint64_t>("grad-accum", s.grad_accum, 1, 1u << 20));
  AXON_TRY(in_range<std::uint64_t>("max-seq-len", s.max_seq_len, 2, 1u << 24));
  AXON_TRY(in_range<std::uint64_t>("max-steps", s.max_steps, 0, std::uint64_t{1} << 40));
  AXON_TRY(in_range("epochs", s.epochs, 1e-6, 1e6));
  AXON_TRY(in_range("learning-rate", s.learning_rate, 1e-12, 10.0));
  AXON_TRY(in_range("min-learning-rate", s.learning_rate_floor, 0.0, s.learning_rate));
  AXON_TRY(in_range("weight-decay", s.weight_decay, 0.0, 1.0));
  AXON_TRY(in_range("max-grad-norm", s.max_grad_norm, 1e-9, 1e9));
  AXON_TRY(in_range("orpo-lambda", s.orpo_lambda, 0.0, 1e3));
  AXON_TRY(in_range<std::uint64_t>("chunk", s.chunk, 16, 65536));
  AXON_TRY(in_range<std::uint64_t>("save-every", s.save_every, 1, std::uint64_t{1} << 40));
  AXON_TRY(in_range<std::uint64_t>("keep", s.keep, 1, 1000));
  if (s.compat && s.pack) {
    return make_error(ErrorCode::kInvalidArgument, "pack: compat packs as the original does, and has no other way");
  }
  if (s.compat && s.decay != Decay::kCosine) {
    return make_error(ErrorCode::kInvalidArgument, "schedule: compat has cosine alone, not {}", name_of(s.decay));
  }
  return Ok{};
}

std::vector<std::pair<std::string, std::string>> fixed_settings(const TrainSettings& s) {
  return {{"method", s.objective == Objective::kSupervised ? "sft" : "orpo"},
          {"adapter", s.adapter == AdapterKind::kLora ? "lora" : "dora"},
          {"rank", fmt::format("{}", s.rank)},
          {"scale", fmt::format("{}", s.scale)},
          {"dropout", fmt::format("{}", s.dropout)},
          {"targets", joined(s.wanted_targets())},
          {"batch-size", fmt::format("{}", s.batch_size)},
          {"grad-accum", fmt::format("{}", s.grad_accum)},
          {"max-seq-len", fmt::format("{}", s.max_seq_len)},
          {"pack", s.pack ? "yes" : "no"},
          {"mask-prompt", s.mask_prompt ? "yes" : "no"},
          {"raw-completions", s.raw_completions ? "yes" : "no"},
          {"seed", fmt::format("{}", s.seed)},
          {"max-steps", fmt::format("{}", s.max_steps)},
          {"epochs", s.max_steps != 0 ? "-" : fmt::format("{}", s.epochs)},
          {"learning-rate", fmt::format("{}", s.learning_rate)},
          {"min-learning-rate", fmt::format("{}", s.learning_rate_floor)},
          {"warmup", fmt::format("{}", s.warmup)},
          {"schedule", std::string(name_of(s.decay))},
          {"weight-decay", fmt::format("{}", s.weight_decay)},
          {"max-grad-norm", fmt::format("{}", s.max_grad_norm)},
          {"orpo-lambda", s.objective == Objective::kSupervised ? "-" : fmt::format("{}", s.orpo_lambda)},
          {"compat", s.compat ? "yes" : "no"},
          {"exact", s.exact ? "yes" : "no"},
          {"chunk", fmt::format("{}", s.chunk)}};
}

std::vector<std::pair<std::string, std::string>> all_settings(const TrainSettings& s) {
  auto list = fixed_settings(s);
  list.emplace_back("eval-every", s.eval_every == 0 ? "at the end" : fmt::format("{} steps", s.eval_every));
  list.emplace_back("eval-batches", s.eval_batches == 0 ? "all" : fmt::format("{}", s.eval_batches));
  list.emplace_back("save-every", fmt::format("{} steps", s.save_every));
  list.emplace_back("keep", fmt::format("{}", s.keep));
  return list;
}

}  // namespace axon::train
