#pragma once
// adapter_config.json, as two programs write it beside an adapter's weights: PEFT (github.com/huggingface/peft) and
// mlx-lm (github.com/ml-explore/mlx-lm).

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace axon {

// Who reads and writes the files of an adapter.
enum class AdapterForm {
  kPeft,      // a folder: adapter_config.json, adapter_model.safetensors
  kMlxLm,     // a folder: adapter_config.json, adapters.safetensors
  kOriginal,  // one .safetensors file, named as mlx-lm names tensors; nothing says the scale
};
std::string_view name_of(AdapterForm form);

struct AdapterConfig {
  // What PEFT has for some layers alone: the first entry whose name is the layer's, or ends it at a dot, counts.
  using Pattern = std::vector<std::pair<std::string, double>>;

  AdapterForm form = AdapterForm::kPeft;  // or kMlxLm
  bool dora = false;
  std::size_t rank = 0;
  double scale = 0;              // mlx-lm: what B A is multiplied by
  double alpha = 0;              // PEFT: that is alpha / rank,
  bool rank_stabilised = false;  // or alpha / sqrt(rank) (arXiv 2312.03732)
  double dropout = 0;
  Pattern rank_pattern, alpha_pattern;
  std::string base_model;  // PEFT: where it was trained, in its maker's words; may be empty

  std::size_t rank_of(std::string_view layer) const;
  double scale_of(std::string_view layer) const;
};

// Ranks beyond any use are refused.
inline constexpr std::size_t kAdapterRankMax = 65'536;

// kCorrupt names the key, what was expected and what came; kUnsupported what would make another function of the
// adapter than W + s B A: biases, other kinds of adapters, whole modules, regular expressions. `what` names the text in
// messages.
Result<AdapterConfig> parse_adapter_config(std::string_view text, std::string_view what);

// What a config says of the layers that are adapted; of either form.
struct AdapterConfigText {
  AdapterConfig config;
  std::vector<std::string> targets;  // full names for PEFT; endings behind the layer's number for mlx-lm
  std::size_t layers = 0;            // mlx-lm: of the model
};
std::string to_json(const AdapterConfigText& config);

}  // namespace axon
