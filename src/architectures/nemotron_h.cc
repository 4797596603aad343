// Nemotron-H and Nemotron 3: each layer is one thing, a Mamba-2 mixer, attention, a feed forward or experts, after one
// norm. Shapes as in the modeling_nemotron_h.py that the checkpoints bring. The extra layers that predict further
// tokens (num_nextn_predict_layers) are not loaded by that code, and not counted.

#include <algorithm>

#include "architectures/recurrent_parts.h"

namespace axon {
namespace {

enum class Block { kMamba, kAttention, kFeedForward, kExperts };

struct BlockName {
  char letter;
  std::string_view name;
  Block block;
};
constexpr BlockName kBlocks[] = {{'M', "mamba", Block::kMamba},
                                 {'*', "attention", Block::kAttention},
                                 {'-', "mlp", Block::kFeedForward},
                                 {'E', "moe", Block::kExperts}};

// hybrid_override_pattern, a letter a layer, or layers_block_type, a word a layer.
Result<std::vector<Block>> read_blocks(const Fields& fields, std::uint64_t layers) {
  const std::string pattern = AXON_TRY(fields.text_or("hybrid_override_pattern", ""));
  const std::vector<std::string> words = AXON_TRY(fields.texts("layers_block_type"));
  const std::string_view key = pattern.empty() ? "layers_block_type" : "hybrid_override_pattern";
  const std::size_t entries = pattern.empty() ? words.size() : pattern.size();
  if (entries != layers) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {} must have num_hidden_layers ({}) entries, but has {}",
                      fields.what(), key, layers, entries);
  }
  std::vector<Block> out;
  for (std::size_t i = 0; i < entries; ++i) {
    const auto* known = std::find_if(std::begin(kBlocks), std::end(kBlocks), [&](const BlockName& block) {
      return pattern.empty() ? block.name == words[i] : block.letter == pattern[i];
    });
    if (known == std::end(kBlocks)) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {} has an unknown entry for layer {}: \"{}\"", fields.what(),
                        key, i, pattern.empty() ? words[i].substr(0, 60) : pattern.substr(i, 1));
    }
    out.push_back(known->block);
  }
  return out;
}

// The class renames some fields of older configs.
Result<std::uint64_t> renamed(const Fields& fields, std::string_view key, std::string_view older,
                              std::uint64_t otherwise, std::uint64_t max) {
  return fields.count_or(fields.has(key) ? key : older, otherwise, max);
}

Result<Mamba2> read_mixer(const Fields& fields, std::uint64_t hidden) {
  Mamba2 out;
  out.hidden = hidden;
  out.heads = AXON_TRY(fields.count_or("mamba_num_heads", 128, kMaxHeads));
  out.head_dim = AXON_TRY(fields.count_or("mamba_head_dim", 64, kMaxHeadSize / 8));
  out.groups = AXON_TRY(renamed(fields, "n_groups", "mamba_n_groups", 8, kMaxHeads));
  AXON_TRY(check_divides(fields, "n_groups", out.groups, "mamba_num_heads", out.heads));
  out.state = AXON_TRY(fields.count_or("ssm_state_size", 128, kMaxState));
  out.taps = AXON_TRY(renamed(fields, "conv_kernel", "mamba_d_conv", 4, kMaxTaps));
  out.conv_bias = AXON_TRY(fields.flag_or("use_conv_bias", true));
  out.bias = out.out_bias = AXON_TRY(fields.flag_or("use_bias", false));
  return out;
}

// relu(up(x))^2 through down: no gate.
struct FeedForward {
  std::uint64_t hidden = 0, inner = 0;
  bool bias = false;
  void add(Builder& builder, std::string_view name, Part part, std::uint64_t count) const {
    builder.matrix(fmt::format("{}.up_proj", name), part, inner, hidden, count, bias);
    builder.matrix(fmt::format("{}.down_proj", name), part, hidden, inner, count, bias);
  }
};

struct Experts {
  FeedForward expert, shared;
  std::uint64_t count = 0, active = 0;
  std::uint64_t latent = 0;  // experts work on a narrower copy of the input; 0: on the input itself
};

