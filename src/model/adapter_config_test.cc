#include "model/adapter_config.h"

#include <gtest/gtest.h>

#include <cmath>

namespace axon {
namespace {

constexpr std::string_view kPeft = R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16)";

Result<AdapterConfig> parse(std::string_view text) { return parse_adapter_config(text, "adapter_config.json"); }
Result<AdapterConfig> peft(std::string_view more) { return parse(fmt::format("{}, {}}}", kPeft, more)); }

void expect_refused(const Result<AdapterConfig>& came, ErrorCode code, std::string_view words) {
  ASSERT_FALSE(came.ok()) << words;
  EXPECT_EQ(came.error().code, code) << came.error().message;
  EXPECT_NE(came.error().message.find(words), std::string::npos) << came.error().message;
  EXPECT_TRUE(came.error().message.starts_with("adapter_config.json: ")) << came.error().message;
}

// As PEFT 0.14 saves it.
TEST(AdapterConfig, ReadsPeft) {
  auto came = parse(R"({
    "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "somebody/a-model", "bias": "none",
    "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
    "init_lora_weights": true, "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
    "loftq_config": {}, "lora_alpha": 32, "lora_bias": false, "lora_dropout": 0.05, "megatron_config": null,
    "megatron_core": "megatron.core", "modules_to_save": null, "peft_type": "LORA", "r": 16, "rank_pattern": {},
    "revision": null, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "use_dora": true,
    "use_rslora": false})");
  ASSERT_TRUE(came.ok()) << came.error().message;
  const AdapterConfig& c = came.value();
  EXPECT_EQ(c.form, AdapterForm::kPeft);
  EXPECT_EQ(c.rank, 16u);
  EXPECT_TRUE(c.dora);
  EXPECT_EQ(c.dropout, 0.05);
  EXPECT_EQ(c.base_model, "somebody/a-model");
  EXPECT_EQ(c.scale_of("layer_0.ssm.in_proj"), 2.0);
}

// As mlx_lm.lora saves it, less what it does not use itself.
TEST(AdapterConfig, ReadsMlxLm) {
  auto came = parse(R"({"adapter_path": "adapters", "batch_size": 4, "fine_tune_type": "dora", "iters": 1000,
    "learning_rate": 1e-05, "lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0}, "lr_schedule": null,
    "model": "a-model", "num_layers": 16, "optimizer": "adam", "seed": 0})");
  ASSERT_TRUE(came.ok()) << came.error().message;
  EXPECT_EQ(came.value().form, AdapterForm::kMlxLm);
  EXPECT_TRUE(came.value().dora);
  EXPECT_EQ(came.value().rank_of("anything"), 8u);
  EXPECT_EQ(came.value().scale_of("anything"), 20.0);
  EXPECT_EQ(came.value().base_model, "a-model");
}

TEST(AdapterConfig, ScaleOfRankAndAlpha) {
  AdapterConfig c = peft(R"("use_rslora": true)").value();
  EXPECT_DOUBLE_EQ(c.scale_of("x"), 16 / std::sqrt(8.0));
  c = peft(R"("rank_pattern": {"q_proj": 4, "^layer_1\\.ssm\\.in_proj$": 2}, "alpha_pattern": {"q_proj": 6})").value();
  EXPECT_EQ(c.rank_of("layer_2.attention.q_proj"), 4u);
  EXPECT_EQ(c.rank_of("layer_2.attention.xq_proj"), 8u);
  EXPECT_EQ(c.rank_of("layer_1.ssm.in_proj"), 2u);
  EXPECT_EQ(c.scale_of("layer_2.attention.q_proj"), 1.5);
  EXPECT_EQ(c.scale_of("layer_1.ssm.in_proj"), 8.0);
  EXPECT_EQ(c.scale_of("input_proj"), 2.0);
}

