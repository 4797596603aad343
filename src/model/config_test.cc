#include "model/config.h"

#include <gtest/gtest.h>

#include <map>

#include "model/tensors.h"
#include "model/weight_format.h"

namespace axon {
namespace {

// The nano config with some values replaced ("" leaves the key out), and text put before the closing brace.
std::string json_with(const std::map<std::string, std::string>& changes, const std::string& more = "") {
  std::map<std::string, std::string> values = {{"vocab_size", "8192"},
                                               {"hidden_dim", "320"},
                                               {"num_layers", "12"},
                                               {"num_heads", "4"},
                                               {"d_source_model", "256"},
                                               {"ssm_d_state", "16"},
                                               {"ssm_d_conv", "4"},
                                               {"ssm_expand", "3"},
                                               {"ssm_scan_step", "64"},
                                               {"swa_window_size", "512"},
                                               {"moe_num_experts", "8"},
                                               {"moe_top_k", "2"},
                                               {"moe_intermediate_dim", "320"},
                                               {"moe_shared_expert", "true"},
                                               {"weight_tying", "true"},
                                               {"max_seq_len", "65536"},
                                               {"rms_norm_eps", "1e-06"}};
  for (const auto& [key, value] : changes) values[key] = value;
  std::string out = "{";
  for (const auto& [key, value] : values) {
    if (!value.empty()) out += (out.size() > 1 ? ", \"" : "\"") + key + "\": " + value;
  }
  return out + more + "}";
}

// The whole message, so that it names the file once, the key, what was expected and what came.
void expect_refused(const std::string& json, const std::string& message, ErrorCode code = ErrorCode::kInvalidArgument) {
  const auto config = parse_config(json, "config.json");
  ASSERT_FALSE(config.ok()) << "accepted: " << json;
  EXPECT_EQ(config.error().message, "config.json: " + message);
  EXPECT_EQ(config.error().code, code) << message;
}

TEST(Config, ReadsEveryField) {
  const auto parsed = parse_config(json_with({}), "config.json");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_TRUE(Result<Config>(parsed).value() == preset("nano").value());
  const Config odd{.vocab_size = 11,
                   .hidden_dim = 12,
                   .num_layers = 13,
                   .num_heads = 3,
                   .d_source_model = 14,
                   .ssm_d_state = 15,
                   .ssm_d_conv = 16,
                   .ssm_expand = 5,
                   .ssm_scan_step = 17,
                   .swa_window_size = 18,
                   .moe_num_experts = 19,
                   .moe_top_k = 6,
                   .moe_intermediate_dim = 20,
                   .moe_shared_expert = true,
                   .weight_tying = false,
                   .max_seq_len = 21,
                   .rms_norm_eps = 0.125};
  EXPECT_TRUE(parse_config(to_json(odd), "odd").value() == odd);
}

TEST(Config, ScanStepMayBeLeftOutAndForeignKeysPassedOver) {
  EXPECT_EQ(parse_config(json_with({{"ssm_scan_step", ""}}), "c").value().ssm_scan_step, 64u);
  const auto config = parse_config(
      json_with(
          {}, R"(, "model_type": "bit_axon", "architectures": ["BitAxon"], "torch_dtype": null,)"
              R"( "quantization": {"group_size": 64, "bits": 4, "layer_0": {"hidden_dim": -1}}, "dtype": "bfloat16")"),
      "c");
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(Result<Config>(config).value().hidden_dim, 320u);
}

TEST(Config, EveryOtherKeyIsRequired) {
  for (const char* key : {"vocab_size", "hidden_dim", "num_layers", "num_heads", "d_source_model", "ssm_d_state",
                          "ssm_d_conv", "ssm_expand", "swa_window_size", "moe_num_experts", "moe_top_k",
                          "moe_intermediate_dim", "moe_shared_expert", "weight_tying", "max_seq_len", "rms_norm_eps"}) {
    expect_refused(json_with({{key, ""}}), fmt::format("key {} is missing", key));
  }
}

TEST(Config, RefusesUnknownAndDoubledKeys) {
  expect_refused(json_with({}, R"(, "hiden_dim": 320)"), R"(unknown key "hiden_dim")");
  expect_refused(json_with({}, R"(, "hidden_dim": 320)"), "key hidden_dim comes twice");
  expect_refused(json_with({}, R"(, "rope_theta": {"a": 1})"), R"(unknown key "rope_theta")");
  expect_refused(json_with({}, R"(, "model_type": "llama")"),
                 R"(model_type "llama" is not one this program runs (bit_axon))", ErrorCode::kUnsupported);
}

TEST(Config, RefusesWrongTypes) {
  expect_refused(json_with({{"hidden_dim", "\"320\""}}), "hidden_dim must be a whole number, but is a string");
  expect_refused(json_with({{"hidden_dim", "320.0"}}), "hidden_dim must be a whole number, but is a fraction");
  expect_refused(json_with({{"hidden_dim", "0.5"}}), "hidden_dim must be a whole number, but is a fraction");
  expect_refused(json_with({{"hidden_dim", "null"}}), "hidden_dim must be a whole number, but is null");
  expect_refused(json_with({{"hidden_dim", "true"}}), "hidden_dim must be a whole number, but is true or false");
  expect_refused(json_with({{"hidden_dim", "[320]"}}), "hidden_dim must be a whole number, but is an array");
  expect_refused(json_with({{"hidden_dim", "{}"}}), "hidden_dim must be a whole number, but is an object");
  expect_refused(json_with({{"weight_tying", "1"}}), "weight_tying must be true or false, but is a number");
  expect_refused(json_with({{"weight_tying", "\"yes\""}}), "weight_tying must be true or false, but is a string");
  expect_refused(json_with({{"rms_norm_eps", "\"1e-6\""}}), "rms_norm_eps must be a number, but is a string");
}

TEST(Config, RefusesNumbersOutOfRange) {
  expect_refused(json_with({{"num_layers", "0"}}), "num_layers must be from 1 to 1024, but is 0");
  expect_refused(json_with({{"num_layers", "1025"}}), "num_layers must be from 1 to 1024, but is 1025");
  expect_refused(json_with({{"swa_window_size", "-1"}}), "swa_window_size must be positive, but is -1");
  expect_refused(json_with({{"vocab_size", "18446744073709551615"}}),
                 "vocab_size must be from 1 to 16777216, but is 18446744073709551615");
  expect_refused(json_with({{"vocab_size", "18446744073709551616"}}),
                 "vocab_size must be a whole number, but is a fraction");
  expect_refused(json_with({{"rms_norm_eps", "-1e-6"}}), "rms_norm_eps must be above 0 and at most 1, but is -1e-06");
  expect_refused(json_with({{"rms_norm_eps", "0"}}), "rms_norm_eps must be above 0 and at most 1, but is 0");
  expect_refused(json_with({{"rms_norm_eps", "2"}}), "rms_norm_eps must be above 0 and at most 1, but is 2");
  for (const char* key : {"vocab_size", "hidden_dim", "num_layers", "num_heads", "d_source_model", "ssm_d_state",
                          "ssm_d_conv", "ssm_expand", "ssm_scan_step", "swa_window_size", "moe_num_experts",
                          "moe_top_k", "moe_intermediate_dim", "max_seq_len"}) {
    for (const char* value : {"0", "-7", "1.5", "4294967296"}) {
      EXPECT_FALSE(parse_config(json_with({{key, value}}), "c").ok()) << key << " = " << value;
    }
  }
}

TEST(Config, RefusesContradictions) {
  expect_refused(json_with({{"num_heads", "3"}}), "hidden_dim 320 is not a multiple of num_heads 3");
  expect_refused(json_with({{"moe_top_k", "9"}}), "moe_top_k 9 is more than moe_num_experts 8");
  expect_refused(json_with({{"moe_shared_expert", "false"}}),
                 "moe_shared_expert is false, but every model of this family has one", ErrorCode::kUnsupported);
  expect_refused(json_with({{"hidden_dim", "262144"},
                            {"num_layers", "1024"},
                            {"moe_num_experts", "1024"},
                            {"moe_intermediate_dim", "1048576"}}),
                 "the shapes multiply to more than 2^46 weights");
}

TEST(Config, KvRotationIsThereOrNot) {
  const Config plain = preset("nano").value();
  Config rotated = plain;
  rotated.kv_rotated = true;
  std::string json = to_json(plain);
  EXPECT_FALSE(parse_config(json, "c").value().kv_rotated);
  EXPECT_EQ(json.find("kv_rotation"), std::string::npos);
  json.replace(json.rfind("\n}"), 1, ",\n  \"kv_rotation\": \"turboquant-1\"\n");
  EXPECT_EQ(to_json(rotated), json);
  EXPECT_TRUE(parse_config(json, "c").value() == rotated);
  EXPECT_FALSE(plain == rotated);

  const auto expect_value_refused = [](const std::string& value, const std::string& came) {
    expect_refused(json_with({{"kv_rotation", value}}), "kv_rotation must be \"turboquant-1\", but is " + came);
  };
  expect_value_refused(R"("turboquant-2")", R"("turboquant-2")");
  expect_value_refused(R"("")", R"("")");
  expect_value_refused("true", "true or false");
  expect_value_refused("1", "a number");
  expect_value_refused("-1", "a number");
  expect_value_refused("null", "null");
  expect_value_refused("{}", "an object");
  expect_refused(json_with({{"kv_rotation", R"("turboquant-1")"}}, R"(, "kv_rotation": "turboquant-1")"),
                 "key kv_rotation comes twice");
  expect_refused(json_with({{"kv_rotation", R"("turboquant-1")"}, {"num_heads", "8"}}),
                 "kv_rotation needs a head_dim that is a multiple of 16, at most 1024, but hidden_dim 320 / "
                 "num_heads 8 is 40");
}

TEST(Config, KvRotationReachesAttention) {
  Config config = preset("nano").value();
  for (const bool rotated : {false, true}) {
    config.kv_rotated = rotated;
    ModelWeights weights;
    std::string in_rows, in_cols;
    for_each_tensor(config, weights, [&](const TensorSpec& spec, TensorSlot) {
      if (spec.heads == Heads::kInRows) in_rows += spec.name + " ";
      if (spec.heads == Heads::kInCols) in_cols += spec.name + " ";
    });
    EXPECT_TRUE(
        in_rows.starts_with("layer_4.attention.q_proj layer_4.attention.k_proj layer_4.attention.v_proj "
                            "layer_5.attention.q_proj "))
        << in_rows;
    EXPECT_EQ(in_cols,
              "layer_4.attention.o_proj layer_5.attention.o_proj layer_6.attention.o_proj "
              "layer_7.attention.o_proj ");
    for (const BlockWeights& block : weights.blocks) {
      if (const auto* swa = std::get_if<SwaWeights>(&block.mixer)) {
        EXPECT_EQ(swa->rotated, rotated);
      }
    }
  }
}

TEST(Config, RefusesWhatIsNoObject) {
  expect_refused("[]", "expected one JSON object");
  expect_refused("7", "expected one JSON object");
  expect_refused("", "not valid JSON at byte 1", ErrorCode::kCorrupt);
  expect_refused(json_with({}) + "x", fmt::format("not valid JSON at byte {}", json_with({}).size() + 1),
                 ErrorCode::kCorrupt);
  expect_refused(json_with({}).substr(0, 40), "not valid JSON at byte 41", ErrorCode::kCorrupt);
  EXPECT_FALSE(
      parse_config(json_with({}, R"(, "quantization": )" + std::string(100, '[') + std::string(100, ']')), "c").ok());
}

// The largest sizes that are let through still multiply within 64 bits.
TEST(Config, CountsTheLargestModel) {
  const auto config = parse_config(json_with({{"hidden_dim", "262144"},
                                              {"num_layers", "3"},
                                              {"moe_num_experts", "1024"},
                                              {"moe_intermediate_dim", "2048"},
                                              {"vocab_size", "16777216"},
                                              {"d_source_model", "262144"},
                                              {"num_heads", "4096"}}),
                                   "c");
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_GT(count_parameters(Result<Config>(config).value()).total, std::uint64_t{1} << 42);
}

TEST(Config, PresetsHaveTheirExactCounts) {
  const auto expect = [](std::string_view name, std::uint64_t total, std::uint64_t active) {
    const ParameterCount count = count_parameters(preset(name).value());
    EXPECT_EQ(count.total, total) << name;
    if (active != 0) {
      EXPECT_EQ(count.active, active) << name;
    }
  };
  expect("3b", 3'218'739'200, 0);
  expect("6b", 5'766'778'880, 2'746'880'000);
  expect("medium", 1'483'874'304, 879'894'528);
  expect("small", 7'571'456, 5'212'160);
  expect("nano", 33'857'792, 0);
  EXPECT_EQ(preset_names().size(), 5u);
  for (const std::string_view name : preset_names()) {
    const Config config = preset(name).value();
    EXPECT_TRUE(check_config(config, name).ok());
    EXPECT_TRUE(parse_config(to_json(config), name).value() == config);
  }
  const auto unknown = preset("7b");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().message, "unknown preset 7b: there are nano, small, medium, 3b and 6b");
}

TEST(Config, RoundTripKeepsEveryBitOfEps) {
  for (const double eps : {1e-6, 1e-5, 0.1, 1.0 / 3.0, 1.0, 1.1754943508222875e-38}) {
    Config config = preset("nano").value();
    config.rms_norm_eps = eps;
    EXPECT_EQ(parse_config(to_json(config), "c").value().rms_norm_eps, eps);
  }
  EXPECT_NE(to_json(preset("nano").value()).find("\n  \"rms_norm_eps\": 1e-06\n}"), std::string::npos);
}

TEST(Config, SettingsReplaceOneValue) {
  const Config nano = preset("nano").value();
  Config expected = nano;
  expected.swa_window_size = 65536;
  EXPECT_TRUE(with_setting(nano, "swa_window_size=65536").value() == expected);
  expected.weight_tying = false;
  EXPECT_TRUE(with_setting(expected, "weight_tying=false").value() == expected);
  EXPECT_EQ(with_setting(nano, "rms_norm_eps=1e-5").value().rms_norm_eps, 1e-5);
  const Config rotated = with_setting(nano, "kv_rotation=turboquant-1").value();
  EXPECT_TRUE(rotated.kv_rotated);
  EXPECT_TRUE(with_setting(rotated, "swa_window_size=64").value().kv_rotated);

  const auto message = [&](const char* setting) {
    const auto result = with_setting(nano, setting);
    return result.ok() ? std::string("accepted") : result.error().message;
  };
  EXPECT_EQ(message("swa_window_size"), "--set swa_window_size: expected KEY=VALUE");
  EXPECT_EQ(message("moe_top_k=9"), "--set moe_top_k=9: moe_top_k 9 is more than moe_num_experts 8");
  EXPECT_EQ(message("moe_top_k=0"), "--set moe_top_k=0: moe_top_k must be from 1 to 1024, but is 0");
  EXPECT_EQ(message("moe_top_k=two").substr(0, 35), "--set moe_top_k=two: not valid JSON");
  EXPECT_EQ(message("kv_rotation=on"), "--set kv_rotation=on: kv_rotation must be \"turboquant-1\", but is \"on\"");
  EXPECT_EQ(message("moe_topk=2").substr(0, 32), "--set moe_topk=2: unknown key; t");
  EXPECT_NE(message("moe_topk=2").find("moe_top_k, moe_intermediate_dim"), std::string::npos);
  for (const char* smuggled :
       {"moe_top_k=2, \"hidden_dim\": 64", "moe_top_k=2}", "moe_top_k=", "moe_top_k=2 // x", "=2"}) {
    EXPECT_FALSE(with_setting(nano, smuggled).ok()) << smuggled;
  }
}

TEST(Config, LayersAreASandwich) {
  const auto names = [](std::uint64_t layers) {
    Config config = preset("nano").value();
    config.num_layers = layers;
    std::string out;
    for (const LayerKind kind : layer_kinds(config)) out += std::string(name_of(kind)) + " ";
    return out;
  };
  EXPECT_EQ(names(1), "ssm_moe ");
  EXPECT_EQ(names(2), "ssm_moe ssm_moe ");
  EXPECT_EQ(names(3), "ssm swa_moe ssm_moe ");
  EXPECT_EQ(names(4), "ssm swa_moe ssm_moe ssm_moe ");
  EXPECT_EQ(names(6), "ssm ssm swa_moe swa_moe ssm_moe ssm_moe ");
}

TEST(WeightFormat, RoundTripAndRefusal) {
  for (const char* text : {"keep", "f32", "f16", "bf16", "q2", "q3", "q4", "q5", "q6", "q8", "q4g32", "q8g128"}) {
    EXPECT_EQ(to_string(parse_weight_format(text).value()), text);
  }
  EXPECT_EQ(to_string(parse_weight_format("q4g64").value()), "q4");
  for (const char* text : {"", "q", "q7", "q1", "q9", "q44", "q4g", "q4g16", "q4g64x", "Q4", "int4", "f64"}) {
    const auto format = parse_weight_format(text);
    ASSERT_FALSE(format.ok()) << text;
    EXPECT_NE(format.error().message.find(std::string("precision ") + text), std::string::npos);
  }
}

}  // namespace
}  // namespace axon
