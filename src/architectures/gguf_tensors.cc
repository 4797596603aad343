#include "architectures/gguf_tensors.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <tuple>

namespace axon {
namespace {

bool has(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

// The segments of `name` between dots, those of digits as "*".
std::string without_numbers(std::string_view name) {
  std::string out;
  while (true) {
    const std::size_t dot = name.find('.');
    const std::string_view segment = name.substr(0, dot);
    const bool number = !segment.empty() && segment.find_first_not_of("0123456789") == std::string_view::npos;
    out += number ? std::string_view("*") : segment;
    if (dot == std::string_view::npos) return out;
    out += '.';
    name.remove_prefix(dot + 1);
  }
}

// N of "blk.N.", and what follows.
struct Place {
  std::uint64_t block = 0;
  std::string_view rest;
};
std::optional<Place> place_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  Place out;
  const char* end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, out.block);
  if (error != std::errc{} || at == end || *at != '.') return std::nullopt;
  out.rest = std::string_view(at + 1, static_cast<std::size_t>(end - at - 1));
  return out;
}

// All experts of a layer in one tensor.
bool holds_experts(std::string_view name) { return has(name, "_exps."); }

// An expert of its own, as the first Mixtral files had them: "blk.0.ffn_gate.7.weight".
bool is_one_expert(std::string_view pattern) {
  return pattern == "blk.*.ffn_gate.*.weight" || pattern == "blk.*.ffn_up.*.weight" ||
         pattern == "blk.*.ffn_down.*.weight";
}

// Convolution taps, decays and mixing factors are shaped like matrices, but no weight format is for them: llama.cpp's
// quantizer leaves them alone too.
bool is_matrix(std::string_view name, const TensorGroup& group) {
  if (!name.ends_with(".weight") || group.rows <= 1 || group.cols <= 1 || group.part == Part::kNorm) return false;
  return !has(name, "conv1d") && !has(name, "shortconv.conv") && !has(name, "time_mix_first") &&
         !has(name, "time_mix_lerp") && !has(name, "rope_");
}

TensorGroup group_of(const GgufTensor& tensor, const GgufExperts& experts) {
  TensorGroup group;
  group.name = without_numbers(tensor.name);
  group.part = gguf_part(tensor.name);
  group.cols = tensor.dims[0];
  if (holds_experts(tensor.name)) {
    const bool vectors = !tensor.name.ends_with(".weight");  // biases: one row an expert
    group.rows = vectors ? 1 : tensor.dims[1];
    group.count = vectors ? tensor.dims[1] : tensor.dims[2] * tensor.dims[3];
  } else {
    group.rows = tensor.dims[1] * tensor.dims[2] * tensor.dims[3];
  }
  if (holds_experts(tensor.name) || is_one_expert(group.name)) {
    group.part = Part::kExperts;
    group.active = experts.used;
    group.of = experts.count;
  }
  group.matrix = is_matrix(tensor.name, group);
  return group;
}

Status check_experts(const GgufTensor& tensor, const TensorGroup& group, const GgufExperts& experts,
                     std::string_view what) {
  if (group.part != Part::kExperts) return Ok{};
  if (experts.count == 0) {
    return make_error(ErrorCode::kInvalidArgument, "{}: tensor {} is of experts, but expert_count is missing", what,
                      tensor.name.substr(0, 100));
  }
  // Scales ("ffn_up_exps.scale") and biases that all experts share are one.
  if (!holds_experts(tensor.name) || group.count == experts.count || !tensor.name.ends_with(".weight")) return Ok{};
  return make_error(ErrorCode::kInvalidArgument, "{}: tensor {} holds {} experts, but expert_count is {}", what,
                    tensor.name.substr(0, 100), group.count, experts.count);
}

}  // namespace

Part gguf_part(std::string_view name) {
  if (has(name, "ffn_gate_inp_shexp") || has(name, "_shexp.")) return Part::kSharedExpert;
  if (holds_experts(name)) return Part::kExperts;
  if (has(name, "ffn_gate_inp") || has(name, "exp_probs_b")) return Part::kRouter;
  if (has(name, "norm") || has(name, "time_mix_ln")) return Part::kNorm;
  if (has(name, "token_embd") || has(name, "position_embd") || has(name, "token_types")) return Part::kEmbedding;
  if (name.starts_with("output.")) return Part::kHead;
  if (has(name, "ssm_") || has(name, "time_mix_") || has(name, "shortconv")) return Part::kRecurrent;
  if (has(name, "attn_") || name.starts_with("rope_") || has(name, ".rope_")) return Part::kAttention;
  return Part::kFeedForward;
}

Result<std::vector<TensorGroup>> gguf_groups(const Gguf& file, const GgufExperts& experts, std::string_view what) {
  using Key = std::tuple<std::string, std::uint64_t, std::uint64_t>;
  std::map<Key, std::size_t> known;
  std::vector<TensorGroup> out;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.elements() == 0) continue;
    TensorGroup group = group_of(tensor, experts);
    AXON_TRY(check_experts(tensor, group, experts, what));
    const auto [at, added] = known.try_emplace(Key(group.name, group.rows, group.cols), out.size());
    if (added) {
      out.push_back(std::move(group));
    } else {
      out[at->second].count += group.count;  // all lie in files: the sum is far below 2^64
    }
  }
  return out;
}

std::uint64_t gguf_blocks(const Gguf& file) {
  std::uint64_t blocks = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto place = place_of(tensor.name);
    if (place && place->block < ~std::uint64_t{0}) blocks = std::max(blocks, place->block + 1);
  }
  return blocks;
}

std::uint64_t gguf_feed_forward_width(const Gguf& file, const GgufExperts& experts) {
  std::map<std::string_view, std::uint64_t> rows;  // the most of each kind
  for (const GgufTensor& tensor : file.tensors()) {
    const auto place = place_of(tensor.name);
    if (!place || tensor.elements() == 0) continue;
    // "ffn_up.3.weight" is an expert too.
    const bool one = is_one_expert(without_numbers(tensor.name));
    const std::string_view kind = !one                       ? place->rest
                                  : has(place->rest, "gate") ? "ffn_gate_exps.weight"
                                  : has(place->rest, "up")   ? "ffn_up_exps.weight"
                                                             : "";
    std::uint64_t& most = rows[kind];
    most = std::max(most, tensor.dims[1]);
  }
  const auto of = [&](std::string_view kind) {
    const auto found = rows.find(kind);
    return found == rows.end() ? 0 : found->second;
  };
  const std::uint64_t dense = of("ffn_gate.weight") + of("ffn_up.weight");
  const std::uint64_t each = of("ffn_gate_exps.weight") + of("ffn_up_exps.weight") + of("ffn_gate_up_exps.weight");
  const std::uint64_t shared = of("ffn_gate_shexp.weight") + of("ffn_up_shexp.weight");
  const std::uint64_t sparse = each == 0 ? 0 : experts.used * each + shared + experts.count;
  const std::uint64_t key = of("channel_mix_key.weight");  // RWKV: the receptance stands beside it
  return std::max({dense, sparse, key == 0 ? 0 : key + of("channel_mix_receptance.weight")});
}

}  // namespace axon
