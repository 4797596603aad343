#include "model/adapter_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "model/adapter_for_test.h"
#include "model/adapter_names.h"
#include "quant/turboquant_rotation.h"

namespace axon {
namespace {

using namespace testing_model;

constexpr AdapterForm kForms[] = {AdapterForm::kPeft, AdapterForm::kMlxLm, AdapterForm::kOriginal};

const Config& config() {
  static const Config c = tiny_config();
  return c;
}

std::string place(const Folder& folder, AdapterForm form) {
  return folder / (form == AdapterForm::kOriginal ? "adapter.safetensors" : "adapter");
}

std::vector<float> values(AdapterSet& set) { return {set.values().begin(), set.values().end()}; }

// Named as PEFT does it, of one layer; with a config.
class PeftFolder {
 public:
  static constexpr const char* kA = "base_model.model.layer_0.ssm.in_proj.lora_A.weight";
  static constexpr const char* kB = "base_model.model.layer_0.ssm.in_proj.lora_B.weight";
  static constexpr const char* kM = "base_model.model.layer_0.ssm.in_proj.lora_magnitude_vector";

  PeftFolder() {
    put(kA, {2, 64});
    put(kB, {256, 2});
  }
  void put(const std::string& name, const std::vector<std::uint64_t>& dims, DType dtype = DType::kF32) {
    std::uint64_t elements = 1;
    for (const std::uint64_t d : dims) elements *= d;
    FileTensor t{dtype, dims, std::vector<std::byte>(elements * size_of(dtype))};
    for (std::uint64_t i = 0; i < elements && dtype != DType::kI32; ++i) {
      store_float(dtype, t.bytes.data(), i, static_cast<float>(i % 7));
    }
    tensors[name] = std::move(t);
  }
  Result<AdapterFiles> open(std::optional<double> scale = {}) const {
    put_file(folder_ / "adapter_config.json", json);
    put_file(folder_ / "adapter_model.safetensors", file_of(tensors));
    return AdapterFiles::open(folder_.path(), config(), scale);
  }
  void refused(ErrorCode code, const std::string& words) const {
    const Result<AdapterFiles> came = open();
    ASSERT_FALSE(came.ok()) << words;
    EXPECT_EQ(came.error().code, code) << came.error().message;
    EXPECT_NE(came.error().message.find(words), std::string::npos) << came.error().message;
  }
  const Folder& folder() const { return folder_; }

  FileTensors tensors;
  std::string json = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8})";

 private:
  Folder folder_;
};

TEST(AdapterFiles, SurviveBeingWritten) {
  for (const AdapterForm form : kForms) {
    for (const AdapterKind kind : {AdapterKind::kLora, AdapterKind::kDora}) {
      const Folder folder;
      HeldAdapter made(some_shape(config(), kind, every_target()));
      made.randomise(1);
      const std::string path = place(folder, form);
      ASSERT_TRUE(write_adapter(path, made.set(), form, config(), {.base_model = "base", .dropout = 0.25}).ok());
      EXPECT_EQ(folder.entries(), 1u);
      EXPECT_EQ(ok(detect_adapter(path)), form);
      const AdapterFiles files = ok(AdapterFiles::open(path, config()));
      EXPECT_EQ(files.form(), form);
      EXPECT_EQ(files.shape().kind, kind);
      EXPECT_EQ(files.shape().scale, 2.0f);
      EXPECT_EQ(files.dropout(), form == AdapterForm::kOriginal ? 0.0 : 0.25);
      HeldAdapter read(files);
      ASSERT_EQ(read.set().shape().linears.size(), made.set().shape().linears.size());
      for (std::size_t i = 0; i < read.set().shape().linears.size(); ++i) {
        EXPECT_EQ(read.set().shape().linears[i].name, made.set().shape().linears[i].name);
        EXPECT_EQ(read.set().shape().linears[i].rank, 3u);
      }
      EXPECT_EQ(values(read.set()), values(made.set())) << name_of(form);
      EXPECT_EQ(files.bytes(), [&] {
        Carver carver;
        AdapterSet(carver, made.set().shape());
        return carver.peak();
      }());
    }
  }
}

