#include "architectures/transformer_configs_for_test.h"

namespace axon {
namespace {

TEST(TransformerLayers, KeepKeysAndValuesOfKvHeadsOnly) {
  EXPECT_EQ(kept_values_a_token(model(kLlama8b)) * 2, 131'072u);  // bytes in half precision
  EXPECT_EQ(kept_values_a_token(model(kQwen25)), 28u * 2 * 4 * 128);
  EXPECT_EQ(kept_values_a_token(model(kGemma2)), 26u * 2 * 4 * 256);    // head_dim is not 2304 / 8
  EXPECT_EQ(kept_values_a_token(model(kGptOss20b)), 24u * 2 * 8 * 64);  // nor 2880 / 64
  EXPECT_EQ(kept_values_a_token(model(kV3)), 61u * 576);
  EXPECT_EQ(kept_values_a_token(model(kV2Lite)), 27u * 576);
  const Architecture v3 = model(kV3);
  EXPECT_EQ(v3.layers[0].kind, "latent attention");
  EXPECT_EQ(v3.layers[0].memory.kv_heads, 0u);
  EXPECT_EQ(v3.attention_layers(), 61u);
  EXPECT_EQ(v3.recurrent_layers(), 0u);
}

TEST(TransformerLayers, DefaultsAreThoseOfTheModelsOwnCode) {
  // Absent, null and given differ: Mistral's class says 8 kv heads and a window of 4096, null says as many as heads.
  constexpr std::string_view kBare = R"({"model_type": "mistral", "vocab_size": 100, "hidden_size": 64,
      "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 16})";
  EXPECT_EQ(model(kBare).layers[0].memory.kv_heads, 8u);
  EXPECT_EQ(model(with(R"("num_key_value_heads": null)", kBare)).layers[0].memory.kv_heads, 16u);
  EXPECT_EQ(windows(model(kBare)), (std::vector<std::uint64_t>{4096, 4096}));
  EXPECT_EQ(windows(model(with(R"("sliding_window": null)", kBare))), (std::vector<std::uint64_t>{0, 0}));
  EXPECT_EQ(windows(model(with(R"("sliding_window": 7)", kBare))), (std::vector<std::uint64_t>{7, 7}));
  EXPECT_EQ(model(kBare).layers[0].kind, "sliding attention");
  EXPECT_EQ(model(kBare).context_max, 131072u);
  EXPECT_EQ(model(with(R"("max_position_embeddings": 5)", kBare)).context_max, 5u);
  EXPECT_FALSE(model(kBare).tied_head);
  EXPECT_TRUE(model(kGemma2).tied_head);
  EXPECT_EQ(elements_of(model(kGemma2), Part::kHead), 0u);
  EXPECT_EQ(elements_of(model(with(R"("tie_word_embeddings": false)", kGemma2)), Part::kHead), 256000u * 2304);
  const Architecture text = model(R"({"model_type": "gemma3_text"})");  // all defaults
  EXPECT_EQ(text.vocab_size, 262208u);
  EXPECT_EQ(text.hidden_size, 2304u);
  EXPECT_EQ(text.layers.size(), 26u);
}

TEST(TransformerLayers, SlideInTheLayersThatTheFamilySays) {
  const std::vector<std::uint64_t> oss = windows(model(kGptOss20b));
  EXPECT_EQ((std::vector<std::uint64_t>(oss.begin(), oss.begin() + 4)), (std::vector<std::uint64_t>{128, 0, 128, 0}));
  const std::vector<std::uint64_t> gemma2 = windows(model(kGemma2));
  EXPECT_EQ(gemma2[0], 4096u);
  EXPECT_EQ(gemma2[1], 0u);
  const std::vector<std::uint64_t> gemma3 = windows(model(kGemma3));
  for (std::size_t i = 0; i < gemma3.size(); ++i) EXPECT_EQ(gemma3[i], i % 6 == 5 ? 0u : 1024u) << i;
  EXPECT_EQ(
      windows(model(with(R"("layer_types": ["full_attention", "sliding_attention"], "num_hidden_layers": 2)",
                         R"({"model_type": "gpt_oss", "vocab_size": 100, "hidden_size": 64, "num_local_experts": 4,
                                   "intermediate_size": 32, "num_attention_heads": 16})"))),
      (std::vector<std::uint64_t>{0, 128}));
  EXPECT_EQ(windows(model(kMixtral)), std::vector<std::uint64_t>(32, 0));
}

// Qwen's configs name a window that is off.
TEST(TransformerLayers, QwenSlidesOnlyWhenToldToAndAfterTheFirstLayers) {
  constexpr std::string_view kSmall = R"({"model_type": "qwen2", "vocab_size": 100, "hidden_size": 64,
      "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
      "sliding_window": 9, "max_window_layers": 3)";
  EXPECT_EQ(windows(model(fmt::format("{}}}", kSmall))), (std::vector<std::uint64_t>{0, 0, 0, 0}));
  EXPECT_EQ(windows(model(fmt::format(R"({}, "use_sliding_window": true}})", kSmall))),
            (std::vector<std::uint64_t>{0, 0, 0, 9}));
  EXPECT_EQ(windows(model(fmt::format(R"({}, "use_sliding_window": true, "layer_types": ["sliding_attention",
                "full_attention", "full_attention", "full_attention"]}})",
                                      kSmall))),
            (std::vector<std::uint64_t>{9, 0, 0, 0}));
}