Result<Experts> read_experts(const Fields& fields, std::uint64_t hidden, bool bias) {
  Experts out;
  out.latent = AXON_TRY(fields.zero_or_more("moe_latent_size", 0));
  out.expert = {out.latent == 0 ? hidden : out.latent, AXON_TRY(fields.count("moe_intermediate_size")), bias};
  out.shared = {hidden, AXON_TRY(fields.count("moe_shared_expert_intermediate_size")), bias};
  out.count = AXON_TRY(fields.count("n_routed_experts", kMaxHeads));
  out.active = AXON_TRY(fields.count("num_experts_per_tok", kMaxHeads));
  AXON_TRY(check_at_most(fields, "num_experts_per_tok", out.active, "n_routed_experts", out.count));
  return out;
}

void add_experts(Builder& builder, const Experts& experts, std::uint64_t hidden, std::uint64_t layers) {
  builder.matrix("layers.*.mixer.gate", Part::kRouter, experts.count, hidden, layers);
  builder.vector("layers.*.mixer.gate.e_score_correction_bias", Part::kRouter, experts.count, layers);
  if (experts.latent != 0) {
    builder.matrix("layers.*.mixer.fc1_latent_proj", Part::kSharedExpert, experts.latent, hidden, layers,
                   experts.shared.bias);
    builder.matrix("layers.*.mixer.fc2_latent_proj", Part::kSharedExpert, hidden, experts.latent, layers,
                   experts.shared.bias);
  }
  experts.shared.add(builder, "layers.*.mixer.shared_experts", Part::kSharedExpert, layers);
  builder.share(experts.active, experts.count);
  experts.expert.add(builder, "layers.*.mixer.experts.*", Part::kExperts, layers * experts.count);
  builder.share(1, 1);
  builder.width(2 * hidden + experts.active * experts.expert.inner + experts.shared.inner + experts.count +
                experts.latent);
}

Layer layer_of(Block block, const Mamba2& mamba, const GroupedAttention& attention) {
  switch (block) {
    case Block::kMamba: return {"mamba2", mamba.memory()};
    case Block::kAttention: return {"attention", attention.memory()};
    case Block::kFeedForward: return {"feed forward", {}};
    case Block::kExperts: return {"experts", {}};
  }
  return {};
}

}  // namespace

Result<Architecture> read_nemotron_h(const Fields& fields) {
  const Body body = AXON_TRY(read_body(fields, false));
  const std::vector<Block> blocks = AXON_TRY(read_blocks(fields, body.layers));
  const Mamba2 mamba = AXON_TRY(read_mixer(fields, body.hidden));
  const std::uint64_t head_dim = AXON_TRY(fields.count_or("attention_head_dim", 128, kMaxHeadSize));
  const GroupedAttention attention =
      AXON_TRY(read_attention(fields, body.hidden, {.heads = 32, .kv_heads = 8, .head_dim = head_dim}));
  const bool bias = AXON_TRY(fields.flag_or("mlp_bias", false));
  const FeedForward mlp{body.hidden, AXON_TRY(fields.count_or("intermediate_size", 21504)), bias};

  Builder builder("nemotron_h", fields);
  builder.model().context_max = AXON_TRY(fields.zero_or_more("max_position_embeddings", 4096, std::uint64_t{1} << 40));
  add_ends(builder, body, {.embedding = "embeddings", .norm = "norm_f", .head = "lm_head"});
  builder.vector("layers.*.norm.weight", Part::kNorm, body.hidden, body.layers);
  const auto layers_with = [&](Block block) {
    return static_cast<std::uint64_t>(std::count(blocks.begin(), blocks.end(), block));
  };
  mamba.add(builder, "layers.*.mixer", layers_with(Block::kMamba));
  attention.add(builder, "layers.*.mixer", layers_with(Block::kAttention));
  mlp.add(builder, "layers.*.mixer", Part::kFeedForward, layers_with(Block::kFeedForward));
  if (layers_with(Block::kMamba) != 0) builder.width(2 * body.hidden + mamba.width());
  if (layers_with(Block::kAttention) != 0) builder.width(2 * body.hidden + attention.width());
  if (layers_with(Block::kFeedForward) != 0) builder.width(2 * body.hidden + mlp.inner);
  if (layers_with(Block::kExperts) != 0) {
    const Experts experts = AXON_TRY(read_experts(fields, body.hidden, bias));
    add_experts(builder, experts, body.hidden, layers_with(Block::kExperts));
  }
  for (const Block block : blocks) builder.layer(layer_of(block, mamba, attention));
  return builder.finish();
}

}  // namespace axon
