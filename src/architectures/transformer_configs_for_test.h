#pragma once
// Short forms of published configs, and what the tests of the transformer families ask of them.

#include <gtest/gtest.h>

#include "architectures/architecture.h"

namespace axon {

inline Result<Architecture> read(std::string_view text) {
  const JsonValue config = AXON_TRY(read_json_value(text, "config.json"));
  return read_architecture(config, "config.json");
}

inline Architecture model(std::string_view text) {
  Result<Architecture> result = read(text);
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    return {};
  }
  return std::move(result).value();
}

inline std::string message(std::string_view text) {
  const Result<Architecture> result = read(text);
  return result.ok() ? "no error" : result.error().message;
}

// `text` with `fields` first: the configs here are short, and each test changes one thing.
inline std::string with(std::string_view fields, std::string_view text) {
  return fmt::format("{{{}, {}", fields, text.substr(text.find('{') + 1));
}

inline std::uint64_t elements_of(const Architecture& arch, Part part) {
  std::uint64_t sum = 0;
  for (const TensorGroup& group : arch.tensors) sum += group.part == part ? group.elements() : 0;
  return sum;
}

// With a count of 0 when there is none.
inline TensorGroup group(const Architecture& arch, std::string_view name) {
  for (const TensorGroup& g : arch.tensors) {
    if (g.name == name) return g;
  }
  TensorGroup none;
  none.count = 0;
  return none;
}

inline std::vector<std::uint64_t> windows(const Architecture& arch) {
  std::vector<std::uint64_t> out;
  for (const Layer& layer : arch.layers) out.push_back(layer.memory.window);
  return out;
}

inline std::uint64_t kept_values_a_token(const Architecture& arch) {
  std::uint64_t sum = 0;
  for (const Layer& layer : arch.layers) {
    const LayerMemory& m = layer.memory;
    sum += m.kv_heads * (m.key_dim + m.value_dim) + m.latent_dim;
  }
  return sum;
}

inline constexpr std::string_view kLlama8b = R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
  "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
  "max_position_embeddings": 131072, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";
inline constexpr std::string_view kMistral7b = R"({"model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096,
  "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
  "max_position_embeddings": 32768})";
inline constexpr std::string_view kQwen25 = R"({"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584,
  "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
  "max_window_layers": 28, "use_sliding_window": false, "sliding_window": 131072})";
inline constexpr std::string_view kQwen3Moe = R"({"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048,
  "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32,
  "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1,
  "mlp_only_layers": []})";
inline constexpr std::string_view kGemma2 = R"({"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304,
  "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
  "head_dim": 256, "sliding_window": 4096})";
inline constexpr std::string_view kGemma3 = R"({"model_type": "gemma3", "torch_dtype": "bfloat16",
  "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024},
  "vision_config": {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "num_attention_heads": 16,
                    "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": false}})";
inline constexpr std::string_view kMixtral = R"({"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 4096,
  "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
  "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": null})";
inline constexpr std::string_view kGptOss20b = R"({"model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880,
  "intermediate_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8,
  "head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
  "quantization_config": {"quant_method": "mxfp4"}})";
inline constexpr std::string_view kV2Lite = R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048,
  "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
  "num_key_value_heads": 16, "q_lora_rank": null, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
  "v_head_dim": 128, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_shared_experts": 2, "n_routed_experts": 64,
  "num_experts_per_tok": 6})";
inline constexpr std::string_view kV3 = R"({"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168,
  "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
  "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
  "qk_nope_head_dim": 128, "v_head_dim": 128, "first_k_dense_replace": 3, "moe_layer_freq": 1, "n_shared_experts": 1,
  "n_routed_experts": 256, "num_experts_per_tok": 8, "num_nextn_predict_layers": 1,
  "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})";

inline constexpr std::string_view kGptOss120b =
    R"({"model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
         "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8})";
inline constexpr std::string_view kV2 =
    R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 5120, "intermediate_size": 12288,
         "moe_intermediate_size": 1536, "num_hidden_layers": 60, "num_attention_heads": 128, "q_lora_rank": 1536,
         "kv_lora_rank": 512, "first_k_dense_replace": 1, "n_shared_experts": 2, "n_routed_experts": 160,
         "num_experts_per_tok": 6})";

}  // namespace axon
