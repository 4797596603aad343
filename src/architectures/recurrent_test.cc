#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <string>

#include "architectures/architecture.h"
#include "io/json_value.h"

namespace axon {
namespace {

Result<Architecture> try_read(std::string_view text) {
  const JsonValue config = AXON_TRY(read_json_value(text, "config.json"));
  return read_architecture(config, "config.json");
}

Architecture read(std::string_view text) {
  Result<Architecture> model = try_read(text);
  if (!model.ok()) ADD_FAILURE() << model.error().message;
  return model.ok() ? std::move(model).value() : Architecture{};
}

// The message, or "" when the config is taken.
std::string refusal(std::string_view text) {
  const Result<Architecture> model = try_read(text);
  return model.ok() ? "" : model.error().message;
}

// `text` with one field put in place of another; the field must be there.
std::string with(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) ADD_FAILURE() << from << " is not in " << text;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

void expect_near(std::uint64_t count, double claim) {
  EXPECT_NEAR(static_cast<double>(count), claim, claim * 0.005) << count;
}

struct Memory {
  std::uint64_t state = 0, conv = 0, keys_and_values = 0;  // values in all; the last a token
};
Memory memory_of(const Architecture& model) {
  Memory out;
  for (const Layer& layer : model.layers) {
    out.state += layer.memory.state_values;
    out.conv += layer.memory.conv_values;
    out.keys_and_values += layer.memory.kv_heads * (layer.memory.key_dim + layer.memory.value_dim);
  }
  return out;
}

std::map<std::string, TensorGroup> tensors_of(const Architecture& model) {
  std::map<std::string, TensorGroup> out;
  for (const TensorGroup& group : model.tensors) out[group.name] = group;
  return out;
}

// state-spaces/mamba-2.8b-hf and mamba-130m-hf
const std::string kMamba28 = R"({"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64,
  "vocab_size": 50280, "state_size": 16, "conv_kernel": 4, "expand": 2, "intermediate_size": 5120,
  "time_step_rank": 160, "use_bias": false, "use_conv_bias": true, "torch_dtype": "float32"})";
const std::string kMamba130 = R"({"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24,
  "vocab_size": 50280, "time_step_rank": "auto"})";
// state-spaces/mamba2-2.7b, whose vocabulary is padded to a multiple of 16
const std::string kMamba2 = R"({"model_type": "mamba2", "hidden_size": 2560, "num_hidden_layers": 64,
  "vocab_size": 50288, "num_heads": 80, "head_dim": 64, "n_groups": 1, "state_size": 128,
  "tie_word_embeddings": true})";
// tiiuae/falcon-mamba-7b
const std::string kFalconMamba = R"({"model_type": "falcon_mamba", "hidden_size": 4096, "intermediate_size": 8192,
  "expand": 16, "num_hidden_layers": 64, "vocab_size": 65024, "state_size": 16, "time_step_rank": 256,
  "tie_word_embeddings": false})";
// ai21labs/Jamba-v0.1
const std::string kJamba = R"({"model_type": "jamba", "hidden_size": 4096, "intermediate_size": 14336,
  "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 65536,
  "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1,
  "num_experts": 16, "num_experts_per_tok": 2, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
  "mamba_dt_rank": 256, "tie_word_embeddings": false, "max_position_embeddings": 262144, "sliding_window": null})";

// Nine Mamba layers to each attention layer, as in all models of Granite 4.0-H.
std::string granite(std::string_view sizes) {
  std::string types;
  for (int i = 0; i < 40; ++i) types += fmt::format("{}\"{}\"", i ? ", " : "", i % 10 == 5 ? "attention" : "mamba");
  return fmt::format(R"({{"model_type": "granitemoehybrid", "num_hidden_layers": 40, "vocab_size": 100352,
    "mamba_d_state": 128, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_expand": 2,
    "tie_word_embeddings": true, "max_position_embeddings": 131072, "layer_types": [{}], {}}})",
                     types, sizes);
}
const std::string kGraniteTiny = granite(R"("hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 4,
  "mamba_n_heads": 48, "num_local_experts": 64, "num_experts_per_tok": 6, "intermediate_size": 512,
  "shared_intermediate_size": 1024)");
