#pragma once
// What a model is: the numbers of its config.json under the original's names, and the layer kinds that follow.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace axon {

// The word under "kv_rotation", here and beside adapters.
inline constexpr std::string_view kKvRotationName = "turboquant-1";

// Shapes of weights follow from these alone. Every field is required in a config.json but ssm_scan_step, which changes
// only the order of work, and kv_rotation, which few models have. Checked by parse_config; nobody checks again.
struct Config {
  std::uint64_t vocab_size = 0;
  std::uint64_t hidden_dim = 0;  // D
  std::uint64_t num_layers = 0;
  std::uint64_t num_heads = 0;       // H
  std::uint64_t d_source_model = 0;  // S, width of the embedding and of the head
  std::uint64_t ssm_d_state = 0;     // N
  std::uint64_t ssm_d_conv = 0;      // K
  std::uint64_t ssm_expand = 0;
  std::uint64_t ssm_scan_step = 64;
  std::uint64_t swa_window_size = 0;  // W
  std::uint64_t moe_num_experts = 0;  // X
  std::uint64_t moe_top_k = 0;
  std::uint64_t moe_intermediate_dim = 0;  // F
  bool moe_shared_expert = true;           // always present in this family; false is refused
  bool weight_tying = true;                // the head is the embedding when the file has no lm_head
  std::uint64_t max_seq_len = 0;
  double rms_norm_eps = 1e-6;
  // "kv_rotation" is there. Each head's q, k and v come out of their matrices as R q, R k, R v, and o_proj takes
  // R v (turboquant::Rotation; docs/design/0010-the-rotation-is-in-the-weights.md): the same function either way.
  bool kv_rotated = false;

  std::uint64_t head_dim() const { return hidden_dim / num_heads; }               // A
  std::uint64_t ssm_intermediate_dim() const { return hidden_dim * ssm_expand; }  // E
  bool operator==(const Config&) const = default;
};

// kInvalidArgument names the key, what was expected and what came: unknown, missing, doubled, out of range or
// contradicting keys. Keys that other programs add for themselves (quantization, architectures, ...) are passed over.
Result<Config> parse_config(std::string_view json, std::string_view what);
// The relations between the fields; parse_config and with_setting end with it.
Status check_config(const Config& config, std::string_view what);

// As the original writes it, indent 2; kv_rotation, which it does not know, only when set.
std::string to_json(const Config& config);

// "nano", "small", "medium", "3b", "6b"; kInvalidArgument lists them.
Result<Config> preset(std::string_view name);
std::span<const std::string_view> preset_names();
// `setting`: "key=value", e.g. "swa_window_size=65536", "kv_rotation=turboquant-1".
Result<Config> with_setting(const Config& config, std::string_view setting);

// One block of the stack: x += mixer(norm(x)); if (moe) x += moe(norm(x)).
enum class Mixer { kSsm, kSwa };
struct LayerKind {
  Mixer mixer = Mixer::kSsm;
  bool moe = false;
  bool operator==(const LayerKind&) const = default;
};
std::string_view name_of(LayerKind kind);  // "ssm", "swa", "ssm_moe", "swa_moe"

// The sandwich: the first third (rounded down) ssm, the second swa_moe, the rest ssm_moe.
std::vector<LayerKind> layer_kinds(const Config& config);

}  // namespace axon