TEST(TransformerLayers, ShapesAreThoseOfTheFiles) {
  const Architecture qwen = model(kQwen25);
  EXPECT_EQ(group(qwen, "layers.*.self_attn.k_proj.weight").rows, 512u);
  EXPECT_EQ(group(qwen, "layers.*.self_attn.k_proj.weight").cols, 3584u);
  EXPECT_EQ(group(qwen, "layers.*.self_attn.k_proj.weight").count, 28u);
  EXPECT_TRUE(group(qwen, "layers.*.self_attn.k_proj.weight").matrix);
  EXPECT_EQ(group(qwen, "layers.*.self_attn.k_proj.bias").cols, 512u);
  EXPECT_FALSE(group(qwen, "layers.*.self_attn.k_proj.bias").matrix);
  EXPECT_EQ(group(qwen, "layers.*.self_attn.o_proj.bias").count, 0u);
  const Architecture moe = model(kMixtral);
  EXPECT_EQ(group(moe, "layers.*.block_sparse_moe.experts.*.w2.weight").count, 32u * 8);
  EXPECT_EQ(group(moe, "layers.*.block_sparse_moe.experts.*.w2.weight").active, 2u);
  EXPECT_EQ(group(moe, "layers.*.block_sparse_moe.experts.*.w2.weight").of, 8u);
  const Architecture v3 = model(kV3);
  EXPECT_EQ(group(v3, "layers.*.self_attn.kv_a_proj_with_mqa.weight").rows, 576u);
  EXPECT_EQ(group(v3, "layers.*.self_attn.kv_b_proj.weight").rows, 128u * 256);
  EXPECT_EQ(group(v3, "layers.*.mlp.gate_proj.weight").count, 3u);
  EXPECT_EQ(group(v3, "layers.*.mlp.gate.e_score_correction_bias").count, 58u);
  EXPECT_EQ(group(model(kV2Lite), "layers.*.self_attn.q_a_proj.weight").count, 0u);
  EXPECT_EQ(group(model(kV2Lite), "layers.*.self_attn.q_proj.weight").rows, 16u * 192);
}

// What formats apply to in gpt-oss: MXFP4 is for the experts' matrices, not for their biases.
TEST(TransformerLayers, GptOssExpertsAreTheMatricesInMxfp4) {
  const Architecture oss = model(kGptOss20b);
  EXPECT_EQ(oss.native_weights, "mxfp4");
  std::uint64_t in_blocks = 0;
  for (const TensorGroup& g : oss.tensors) in_blocks += g.part == Part::kExperts && g.matrix ? g.elements() : 0;
  EXPECT_EQ(in_blocks, std::uint64_t{24} * 32 * 3 * 2880 * 2880);
  EXPECT_EQ(elements_of(oss, Part::kExperts) - in_blocks, 24u * 32 * (5760 + 2880));
  EXPECT_EQ(group(oss, "layers.*.self_attn.sinks").cols, 64u);
}