TEST(AdapterFiles, AreNamedAndShapedAsTheOthersDo) {
  const Folder folder;
  HeldAdapter made(some_shape(config(), AdapterKind::kDora, {"in_proj", "switch_mlp.down_proj"}));
  made.randomise(1);
  const auto shapes = [&](AdapterForm form) {
    const std::string path = folder / std::string(name_of(form));
    EXPECT_TRUE(write_adapter(path, made.set(), form, config(), {}).ok());
    const Safetensors file = ok(Safetensors::open(path));
    std::map<std::string, std::string> out;
    for (const auto& [name, view] : file.tensors()) out[name] = to_string(view.shape);
    return out;
  };
  auto peft = shapes(AdapterForm::kPeft);
  EXPECT_EQ(peft["base_model.model.layer_0.ssm.in_proj.lora_A.weight"], "[3, 64]");
  EXPECT_EQ(peft["base_model.model.layer_0.ssm.in_proj.lora_B.weight"], "[256, 3]");
  EXPECT_EQ(peft["base_model.model.layer_0.ssm.in_proj.lora_magnitude_vector"], "[256]");
  EXPECT_EQ(peft["base_model.model.layer_2.moe.switch_mlp.down_proj.experts.3.lora_A.weight"], "[3, 64]");
  EXPECT_EQ(peft["base_model.model.layer_2.moe.switch_mlp.down_proj.experts.3.lora_B.weight"], "[64, 3]");
  auto mlx = shapes(AdapterForm::kMlxLm);
  EXPECT_EQ(mlx["layer_0.ssm.in_proj.lora_a"], "[64, 3]");
  EXPECT_EQ(mlx["layer_0.ssm.in_proj.lora_b"], "[3, 256]");
  EXPECT_EQ(mlx["layer_0.ssm.in_proj.m"], "[256]");
  EXPECT_EQ(mlx["layer_2.moe.switch_mlp.down_proj.lora_a"], "[4, 3, 64]");
  EXPECT_EQ(mlx["layer_2.moe.switch_mlp.down_proj.lora_b"], "[4, 64, 3]");
  EXPECT_EQ(mlx["layer_2.moe.switch_mlp.down_proj.m"], "[4, 64]");
}

TEST(AdapterFiles, ReplaceOnlyWhenAsked) {
  const Folder folder;
  HeldAdapter made(some_shape(config(), AdapterKind::kLora, {"q_proj"}));
  for (const AdapterForm form : kForms) {
    const std::string path = place(folder, form);
    made.randomise(1);
    ASSERT_TRUE(write_adapter(path, made.set(), form, config(), {}, Existing::kReplace).ok());
    made.randomise(2);
    EXPECT_EQ(write_adapter(path, made.set(), form, config(), {}).error().code, ErrorCode::kInvalidArgument);
    ASSERT_TRUE(write_adapter(path, made.set(), form, config(), {}, Existing::kReplace).ok());
    HeldAdapter read(ok(AdapterFiles::open(path, config())));
    EXPECT_EQ(values(read.set()), values(made.set()));
    std::filesystem::remove_all(path);
  }
}

TEST(AdapterFiles, SeveralRanksArePatterns) {
  const Folder folder;
  AdapterShape shape = some_shape(config(), AdapterKind::kLora, {"all-linear", "switch_mlp.up_proj"});
  for (AdaptedLinear& linear : shape.linears) {
    if (linear.name.ends_with("v_proj") || linear.name == "layer_3.moe.switch_mlp.up_proj") linear.rank = 5;
  }
  HeldAdapter made(shape);
  made.randomise(1);
  for (const AdapterForm form : {AdapterForm::kPeft, AdapterForm::kOriginal}) {
    const std::string path = place(folder, form);
    ASSERT_TRUE(write_adapter(path, made.set(), form, config(), {}).ok());
    HeldAdapter read(ok(AdapterFiles::open(path, config())));
    EXPECT_EQ(values(read.set()), values(made.set()));
    EXPECT_EQ(read.set().shape().scale, 2.0f);
  }
  const Status refused = write_adapter(folder / "mlx", made.set(), AdapterForm::kMlxLm, config(), {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("mlx-lm has one rank for all"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "mlx"));
}

// One scale for all in memory: what a layer has less is in its B.
TEST(AdapterFiles, ScalesOfLayersAreKept) {
  PeftFolder peft;
  peft.put("base_model.model.input_proj.lora_A.weight", {1, 64});
  peft.put("base_model.model.input_proj.lora_B.weight", {64, 1});
  peft.json = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "rank_pattern": {"input_proj": 1},
                  "alpha_pattern": {"input_proj": 1}})";
  const AdapterFiles files = ok(peft.open());
  EXPECT_EQ(files.shape().scale, 4.0f);
  HeldAdapter read(files);
  ASSERT_EQ(read.set().shape().linears[0].name, "input_proj");
  EXPECT_EQ(read.set().values_of(read.set().tensors()[0])[5], 5.0f);
  EXPECT_EQ(read.set().values_of(read.set().tensors()[1])[5], 1.25f);
  EXPECT_EQ(read.set().values_of(read.set().tensors()[3])[5], 3.0f);  // of rank 0: element 10 of the file
  // What is told counts for all.
  const AdapterFiles told = ok(peft.open(0.5));
  EXPECT_EQ(told.shape().scale, 0.5f);
  HeldAdapter as_stored(told);
  EXPECT_EQ(as_stored.set().values_of(as_stored.set().tensors()[1])[5], 5.0f);
}