TEST(AdapterConfig, RefusesWhatItCannotMean) {
  const ErrorCode corrupt = ErrorCode::kCorrupt, unsupported = ErrorCode::kUnsupported;
  expect_refused(parse("{}"), corrupt, "neither PEFT's (it has peft_type) nor mlx-lm's");
  expect_refused(parse("[]"), corrupt, "neither PEFT's");
  expect_refused(parse(R"({"peft_type": "LORA")"), corrupt, "");
  expect_refused(parse(R"({"peft_type": "LOHA"})"), unsupported, R"(peft_type is "LOHA": only LORA)");
  expect_refused(parse(R"({"peft_type": 3})"), unsupported, "peft_type is 3");
  expect_refused(parse(R"({"peft_type": "LORA", "lora_alpha": 1})"), corrupt,
                 "r is missing, expected a whole number from 1 to 65536");
  for (const char* r : {"0", "-1", "65537", "1.5", "\"8\"", "true"}) {
    expect_refused(parse(fmt::format(R"({{"peft_type": "LORA", "lora_alpha": 1, "r": {}}})", r)), corrupt,
                   fmt::format("r is {}, expected", r));
  }
  expect_refused(parse(R"({"peft_type": "LORA", "r": 8})"), corrupt, "lora_alpha is missing, expected a number");
  expect_refused(parse(R"({"peft_type": "LORA", "r": 8, "lora_alpha": "16"})"), corrupt, R"(lora_alpha is "16")");
  expect_refused(peft(R"("use_dora": 1)"), corrupt, "use_dora is 1, expected true or false");
  expect_refused(peft(R"("lora_dropout": 1.0)"), corrupt, "lora_dropout is");
  expect_refused(peft(R"("bias": "all")"), unsupported, R"(bias is "all")");
  expect_refused(peft(R"("modules_to_save": ["lm_head"])"), unsupported, "modules_to_save is");
  expect_refused(peft(R"("lora_bias": true)"), unsupported, "lora_bias is true");
  expect_refused(peft(R"("init_lora_weights": "pissa_niter_4")"), unsupported, "changes the model's own weights");
  EXPECT_TRUE(peft(R"("init_lora_weights": "gaussian")").ok());
  expect_refused(peft(R"("rank_pattern": {".*q_proj": 4})"), unsupported,
                 "rank_pattern has \".*q_proj\": a layer's name is understood there");
  expect_refused(peft(R"("rank_pattern": {"q_proj": 0})"), corrupt, "rank_pattern has 0 for \"q_proj\"");
  expect_refused(peft(R"("alpha_pattern": {"q_proj": "x"})"), corrupt, "alpha_pattern has \"x\" for \"q_proj\"");
  expect_refused(peft(R"("alpha_pattern": [1])"), corrupt, "alpha_pattern is a list of 1, expected an object");
  expect_refused(parse(R"({"fine_tune_type": "full", "lora_parameters": {}})"), unsupported, "fine_tune_type is");
  expect_refused(parse(R"({"fine_tune_type": "lora"})"), corrupt, "lora_parameters is missing");
  expect_refused(parse(R"({"lora_parameters": {"rank": 8}})"), corrupt, "lora_parameters.scale is missing");
  expect_refused(parse(R"({"lora_parameters": {"scale": 8}})"), corrupt, "lora_parameters.rank is missing");
  expect_refused(parse(R"({"lora_parameters": 8})"), corrupt, "lora_parameters is 8");
}

TEST(AdapterConfig, SurvivesBeingWritten) {
  AdapterConfig config = peft(R"("use_dora": true, "lora_dropout": 0.1, "base_model_name_or_path": "a \"b\"")").value();
  config.rank_pattern = {{"layer_0.ssm.in_proj", 4}};
  config.alpha_pattern = {{"layer_0.ssm.in_proj", 0.1}};
  const std::string text = to_json({.config = config, .targets = {"layer_0.ssm.in_proj", "input_proj"}});
  const AdapterConfig again = parse(text).value();
  EXPECT_EQ(again.base_model, config.base_model);
  EXPECT_EQ(again.dropout, 0.1);
  EXPECT_TRUE(again.dora);
  EXPECT_EQ(again.rank_pattern, config.rank_pattern);
  EXPECT_EQ(again.alpha_pattern, config.alpha_pattern);
  // Exactly these words: PEFT reads them without a default.
  for (const char* line : {R"("peft_type": "LORA",)", R"("r": 8,)", R"("lora_alpha": 16,)", R"("bias": "none",)",
                           R"("task_type": "CAUSAL_LM",)", R"("fan_in_fan_out": false,)",
                           R"("target_modules": ["layer_0.ssm.in_proj", "input_proj"],)"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  AdapterConfig mlx;
  mlx.form = AdapterForm::kMlxLm;
  mlx.rank = 8, mlx.scale = 2.5;
  const std::string mlx_text = to_json({.config = mlx, .targets = {"ssm.in_proj"}, .layers = 6});
  EXPECT_EQ(parse(mlx_text).value().scale, 2.5);
  EXPECT_NE(mlx_text.find(R"("num_layers": 6,)"), std::string::npos) << mlx_text;
  EXPECT_NE(mlx_text.find(R"("keys": ["ssm.in_proj"])"), std::string::npos) << mlx_text;
}

}  // namespace
}  // namespace axon