TEST(TransformerLayers, NativeWeightsAreWhatTheConfigSays) {
  EXPECT_EQ(model(kLlama8b).native_weights, "bf16");
  EXPECT_EQ(model(kV3).native_weights, "fp8");
  EXPECT_EQ(model(kMistral7b).native_weights, "");
  EXPECT_EQ(model(with(R"("dtype": "float16")", kMistral7b)).native_weights, "fp16");
  EXPECT_EQ(model(with(R"("quantization_config": {"quant_method": "gptq"})", kLlama8b)).native_weights, "");
  EXPECT_EQ(message(with(R"("quantization_config": 4)", kLlama8b)),
            "config.json: quantization_config must be an object, but is 4");
}

TEST(TransformerLayers, TextTokensDoNotTouchTheVisionTower) {
  const Architecture gemma = model(kGemma3);
  EXPECT_EQ(gemma.parameters().total - gemma.parameters().active, 419'816'304u);
  EXPECT_EQ(gemma.layers.size(), 34u);
  EXPECT_EQ(gemma.vocab_size, 262208u);
  EXPECT_EQ(gemma.native_weights, "bf16");
  EXPECT_EQ(message(R"({"model_type": "gemma3", "vision_config": {}})"), "config.json: text_config is missing");
  EXPECT_EQ(message(R"({"model_type": "gemma3", "text_config": {"hidden_size": -1}})"),
            "config.json: text_config: hidden_size must be a number from 1 to 2097152, but is -1");
  EXPECT_EQ(message(R"({"model_type": "gemma3", "text_config": {}, "vision_config": {"image_size": 7}})"),
            "config.json: vision_config: image_size must be at least patch_size (16), but is 7");
}

TEST(TransformerLayers, TheWidestPartOfALayer) {
  EXPECT_EQ(model(kLlama8b).widest_values, 2u * 4096 + 2 * 14336);           // gate and up
  EXPECT_EQ(model(kQwen3Moe).widest_values, 2u * 2048 + 2 * 8 * 768 + 128);  // eight experts and the router's scores
  EXPECT_EQ(model(kGptOss20b).widest_values, 2u * 2880 + 2 * 4 * 2880 + 32);
  EXPECT_EQ(model(R"({"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 1,
      "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16})")
                .widest_values,
            2u * 8 + 16 * (4 + 2 + 2 + 4));  // attention
}

TEST(TransformerLayers, QwenHasExpertsInEveryNthLayerButForThoseListed) {
  const Architecture every =
      model(with(R"("mlp_only_layers": [1, 3, 5])", R"({"model_type": "qwen3_moe", "vocab_size": 10,
      "hidden_size": 8, "intermediate_size": 5, "moe_intermediate_size": 3, "num_hidden_layers": 12,
      "num_attention_heads": 4, "num_experts": 6, "num_experts_per_tok": 2, "decoder_sparse_step": 2})"));
  EXPECT_EQ(group(every, "layers.*.mlp.gate.weight").count, 3u);  // 7, 9 and 11
  EXPECT_EQ(group(every, "layers.*.mlp.experts.*.up_proj.weight").count, 18u);
  EXPECT_EQ(group(every, "layers.*.mlp.up_proj.weight").count, 9u);
  EXPECT_EQ(group(every, "layers.*.mlp.up_proj.weight").rows, 5u);
}

