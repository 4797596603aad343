#include "architectures/transformer_configs_for_test.h"

namespace axon {
namespace {

TEST(TransformerErrors, ErrorsNameTheField) {
  const auto without = [](std::string_view key, std::string_view config) {
    std::string text(config);
    const std::string quoted = fmt::format("\"{}\"", key);
    return message(text.replace(text.find(quoted), quoted.size(), fmt::format("\"x{}\"", key)));
  };
  for (const std::string_view key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    EXPECT_EQ(without(key, kLlama8b), fmt::format("config.json: {} is missing", key));
  }
  EXPECT_EQ(without("n_routed_experts", kV3), "config.json: n_routed_experts is missing");
  const auto changed = [](std::string_view key, std::string_view value, std::string_view config) {
    std::string text(config);
    const std::size_t at = text.find(':', text.find(fmt::format("\"{}\"", key))) + 1;
    return message(text.replace(at, text.find_first_of(",}", at) - at, value));
  };
  constexpr std::string_view kOneToMax = "must be a number from 1 to 2097152, but is";
  for (const std::string_view bad : {"-1", "0", "2097153", "1.5", "true", "\"x\"", "18446744073709551615"}) {
    EXPECT_EQ(changed("hidden_size", bad, kLlama8b), fmt::format("config.json: hidden_size {} {}", kOneToMax, bad));
    EXPECT_EQ(changed("num_key_value_heads", bad, kLlama8b),
              fmt::format("config.json: num_key_value_heads {} {}", kOneToMax, bad));
  }
  EXPECT_EQ(changed("num_hidden_layers", "5000", kLlama8b),
            "config.json: num_hidden_layers must be a number from 1 to 4096, but is 5000");
  EXPECT_EQ(changed("tie_word_embeddings", "1", kLlama8b),
            "config.json: tie_word_embeddings must be true or false, but is 1");
}

TEST(TransformerErrors, ContradictionsAreErrors) {
  EXPECT_EQ(message(with(R"("attention_bias": 3)", kLlama8b)),
            "config.json: attention_bias must be true or false, but is 3");
  const auto small = [](std::string_view type, std::string_view fields) {
    return message(
        fmt::format(R"({{"model_type": "{}", "vocab_size": 100, "intermediate_size": 32, {}}})", type, fields));
  };
  EXPECT_EQ(small("llama", R"("hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                              "num_key_value_heads": 3)"),
            "config.json: num_key_value_heads must be a divisor of num_attention_heads (4), but is 3");
  EXPECT_EQ(
      small("llama", R"("hidden_size": 65, "num_hidden_layers": 2, "num_attention_heads": 4)"),
      "config.json: hidden_size must be a multiple of num_attention_heads (4), as there is no head_dim, but is 65");
  EXPECT_EQ(small("llama", R"("hidden_size": 65, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16)"),
            "no error");
  EXPECT_EQ(small("mixtral", R"("hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
                                "num_local_experts": 4, "num_experts_per_tok": 5)"),
            "config.json: num_experts_per_tok must be a number from 1 to num_local_experts (4), but is 5");
  EXPECT_EQ(small("mistral", R"("hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
                                "sliding_window": 0)"),
            "config.json: sliding_window must be a number from 1 to 4294967296, but is 0");
  constexpr std::string_view kOss = R"("hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8)";
  EXPECT_EQ(small("gpt_oss", fmt::format(R"({}, "layer_types": ["full_attention"])", kOss)),
            "config.json: layer_types must be a list of num_hidden_layers (2) texts, but is a list of 1");
  EXPECT_EQ(small("gpt_oss", fmt::format(R"({}, "layer_types": ["full_attention", "x"])", kOss)),
            "config.json: layer_types[1] must be full_attention or sliding_attention, but is x");
  EXPECT_EQ(small("gpt_oss", fmt::format(R"({}, "sliding_window": null,
                                             "layer_types": ["full_attention", "sliding_attention"])",
                                         kOss)),
            "config.json: layer_types[1] is sliding_attention, but there is no sliding_window");
  EXPECT_EQ(small("qwen3_moe", R"("hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
                                  "mlp_only_layers": [2])"),
            "config.json: mlp_only_layers has 2, but num_hidden_layers is 2");
  EXPECT_EQ(small("deepseek_v3", R"("hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
                                    "first_k_dense_replace": 3, "n_routed_experts": 4, "num_experts_per_tok": 2,
                                    "moe_intermediate_size": 8)"),
            "config.json: first_k_dense_replace must be at most num_hidden_layers (2), but is 3");
  EXPECT_EQ(small("qwen3_moe", R"("hidden_size": 2097152, "num_hidden_layers": 4096, "num_attention_heads": 2097152,
                                  "head_dim": 2097152)")
                .find("config.json: layers.*.self_attn.q_proj.weight would have 4096 x 4398046511104 x 2097152 "),
            0u);
}

TEST(TransformerErrors, UnknownFamiliesAreSaidToBeUnknown) {
  const Result<Architecture> result = read(R"({"model_type": "gpt5"})");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(result.error().message.find("config.json: model_type \"gpt5\" is unknown; known are llama, "), 0u);
  EXPECT_EQ(message("{}"), "config.json: model_type is missing: it says which family this is");
  EXPECT_EQ(message("[]"), "config.json: expected an object, but got a list of 0");
}

}  // namespace
}  // namespace axon