const std::string kGraniteSmall = granite(R"("hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
  "mamba_n_heads": 128, "num_local_experts": 72, "num_experts_per_tok": 10, "intermediate_size": 768,
  "shared_intermediate_size": 1536)");
const std::string kGraniteMicro = granite(R"("hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8,
  "mamba_n_heads": 64, "num_local_experts": 0, "num_experts_per_tok": 0, "intermediate_size": 8192,
  "shared_intermediate_size": 8192)");

// tiiuae/Falcon-H1-0.5B and 7B, ibm-ai-platform/Bamba-9B
const std::string kFalconH1Half = R"({"model_type": "falcon_h1", "hidden_size": 1024, "intermediate_size": 2048,
  "num_hidden_layers": 36, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 32784,
  "mamba_d_ssm": 1536, "mamba_n_heads": 24, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128})";
const std::string kFalconH1 = R"({"model_type": "falcon_h1", "hidden_size": 3072, "intermediate_size": 12288,
  "num_hidden_layers": 44, "num_attention_heads": 12, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 130048,
  "mamba_d_ssm": 3072, "mamba_n_heads": 24, "mamba_d_head": 128, "mamba_n_groups": 1, "mamba_d_state": 256})";
const std::string kBamba = R"({"model_type": "bamba", "hidden_size": 4096, "intermediate_size": 14336,
  "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
  "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128,
  "attn_layer_indices": [9, 18, 27]})";
// nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B and nvidia/Nemotron-H-8B-Base-8K
const std::string kNemotron3 = R"({"model_type": "nemotron_h", "hidden_size": 2688, "num_hidden_layers": 52,
  "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "vocab_size": 131072,
  "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "mamba_num_heads": 64, "mamba_head_dim": 64,
  "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "intermediate_size": 1856, "moe_intermediate_size": 1856,
  "moe_shared_expert_intermediate_size": 3712, "n_routed_experts": 128, "num_experts_per_tok": 6})";
const std::string kNemotronH = R"({"model_type": "nemotron_h", "hidden_size": 4096, "num_hidden_layers": 52,
  "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-", "vocab_size": 131072,
  "num_attention_heads": 32, "num_key_value_heads": 8, "attention_head_dim": 128, "mamba_num_heads": 128,
  "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "intermediate_size": 21504})";
// Qwen/Qwen3-Next-80B-A3B-Instruct
const std::string kQwen3Next = R"({"model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48,
  "vocab_size": 151936, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
  "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
  "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "moe_intermediate_size": 512,
  "shared_expert_intermediate_size": 512, "num_experts": 512, "num_experts_per_tok": 10, "intermediate_size": 5120})";

// RWKV/rwkv-4-169m-pile, RWKV/rwkv-5-world-1b5, RWKV/rwkv-6-world-1b6 and -7b. num_attention_heads is not what it says.
const std::string kRwkv4 = R"({"model_type": "rwkv", "hidden_size": 768, "attention_hidden_size": 768,
  "intermediate_size": 3072, "num_hidden_layers": 12, "vocab_size": 50277, "context_length": 1024})";
const std::string kRwkv5 = R"({"model_type": "rwkv5", "hidden_size": 2048, "attention_hidden_size": 2048,
  "head_size": 64, "num_attention_heads": 64, "intermediate_size": null, "num_hidden_layers": 24,
  "vocab_size": 65536})";
const std::string kRwkv6 = with(kRwkv5, "rwkv5", "rwkv6");
const std::string kRwkv6Large = R"({"model_type": "rwkv6", "hidden_size": 4096, "attention_hidden_size": 4096,
  "head_size": 64, "num_attention_heads": 64, "intermediate_size": null, "num_hidden_layers": 32,
  "vocab_size": 65536})";
// fla-hub/rwkv7-1.5B-world and -2.9B-world
const std::string kRwkv7 = R"({"model_type": "rwkv7", "hidden_size": 2048, "head_dim": 64, "num_heads": 32,
  "hidden_ratio": 4.0, "num_hidden_layers": 24, "vocab_size": 65536, "decay_low_rank_dim": 96,
  "gate_low_rank_dim": 256, "a_low_rank_dim": 96, "v_low_rank_dim": 64, "attn": null})";