TEST(TransformerLayers, SmolLmSlidesWhereItHasNoPositions) {
  constexpr std::string_view kSmol = R"({"model_type": "smollm3", "vocab_size": 10, "hidden_size": 8,
      "intermediate_size": 5, "num_hidden_layers": 4, "num_attention_heads": 4, "sliding_window": 6})";
  EXPECT_EQ(windows(model(kSmol)), (std::vector<std::uint64_t>{0, 0, 0, 0}));
  EXPECT_EQ(windows(model(with(R"("use_sliding_window": true)", kSmol))), (std::vector<std::uint64_t>{0, 0, 0, 6}));
  EXPECT_EQ(windows(model(with(R"("use_sliding_window": true, "no_rope_layers": [0, 1, 1, 0])", kSmol))),
            (std::vector<std::uint64_t>{6, 0, 0, 6}));
  EXPECT_EQ(message(with(R"("no_rope_layers": [0])", kSmol)),
            "config.json: no_rope_layers must be a list of num_hidden_layers (4) numbers, but is a list of 1");
}

TEST(TransformerLayers, Olmo3SlidesInThreeOfFour) {
  const std::string olmo3 = R"({"model_type": "olmo3", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 5,
      "num_hidden_layers": 5, "num_attention_heads": 4})";
  EXPECT_EQ(windows(model(olmo3)), (std::vector<std::uint64_t>{4096, 4096, 4096, 0, 4096}));
}

TEST(TransformerLayers, QwenMoeSlidesInEveryOtherOfTheFirstLayersOrInAll) {
  constexpr std::string_view kFields = R"("vocab_size": 10, "hidden_size": 16, "num_hidden_layers": 5,
      "num_attention_heads": 16, "use_sliding_window": true, "sliding_window": 7, "max_window_layers": 3)";
  EXPECT_EQ(windows(model(fmt::format(R"({{"model_type": "qwen2_moe", {}}})", kFields))),
            (std::vector<std::uint64_t>{7, 0, 7, 0, 0}));
  EXPECT_EQ(windows(model(fmt::format(R"({{"model_type": "qwen3_moe", {}}})", kFields))),
            (std::vector<std::uint64_t>{7, 7, 7, 7, 7}));
}

TEST(TransformerLayers, GemmaSavesItsPatternUnderTwoNames) {
  constexpr std::string_view kText = R"({"model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window": 5})";
  EXPECT_EQ(windows(model(with(R"("sliding_window_pattern": 2)", kText))), (std::vector<std::uint64_t>{5, 0, 5, 0}));
  EXPECT_EQ(windows(model(with(R"("_sliding_window_pattern": 2)", kText))), (std::vector<std::uint64_t>{5, 0, 5, 0}));
  EXPECT_EQ(windows(model(kText)), (std::vector<std::uint64_t>{5, 5, 5, 5}));
}

TEST(TransformerLayers, DeepSeekHasExpertsFromOneLayerOnInStepsAndMaybeSharedOnes) {
  constexpr std::string_view kSmall = R"({"model_type": "deepseek_v2", "vocab_size": 10, "hidden_size": 8,
      "intermediate_size": 5, "moe_intermediate_size": 3, "num_hidden_layers": 8, "num_attention_heads": 4,
      "n_routed_experts": 6, "num_experts_per_tok": 2, "first_k_dense_replace": 3, "moe_layer_freq": 2})";
  const Architecture deep = model(kSmall);
  EXPECT_EQ(group(deep, "layers.*.mlp.gate.weight").count, 2u);  // 4 and 6
  EXPECT_EQ(group(deep, "layers.*.mlp.up_proj.weight").count, 6u);
  EXPECT_EQ(group(deep, "layers.*.mlp.gate.e_score_correction_bias").count, 0u);  // V3's
  EXPECT_EQ(group(deep, "layers.*.mlp.shared_experts.up_proj.weight").rows, 2u * 3);
  EXPECT_EQ(elements_of(model(with(R"("n_shared_experts": null)", kSmall)), Part::kSharedExpert), 0u);
  EXPECT_EQ(elements_of(model(with(R"("n_shared_experts": 0)", kSmall)), Part::kSharedExpert), 0u);
  // queries, the latent with the rotary key, keys and values made from it, what attention hands on
  EXPECT_EQ(deep.widest_values, 2u * 8 + 4 * 192 + 576 + 4 * 256 + 4 * 128);
}

}  // namespace
}  // namespace axon
