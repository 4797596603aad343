#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "architectures/transformer_configs_for_test.h"

namespace axon {
namespace {

// Totals as the model hub shows them from the files' headers, but for GPT-2 (whose files hold masks) and DeepSeek-V3
// (whose files hold the prediction layers): those are the makers' own.
struct Published {
  std::string_view name;
  std::uint64_t total;
  std::string_view config;
};
const Published kPublished[] = {
    {"Llama-3.1-8B", 8'030'261'248, kLlama8b},
    {"Llama-3.2-1B", 1'235'814'400,
     R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
         "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
         "tie_word_embeddings": true})"},
    {"Llama-2-7b", 6'738'415'616,
     R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32})"},
    {"Mistral-7B-v0.1", 7'241'732'096, kMistral7b},
    {"Qwen2.5-7B", 7'615'616'512, kQwen25},
    {"Qwen2.5-0.5B", 494'032'768,
     R"({"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
         "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": true})"},
    {"Qwen3-8B", 8'190'735'360,
     R"({"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288,
         "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128})"},
    {"Qwen3-0.6B", 596'049'920,
     R"({"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
         "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
         "tie_word_embeddings": true})"},
    {"Qwen3-30B-A3B", 30'532'122'624, kQwen3Moe},
    {"Qwen1.5-MoE-A2.7B", 14'315'784'192,
     R"({"model_type": "qwen2_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
         "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 60,
         "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632})"},
    {"gemma-2b", 2'506'172'416,
     R"({"model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048, "intermediate_size": 16384,
         "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256})"},
    {"gemma-2-2b", 2'614'341'888, kGemma2},
    {"gemma-2-9b", 9'241'705'984,
     R"({"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 3584, "intermediate_size": 14336,
         "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256})"},
    {"gemma-3-1b", 999'885'952,
     R"({"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
         "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
         "sliding_window": 512, "sliding_window_pattern": 6})"},
    {"gemma-3-4b", 4'300'079'472, kGemma3},
    {"Phi-3-mini-4k", 3'821'079'552,
     R"({"model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "sliding_window": 2047})"},
    {"phi-4", 14'659'507'200,
     R"({"model_type": "phi3", "vocab_size": 100352, "hidden_size": 5120, "intermediate_size": 17920,
         "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 10, "sliding_window": null})"},
    {"phi-2", 2'779'683'840,
     R"({"model_type": "phi", "vocab_size": 51200, "hidden_size": 2560, "intermediate_size": 10240,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": null})"},
    {"starcoder2-3b", 3'030'371'328,
     R"({"model_type": "starcoder2", "vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
         "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2, "sliding_window": 4096})"},
    {"OLMo-2-1124-7B", 7'298'617'344,
     R"({"model_type": "olmo2", "vocab_size": 100352, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32})"},
    {"SmolLM3-3B", 3'075'098'624,
     R"({"model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
         "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4})"},
    {"granite-3.1-2b-base", 2'533'531'648,
     R"({"model_type": "granite", "vocab_size": 49155, "hidden_size": 2048, "intermediate_size": 8192,
         "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": true})"},
    {"granite-3.0-1b-a400m-base", 1'334'628'352,
     R"({"model_type": "granitemoe", "vocab_size": 49155, "hidden_size": 1024, "intermediate_size": 512,
         "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 8, "num_local_experts": 32,
         "num_experts_per_tok": 8, "tie_word_embeddings": true})"},
    {"stablelm-2-1_6b", 1'644'515'328,
     R"({"model_type": "stablelm", "vocab_size": 100352, "hidden_size": 2048, "intermediate_size": 5632,
         "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 32, "use_qkv_bias": true})"},
    {"stablelm-3b-4e1t", 2'795'443'200,
     R"({"model_type": "stablelm", "vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32})"},
    {"gpt2", 124'439'808,
     R"({"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024})"},
    {"Mixtral-8x7B", 46'702'792'704, kMixtral},
    {"gpt-oss-20b", 20'914'757'184, kGptOss20b},
    {"gpt-oss-120b", 116'829'156'672, kGptOss120b},
    {"DeepSeek-V2-Lite", 15'706'484'224, kV2Lite},
    {"DeepSeek-V2", 235'741'434'880, kV2},
    {"DeepSeek-V3", 671'026'419'200, kV3}};

TEST(Transformers, CountTheParametersThatAreInThePublishedFiles) {
  for (const Published& known : kPublished) {
    EXPECT_EQ(model(known.config).parameters().total, known.total) << known.name;
  }
}

// In billions, as the makers say: Mixtral 12.9 (blog "Mixtral of experts"), Qwen3-30B-A3B 3.3 (model card),
// without the embedding DeepSeek-V2-Lite 2.4 and V2 21 (arXiv 2405.04434), V3 37 (arXiv 2412.19437), and gpt-oss 3.61
// and 5.13 (model card, table 1).
TEST(Transformers, CountWhatOneTokenTouches) {
  const auto billions = [](std::string_view config, bool embedding = true) {
    const Architecture arch = model(config);
    const std::uint64_t left_out = embedding ? 0 : elements_of(arch, Part::kEmbedding);
    return static_cast<double>(arch.parameters().active - left_out) * 1e-9;
  };
  EXPECT_NEAR(billions(kMixtral), 12.9, 0.05);
  EXPECT_NEAR(billions(kQwen3Moe), 3.3, 0.06);
  EXPECT_NEAR(billions(kV2Lite, false), 2.4, 0.06);
  EXPECT_NEAR(billions(kV2, false), 21, 0.5);
  EXPECT_NEAR(billions(kV3, false), 37, 0.5);
  EXPECT_NEAR(billions(kGptOss20b, false), 3.61, 0.005);
  EXPECT_NEAR(billions(kGptOss120b, false), 5.13, 0.005);
  EXPECT_EQ(model(kLlama8b).parameters().active, 8'030'261'248u);
}

// A small mixture-of-experts model from its sizes, in the order of the letters.
struct Small {
  std::uint64_t layers = 2, hidden = 64, experts = 4, inner = 16, vocab = 100, kv_heads = 2;
};
Architecture::Count small_moe(const Small& s) {
  return model(fmt::format(R"({{"model_type": "qwen3_moe", "vocab_size": {}, "hidden_size": {}, "num_hidden_layers": {},
      "num_attention_heads": 16, "num_key_value_heads": {}, "head_dim": 8, "num_experts": {}, "num_experts_per_tok": 2,
      "moe_intermediate_size": {}}})",
                           s.vocab, s.hidden, s.layers, s.kv_heads, s.experts, s.inner))
      .parameters();
}

RC_GTEST_PROP(TransformersProperty, ParametersGrowWithEverySize, ()) {
  Small s;
  s.layers = *rc::gen::inRange<std::uint64_t>(1, 40);
  s.hidden = *rc::gen::inRange<std::uint64_t>(1, 5000);
  s.experts = *rc::gen::inRange<std::uint64_t>(2, 200);
  s.inner = *rc::gen::inRange<std::uint64_t>(1, 5000);
  s.vocab = *rc::gen::inRange<std::uint64_t>(1, 200'000);
  const Architecture::Count before = small_moe(s);
  RC_ASSERT(before.active <= before.total);
  for (std::uint64_t Small::*size : {&Small::layers, &Small::hidden, &Small::experts, &Small::inner, &Small::vocab}) {
    Small larger = s;
    larger.*size += *rc::gen::inRange<std::uint64_t>(1, 9);
    const Architecture::Count after = small_moe(larger);
    RC_ASSERT(after.total > before.total);
    RC_ASSERT(after.active > before.active);  // by the router's rows, when it is experts that are more
  }
}

RC_GTEST_PROP(TransformersProperty, EveryLayerCostsTheSame, ()) {
  Small s;
  s.layers = *rc::gen::inRange<std::uint64_t>(1, 40);
  s.hidden = *rc::gen::inRange<std::uint64_t>(1, 5000);
  const auto total = [&](std::uint64_t more) {
    Small larger = s;
    larger.layers += more;
    return small_moe(larger).total;
  };
  RC_ASSERT(total(2) - total(1) == total(1) - total(0));
  const std::uint64_t attention = s.hidden * 8 * (16 + 2 + 2 + 16) + 2 * 8;
  const std::uint64_t experts = 4 * 3 * 16 * s.hidden + 4 * s.hidden;
  RC_ASSERT(total(1) - total(0) == attention + experts + 2 * s.hidden);
}

}  // namespace
}  // namespace axon