TEST(AdapterFiles, HalfPrecisionAndOtherSpellings) {
  PeftFolder peft;
  HeldAdapter wanted(ok(peft.open()));
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    peft.put(PeftFolder::kA, {2, 64}, dtype);
    HeldAdapter read(ok(peft.open()));
    EXPECT_EQ(values(read.set()), values(wanted.set()));
  }
  peft.json = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "use_dora": true})";
  peft.put(std::string(PeftFolder::kM) + ".weight", {256});
  EXPECT_EQ(ok(peft.open()).shape().kind, AdapterKind::kDora);
  peft.put(PeftFolder::kM, {256});
  peft.refused(ErrorCode::kCorrupt, "are the same part");
}

TEST(AdapterFiles, TheOriginalsOwn) {
  const Folder folder;
  FileTensors tensors;
  tensors["inner.input_proj.lora_a"] = {DType::kF32, {64, 2}, std::vector<std::byte>(512)};
  tensors["inner.input_proj.lora_b"] = {DType::kF32, {2, 64}, std::vector<std::byte>(512)};
  std::filesystem::create_directory(folder / "step_00000006");
  put_file(folder / "step_00000006/adapters.safetensors", file_of(tensors));
  put_file(folder / "step_00000006/optimizer_state.safetensors", "not looked at");
  for (const char* path : {"step_00000006", "step_00000006/adapters.safetensors"}) {
    const AdapterFiles files = ok(AdapterFiles::open(folder / path, config()));
    EXPECT_EQ(files.form(), AdapterForm::kOriginal);
    EXPECT_EQ(files.shape().scale, 20.0f);
    EXPECT_EQ(files.shape().kind, AdapterKind::kLora);
    ASSERT_EQ(files.shape().linears.size(), 1u);
    EXPECT_EQ(files.shape().linears[0].rank, 2u);
  }
  EXPECT_EQ(ok(AdapterFiles::open(folder / "step_00000006", config(), 3.0)).shape().scale, 3.0f);
  tensors["inner.input_proj.m"] = {DType::kF32, {64}, std::vector<std::byte>(256)};
  put_file(folder / "dora.safetensors", file_of(tensors));
  EXPECT_EQ(ok(AdapterFiles::open(folder / "dora.safetensors", config())).shape().kind, AdapterKind::kDora);
  tensors["input_proj.m"] = tensors["inner.input_proj.m"];
  put_file(folder / "twice.safetensors", file_of(tensors));
  EXPECT_FALSE(AdapterFiles::open(folder / "twice.safetensors", config()).ok());
}