const std::string kRwkv7Large = R"({"model_type": "rwkv7", "hidden_size": 2560, "head_dim": 64, "num_heads": 32,
  "intermediate_size": 10240, "num_hidden_layers": 32, "vocab_size": 65536, "decay_low_rank_dim": 96,
  "gate_low_rank_dim": 320, "a_low_rank_dim": 96, "v_low_rank_dim": 64, "value_dim": 2560})";

// Exact: what the hubs count in the files of the checkpoints.
TEST(Recurrent, ParametersOfMambaAreThoseOfTheFiles) {
  EXPECT_EQ(read(kMamba28).parameters().total, 2'768'345'600u);
  EXPECT_EQ(read(kMamba130).parameters().total, 129'135'360u);
  EXPECT_EQ(read(kFalconMamba).parameters().total, 7'272'665'088u);
  expect_near(read(kMamba2).parameters().total, 2.7e9);  // as rounded by its makers
}

TEST(Recurrent, ParametersOfHybridsAreThoseOfTheirMakers) {
  const Architecture::Count jamba = read(kJamba).parameters();
  EXPECT_EQ(jamba.total, 51'570'323'328u);  // of the files
  EXPECT_EQ(jamba.active / 1'000'000'000, 12u);
  EXPECT_EQ(read(kFalconH1Half).parameters().total, 521'411'104u);  // of the files
  expect_near(read(kFalconH1).parameters().total, 7.59e9);
  expect_near(read(kBamba).parameters().total, 9.78e9);
  const Architecture::Count nemotron = read(kNemotron3).parameters();
  expect_near(nemotron.total, 31.6e9);
  EXPECT_NEAR(static_cast<double>(nemotron.active), 3.6e9, 0.05e9);
  expect_near(read(kNemotronH).parameters().total, 8.1e9);
  // "80B in total", of which the files' layer for further tokens is not ours.
  expect_near(read(kQwen3Next).parameters().total, 79.67e9);
}

// "32B, 9B active", "7B, 1B active", "3.2B" (the model cards): rounded far more than half a percent.
TEST(Recurrent, ParametersOfGraniteRoundToTheClaims) {
  const Architecture::Count small = read(kGraniteSmall).parameters(), tiny = read(kGraniteTiny).parameters();
  EXPECT_NEAR(static_cast<double>(small.total), 32e9, 0.5e9);
  EXPECT_NEAR(static_cast<double>(small.active), 9e9, 0.5e9);
  EXPECT_NEAR(static_cast<double>(tiny.total), 7e9, 0.5e9);
  EXPECT_NEAR(static_cast<double>(tiny.active), 1e9, 0.5e9);
  const Architecture::Count micro = read(kGraniteMicro).parameters();
  expect_near(micro.total, 3.2e9);
  EXPECT_EQ(micro.active, micro.total);
}

// The papers count: 2VD + 13D^2 L + D(11L + 4) (arXiv 2305.13048), 13D^2 L + 14DL + 4D + 2DV and 13D^2 L + 464DL + 4D +
// 2DV (arXiv 2404.05892, Finch of up to 3B), 2DV + 4D + LD(12D + 2(w + a + v + g) + 19) - (2Dv + D) (arXiv 2503.14456).
TEST(Recurrent, ParametersOfRwkvFollowThePapersFormulas) {
  std::uint64_t V = 50277, D = 768, L = 12;
  EXPECT_EQ(read(kRwkv4).parameters().total, 2 * V * D + 13 * D * D * L + D * (11 * L + 4));
  EXPECT_EQ(read(kRwkv4).parameters().total, 169'342'464u);
  V = 65536, D = 2048, L = 24;
  EXPECT_EQ(read(kRwkv5).parameters().total, 13 * D * D * L + 14 * D * L + 4 * D + 2 * D * V);
  EXPECT_EQ(read(kRwkv6).parameters().total, 13 * D * D * L + 464 * D * L + 4 * D + 2 * D * V);
  const std::uint64_t w = 96, a = 96, v = 64, g = 256;
  EXPECT_EQ(read(kRwkv7).parameters().total,
            2 * D * V + 4 * D + L * D * (12 * D + 2 * (w + a + v + g) + 19) - (2 * D * v + D));
}

TEST(Recurrent, ParametersOfRwkvAreThePublishedOnes) {
  expect_near(read(kRwkv5).parameters().total, 1.58e9);
  expect_near(read(kRwkv6).parameters().total, 1.60e9);
  expect_near(read(kRwkv6Large).parameters().total, 7.64e9);
  EXPECT_EQ(read(kRwkv7).parameters().total, 1'527'404'544u);       // table 2 of arXiv 2503.14456
  EXPECT_EQ(read(kRwkv7Large).parameters().total, 2'947'735'040u);  // the same
}

TEST(Recurrent, ShapesAreThoseOfTheCheckpoints) {
  auto mamba = tensors_of(read(kMamba28));
  const TensorGroup& x = mamba["layers.*.mixer.x_proj.weight"];
  EXPECT_EQ(x.rows, 160u + 2 * 16);
  EXPECT_EQ(x.cols, 5120u);
  EXPECT_EQ(x.count, 64u);
  EXPECT_TRUE(x.matrix);
  EXPECT_EQ(mamba["layers.*.mixer.A_log"].cols, 16u);
  EXPECT_FALSE(mamba["layers.*.mixer.A_log"].matrix);
  EXPECT_EQ(mamba.count("lm_head.weight"), 0u);

  EXPECT_EQ(tensors_of(read(kFalconMamba)).count("lm_head.weight"), 1u);
  EXPECT_EQ(tensors_of(read(kMamba2))["layers.*.mixer.in_proj.weight"].rows, 10'576u);

  auto granite = tensors_of(read(kGraniteTiny));
  const TensorGroup& experts = granite["layers.*.block_sparse_moe.input_linear.*.weight"];
  EXPECT_EQ(experts.rows, 2u * 512);
  EXPECT_EQ(experts.count, 40u * 64);
  EXPECT_EQ(experts.active, 6u);
  EXPECT_EQ(experts.of, 64u);
  EXPECT_EQ(granite["layers.*.self_attn.k_proj.weight"].rows, 4u * 128);
  EXPECT_EQ(granite["layers.*.self_attn.k_proj.weight"].count, 4u);
  EXPECT_EQ(granite["layers.*.block_sparse_moe.router.layer.weight"].active,
            granite["layers.*.block_sparse_moe.router.layer.weight"].of);

  EXPECT_EQ(tensors_of(read(kRwkv6))["blocks.*.attention.time_decay_w1"].cols, 64u);
  EXPECT_EQ(tensors_of(read(kRwkv6Large))["blocks.*.attention.time_decay_w1"].cols, 128u);
  EXPECT_EQ(tensors_of(read(kRwkv6))["blocks.*.feed_forward.key.weight"].rows, 7168u);
  EXPECT_EQ(tensors_of(read(kRwkv7))["layers.*.attn.v_lora.lora.0.weight"].count, 23u);
  EXPECT_EQ(tensors_of(read(kQwen3Next))["layers.*.self_attn.q_proj.weight"].rows, 2u * 16 * 256);  // and the gate
}

TEST(Recurrent, MemoryDoesNotDependOnTheContext) {
  const Architecture mamba = read(kMamba28);
  EXPECT_EQ(mamba.attention_layers(), 0u);
  EXPECT_EQ(mamba.recurrent_layers(), 64u);
  EXPECT_EQ(mamba.context_max, 0u);
  EXPECT_EQ(memory_of(mamba).state * sizeof(float), 64u * 5120 * 16 * 4);  // 20 MiB
  EXPECT_EQ(memory_of(mamba).conv * sizeof(float), 64u * 5120 * 3 * 4);
  EXPECT_EQ(memory_of(mamba).keys_and_values, 0u);

  const Architecture jamba = read(kJamba), longer = read(with(kJamba, "262144", "1048576"));
  EXPECT_NE(jamba.context_max, longer.context_max);
  EXPECT_EQ(memory_of(jamba).state, memory_of(longer).state);
  EXPECT_EQ(memory_of(jamba).conv, memory_of(longer).conv);
  EXPECT_EQ(memory_of(jamba).state, 28u * 8192 * 16);
  EXPECT_EQ(memory_of(jamba).keys_and_values, 4u * 8 * (128 + 128));
}

TEST(Recurrent, MemoryOfEachKindOfMixer) {
  EXPECT_EQ(memory_of(read(kMamba2)).state, 64u * 80 * 64 * 128);
  EXPECT_EQ(memory_of(read(kMamba2)).conv, 64u * (5120 + 2 * 128) * 3);
  EXPECT_EQ(memory_of(read(kRwkv4)).state + memory_of(read(kRwkv4)).conv, 12u * 5 * 768);
  EXPECT_EQ(memory_of(read(kRwkv4)).conv, 12u * 2 * 768);
  EXPECT_EQ(memory_of(read(kRwkv6Large)).state * sizeof(float), 32u * 64 * 64 * 64 * 4);  // 32 MiB
  EXPECT_EQ(memory_of(read(kRwkv5)).state, 24u * 32 * 64 * 64);
  EXPECT_EQ(memory_of(read(kRwkv7)).state, 24u * 32 * 64 * 64);
  EXPECT_EQ(memory_of(read(kRwkv7)).conv, 24u * 2 * 2048);
  EXPECT_EQ(memory_of(read(kQwen3Next)).state, 36u * 32 * 128 * 128);
  EXPECT_EQ(memory_of(read(kQwen3Next)).conv, 36u * (2 * 2048 + 4096) * 3);
  EXPECT_EQ(memory_of(read(kQwen3Next)).keys_and_values, 12u * 2 * 512);

  const Architecture falcon = read(kFalconH1);  // both kinds in each layer
  EXPECT_EQ(falcon.attention_layers(), 44u);
  EXPECT_EQ(falcon.recurrent_layers(), 44u);
  EXPECT_EQ(memory_of(falcon).state, 44u * 24 * 128 * 256);
  EXPECT_EQ(memory_of(falcon).keys_and_values, 44u * 2 * 256);
}

TEST(Recurrent, LayersStandWhereTheConfigPutsThem) {
  const Architecture granite = read(kGraniteSmall), nemotron = read(kNemotron3), bamba = read(kBamba);
  ASSERT_EQ(granite.layers.size(), 40u);
  EXPECT_EQ(granite.layers[4].kind, "mamba2");
  EXPECT_EQ(granite.layers[5].kind, "attention");
  EXPECT_EQ(granite.attention_layers(), 4u);
  EXPECT_EQ(granite.recurrent_layers(), 36u);
  ASSERT_EQ(nemotron.layers.size(), 52u);
  EXPECT_EQ(nemotron.layers[1].kind, "experts");
  EXPECT_EQ(nemotron.layers[5].kind, "attention");
  EXPECT_EQ(nemotron.attention_layers(), 6u);
  EXPECT_EQ(nemotron.recurrent_layers(), 23u);
  EXPECT_EQ(bamba.layers[18].kind, "attention");
  EXPECT_EQ(bamba.attention_layers(), 3u);
  EXPECT_EQ(read(kJamba).layers[4].kind, "attention");
  EXPECT_EQ(read(kQwen3Next).layers[3].kind, "attention");
  EXPECT_EQ(read(kQwen3Next).layers[4].kind, "delta rule");
}

TEST(Recurrent, WidestMomentOfALayer) {
  // Residual and normed input; in_proj, x_proj, dt_proj; the convolved copy; what goes to out_proj.
  EXPECT_EQ(read(kMamba28).widest_values, 2u * 2560 + (2 * 5120 + 192 + 5120) + 5120 + 5120);
  EXPECT_EQ(read(kJamba).widest_values, 2u * 4096 + 2 * 2 * 14336 + 16);          // two experts and the router
  EXPECT_EQ(read(kRwkv5).widest_values, 2u * 2048 + 4 * 2048 + 2048 + 2048);      // time mixing, over 7168 + 2048
  EXPECT_EQ(read(kNemotronH).widest_values, 2u * 4096 + 18'560 + 10'240 + 8192);  // Mamba-2, over 21504
}

TEST(Recurrent, AbsentFieldsAreWhatTheModelsClassAssumes) {
  EXPECT_TRUE(read(kMamba130).tied_head);
  EXPECT_FALSE(read(kRwkv4).tied_head);
  EXPECT_EQ(read(kMamba28).native_weights, "fp32");
  EXPECT_EQ(read(kMamba130).native_weights, "");
  // 3.5 times 2048 and 4 times 768, as the code without intermediate_size has it.
  EXPECT_EQ(read(with(kRwkv5, "null", "7168")).parameters().total, read(kRwkv5).parameters().total);
  EXPECT_EQ(read(with(kRwkv4, "3072", "null")).parameters().total, read(kRwkv4).parameters().total);
  EXPECT_EQ(read(with(kMamba28, "\"time_step_rank\": 160,", "")).parameters().total, 2'768'345'600u);
}

struct Refused {
  std::string config, field, said;
};

TEST(Recurrent, AbsentAndAbsurdFieldsAreNamed) {
  const Refused cases[] = {
      {with(kMamba28, "\"hidden_size\": 2560,", ""), "hidden_size", "is missing"},
      {with(kMamba28, "\"vocab_size\": 50280,", ""), "vocab_size", "is missing"},
      {with(kMamba28, "2560", "-2560"), "hidden_size", "is -2560"},
      {with(kMamba28, "2560", "0"), "hidden_size", "is 0"},
      {with(kMamba28, "2560", "2560.5"), "hidden_size", "is 2560.5"},
      {with(kMamba28, "2560", "99999999"), "hidden_size", "is 99999999"},
      {with(kMamba28, "64", "100000"), "num_hidden_layers", "is 100000"},
      {with(kMamba28, "160", "\"high\""), "time_step_rank", "\"auto\""},
      {with(kMamba28, "\"use_bias\": false", "\"use_bias\": 0"), "use_bias", "true or false"},
      {with(kMamba28, "\"conv_kernel\": 4", "\"conv_kernel\": 5000"), "conv_kernel", "is 5000"},
      {with(kJamba, "\"mamba_expand\": 2", "\"mamba_expand\": 1e3"), "mamba_expand", "1"},
      {with(kFalconH1, "\"mamba_d_ssm\": 3072,", ""), "mamba_d_ssm", "is missing"},
      {with(kNemotron3, "\"n_routed_experts\": 128,", ""), "n_routed_experts", "is missing"},
      {with(kRwkv7, "\"gate_low_rank_dim\": 256,", ""), "gate_low_rank_dim", "is missing"},
      {with(kRwkv7, "4.0", "-4.0"), "hidden_ratio", "-4"},
      {with(kRwkv7, "4.0", "1e-9"), "hidden_ratio", "1e-09"},
      {with(kRwkv5, "\"num_hidden_layers\": 24", "\"num_hidden_layers\": \"24\""), "num_hidden_layers", "\"24\""},
  };
  for (const Refused& refused : cases) {
    const std::string message = refusal(refused.config);
    EXPECT_NE(message.find(refused.field), std::string::npos) << refused.field << ": " << message;
    EXPECT_NE(message.find(refused.said), std::string::npos) << refused.said << ": " << message;
  }
}

TEST(Recurrent, ContradictionsAreNamed) {
  const Refused cases[] = {
      {with(kMamba2, "\"head_dim\": 64", "\"head_dim\": 60"), "num_heads (80) times head_dim (60)", "5120"},
      {with(kMamba2, "\"n_groups\": 1", "\"n_groups\": 3"), "n_groups", "num_heads (80)"},
      {with(kJamba, "\"attn_layer_offset\": 4", "\"attn_layer_offset\": 8"), "attn_layer_offset", "attn_layer_period"},
      {with(kJamba, "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 17"), "num_experts_per_tok", "16"},
      {with(kJamba, "\"num_key_value_heads\": 8", "\"num_key_value_heads\": 5"), "num_key_value_heads", "32"},
      {with(kJamba, "\"num_attention_heads\": 32", "\"num_attention_heads\": 24"), "num_attention_heads", "4096"},
      {with(kGraniteTiny, "\"mamba\", ", ""), "layer_types", "39"},
      {with(kGraniteTiny, "\"mamba\"", "\"rwkv\""), "layer_types", "\"rwkv\""},
      {with(kGraniteTiny, "\"mamba_d_head\": 64", "\"mamba_d_head\": 32"), "mamba_d_head", "64"},
      {with(kGraniteTiny, "\"mamba_n_heads\": 48", "\"mamba_n_heads\": 50"), "mamba_n_heads", "3072"},
      {with(kGraniteTiny, "\"num_experts_per_tok\": 6", "\"num_experts_per_tok\": 65"), "num_experts_per_tok", "64"},
      {with(kBamba, "27", "32"), "attn_layer_indices", "32"},
      {with(kNemotron3, "MEMEM*", "MEMEMX"), "hybrid_override_pattern", "\"X\""},
      {with(kNemotron3, "MEMEM*", "MEMEM"), "hybrid_override_pattern", "51"},
      {with(kNemotron3, "\"num_experts_per_tok\": 6", "\"num_experts_per_tok\": 129"), "num_experts_per_tok", "128"},
      {with(kQwen3Next, "\"num_experts_per_tok\": 10", "\"num_experts_per_tok\": 513"), "num_experts_per_tok", "512"},
      {with(kQwen3Next, "\"linear_num_key_heads\": 16", "\"linear_num_key_heads\": 5"), "linear_num_key_heads", "32"},
      {with(kRwkv5, "\"head_size\": 64", "\"head_size\": 60"), "head_size", "2048"},
      {with(kRwkv5, "\"attention_hidden_size\": 2048", "\"attention_hidden_size\": 1024"), "attention_hidden_size",
       "2048"},
      {with(kRwkv6, "\"vocab_size\"", "\"expand_k\": 0.5, \"vocab_size\""), "expand_k", "not known"},
      {with(kRwkv7, "\"attn\": null", "\"attn\": {\"layers\": [3]}"), "attn", "not known"},
      {with(kRwkv7Large, "\"value_dim\": 2560", "\"value_dim\": [5120]"), "value_dim", "2560"},
      {with(kRwkv7, "\"head_dim\": 64", "\"head_dim\": 60"), "head_dim", "2048"},
  };
  for (const Refused& refused : cases) {
    const std::string message = refusal(refused.config);
    EXPECT_NE(message.find(refused.field), std::string::npos) << refused.field << ": " << message;
    EXPECT_NE(message.find(refused.said), std::string::npos) << refused.said << ": " << message;
  }
}

// Each field within its own bounds, and the product beyond 64 bits.
TEST(Recurrent, ASizeThatOverflowsIsAnError) {
  const std::string message = refusal(R"({"model_type": "mamba", "hidden_size": 2097152, "num_hidden_layers": 4096,
    "vocab_size": 2097152, "expand": 64, "state_size": 65536})");
  EXPECT_NE(message.find("layers.*.mixer.in_proj.weight"), std::string::npos) << message;
}

TEST(Recurrent, MoreLayersAreMoreOfEverything) {
  const std::string whole[] = {kMamba28, kMamba2,     kFalconMamba, kJamba,    kFalconH1,
                               kRwkv4,   kRwkv6Large, kRwkv7,       kQwen3Next};
  EXPECT_TRUE(rc::check("parameters, state and layers grow with num_hidden_layers", [&] {
    const std::string& config = whole[*rc::gen::inRange<std::size_t>(0, std::size(whole))];
    const auto layers = *rc::gen::inRange<std::uint64_t>(1, 200);
    const auto more = layers + *rc::gen::inRange<std::uint64_t>(1, 50);
    const auto of = [&](std::uint64_t count) {
      const std::size_t from = config.find("\"num_hidden_layers\": ") + 21;
      return read(std::string(config).replace(from, config.find(',', from) - from, std::to_string(count)));
    };
    const Architecture few = of(layers), many = of(more);
    RC_ASSERT(few.layers.size() == layers);
    RC_ASSERT(many.layers.size() == more);
    RC_ASSERT(few.parameters().total < many.parameters().total);
    RC_ASSERT(few.parameters().active < many.parameters().active);
    RC_ASSERT(few.parameters().active <= few.parameters().total);
    const Memory less = memory_of(few), grown = memory_of(many);
    RC_ASSERT(less.state + less.keys_and_values < grown.state + grown.keys_and_values);
    RC_ASSERT(less.state <= grown.state && less.conv <= grown.conv);
    RC_ASSERT(few.hidden_size == many.hidden_size);
  }));
}

}  // namespace
}  // namespace axon