TEST(AdapterFiles, WhatDoesNotFitIsNamed) {
  const ErrorCode corrupt = ErrorCode::kCorrupt;
  const std::string a = PeftFolder::kA, b = PeftFolder::kB;
  const auto changed = [](auto change, ErrorCode code, const std::string& words) {
    PeftFolder peft;
    change(peft);
    peft.refused(code, words);
  };
  changed([&](PeftFolder& p) { p.tensors.erase(b); }, corrupt,
          "tensor " + b + " (B) is missing, though " + a + " is there");
  changed([&](PeftFolder& p) { p.tensors.erase(a); }, corrupt, "tensor " + a + " (A) is missing");
  changed([&](PeftFolder& p) { p.put(a, {2, 65}); }, corrupt, "is F32 [2, 65], expected F32, F16 or BF16 [2, 64]");
  changed([&](PeftFolder& p) { p.put(b, {2, 256}); }, corrupt, "is F32 [2, 256], expected F32, F16 or BF16 [256, 2]");
  changed([&](PeftFolder& p) { p.put(b, {256, 3}); }, corrupt, "expected F32, F16 or BF16 [256, 2]");
  changed([&](PeftFolder& p) { p.put(a, {64}); }, corrupt, "is F32 [64], expected [rank, 64]");
  changed([&](PeftFolder& p) { p.put(a, {0, 64}); }, corrupt, "expected [rank, 64]");
  changed(
      [&](PeftFolder& p) {
        p.put(a, {3, 64}), p.put(b, {256, 3});
      },
      corrupt, "expected rank 2, as adapter_config.json says");
  changed([&](PeftFolder& p) { p.put(a, {2, 64}, DType::kI32); }, corrupt, "is I32 [2, 64]");
  changed([&](PeftFolder& p) { store_float(DType::kF32, p.tensors[a].bytes.data(), 70, NAN); }, corrupt,
          "element 70 is nan, expected finite values");
  changed([&](PeftFolder& p) { store_float(DType::kF32, p.tensors[b].bytes.data(), 3, -INFINITY); }, corrupt,
          "element 3 is -inf");
  changed(
      [&](PeftFolder& p) {
        p.put("base_model.model.layer_9.ssm.in_proj.lora_A.weight", {2, 64});
      },
      corrupt, "the model has no layer \"layer_9.ssm.in_proj\" that takes an adapter");
  changed([&](PeftFolder& p) { p.put("base_model.model.lm_head.lora_A.weight", {2, 64}); }, corrupt, "\"lm_head\"");
  changed(
      [&](PeftFolder& p) {
        p.put("base_model.model.layer_2.moe.gate.lora_A.weight", {2, 64});
      },
      corrupt, "\"layer_2.moe.gate\"");
  changed(
      [&](PeftFolder& p) {
        p.put("input_proj.lora_a", {64, 2});
      },
      corrupt, "input_proj.lora_a is no part of an adapter in PEFT form, expected base_model.model.NAME.lora_A.weight");
  changed([&](PeftFolder& p) { p.tensors.clear(); }, corrupt, "no tensors");
  changed([&](PeftFolder& p) { p.put(PeftFolder::kM, {256}); }, corrupt,
          "is of DoRA, but adapter_config.json says LoRA");
  const std::string stack = "base_model.model.layer_2.moe.switch_mlp.up_proj";
  changed([&](PeftFolder& p) { p.put(stack + ".lora_A.weight", {2, 64}); }, corrupt, "up_proj\" has 4 experts");
  changed([&](PeftFolder& p) { p.put(stack + ".experts.4.lora_A.weight", {2, 64}); }, corrupt, "has 4 experts");
  changed([&](PeftFolder& p) { p.put(stack + ".experts.03.lora_A.weight", {2, 64}); }, corrupt, "experts.03\"");
  changed(
      [&](PeftFolder& p) {
        p.put(a.substr(0, a.size() - 14) + ".experts.0.lora_A.weight", {2, 64});
      },
      corrupt, "has 0 experts");
  changed(
      [&](PeftFolder& p) {
        for (const char* e : {"0", "1", "3"}) {
          p.put(stack + ".experts." + e + ".lora_A.weight", {2, 64});
          p.put(stack + ".experts." + e + ".lora_B.weight", {64, 2});
        }
      },
      corrupt, "up_proj.experts.2.lora_A.weight (A) is missing");
  changed([&](PeftFolder& p) { p.json = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "use_dora": true})"; },
          corrupt, std::string(PeftFolder::kM) + " (magnitude) is missing");
  changed([&](PeftFolder& p) { p.json = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 1e300})"; }, corrupt,
          "expected one within float32");
  changed([&](PeftFolder& p) { p.json = "{"; }, corrupt, "adapter_config.json");
  changed([&](PeftFolder& p) { p.json = R"({"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 1}})"; },
          ErrorCode::kNotFound, "adapters.safetensors is not there");
}

TEST(AdapterFiles, WhatIsNotThereIsNamed) {
  const Folder folder;
  const auto message = [&](const std::string& path) {
    const auto came = AdapterFiles::open(path, config());
    EXPECT_FALSE(came.ok());
    return came.ok() ? "" : came.error().message;
  };
  EXPECT_NE(message(folder / "none").find("none: no such adapter"), std::string::npos);
  EXPECT_NE(message(folder.path()).find("adapters.safetensors or final_adapter.safetensors is not there"),
            std::string::npos);
  put_file(folder / "adapter_model.bin", "x");
  EXPECT_NE(message(folder.path()).find("save the adapter as safetensors"), std::string::npos);
  put_file(folder / "cut.safetensors", "\x40");
  EXPECT_NE(message(folder / "cut.safetensors").find("cut.safetensors"), std::string::npos);
}

TEST(AdapterFiles, ADigestTellsOneFromAnother) {
  PeftFolder peft;
  const std::uint64_t first = ok(peft.open()).digest();
  EXPECT_EQ(ok(peft.open()).digest(), first);
  EXPECT_NE(ok(peft.open(1.0)).digest(), first);
  store_float(DType::kF32, peft.tensors[PeftFolder::kB].bytes.data(), 511, 0.5f);
  EXPECT_NE(ok(peft.open()).digest(), first);
}

// On a model whose attention is rotated: W_q becomes R W_q, and so must B A; W_o becomes W_o R^T.
TEST(AdapterFiles, FollowTheModelsBasis) {
  const Folder folder;
  Config rotated = config();
  rotated.kv_rotated = true;
  HeldAdapter made(some_shape(config(), AdapterKind::kLora, {"q_proj", "o_proj", "in_proj"}));
  made.randomise(1);
  ASSERT_TRUE(write_adapter(folder / "plain", made.set(), AdapterForm::kPeft, config(), {}).ok());
  HeldAdapter turned(ok(AdapterFiles::open(folder / "plain", rotated)));
  const turboquant::Rotation rotation(config().head_dim());
  for (std::size_t i = 0; i < made.set().tensors().size(); ++i) {
    const AdapterTensor& t = made.set().tensors()[i];
    const std::string& layer = made.set().shape().linears[t.linear].name;
    std::vector<float> expected(made.set().values_of(t).begin(), made.set().values_of(t).end());
    const bool turns = (layer.ends_with("q_proj") && t.part == AdapterTensor::Part::kB) ||
                       (layer.ends_with("o_proj") && t.part == AdapterTensor::Part::kA);
    for (std::size_t at = 0; turns && at < expected.size(); at += config().head_dim()) {
      rotation.apply(std::span(expected).subspan(at, config().head_dim()));
    }
    const auto came = turned.set().values_of(turned.set().tensors()[i]);
    EXPECT_EQ(std::vector<float>(came.begin(), came.end()), expected) << layer;
  }
  // Written beside the rotated model it says so, and comes back the same there and turned back elsewhere.
  ASSERT_TRUE(write_adapter(folder / "rotated", turned.set(), AdapterForm::kPeft, rotated, {}).ok());
  HeldAdapter same(ok(AdapterFiles::open(folder / "rotated", rotated)));
  EXPECT_EQ(values(same.set()), values(turned.set()));
  HeldAdapter back(ok(AdapterFiles::open(folder / "rotated", config())));
  for (std::size_t i = 0; i < made.set().values().size(); ++i) {
    ASSERT_NEAR(back.set().values()[i], made.set().values()[i], 1e-6f);
  }
}

TEST(AdapterFiles, MagnitudesOfRotatedRowsAreNotGuessed) {
  const Folder folder;
  Config rotated = config();
  rotated.kv_rotated = true;
  for (const auto& [target, fits] : {std::pair("v_proj", false), std::pair("o_proj", true)}) {
    HeldAdapter made(some_shape(config(), AdapterKind::kDora, {target}));
    made.randomise(1);
    ASSERT_TRUE(write_adapter(folder / target, made.set(), AdapterForm::kPeft, config(), {}).ok());
    EXPECT_TRUE(AdapterFiles::open(folder / target, config()).ok());
    const auto came = AdapterFiles::open(folder / target, rotated);
    EXPECT_EQ(came.ok(), fits);
    if (!fits) {
      EXPECT_EQ(came.error().code, ErrorCode::kUnsupported) << came.error().message;
    }
  }
}

TEST(AdapterNames, BothWays) {
  for (const AdapterForm form : kForms) {
    for (const auto part : {AdapterTensor::Part::kA, AdapterTensor::Part::kB, AdapterTensor::Part::kMagnitude}) {
      AdapterName name{.layer = "layer_3.ssm.in_proj", .part = part};
      if (form == AdapterForm::kPeft) name.expert = 12;
      const auto came = parse_adapter_name(form, to_string(form, name));
      ASSERT_TRUE(came.has_value());
      EXPECT_EQ(came->layer, name.layer);
      EXPECT_EQ(came->part, part);
      EXPECT_EQ(came->expert, name.expert);
    }
    EXPECT_FALSE(parse_adapter_name(form, "layer_3.ssm.in_proj.weight").has_value());
  }
}

}  // namespace
}  // namespace axon
