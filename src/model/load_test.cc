// Weights from files: what is wrong is named, what is right is loaded in every form to the same model.

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "model/tiny_model_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

// What plan_weights or load says about these tensors.
std::string refusal(const FileTensors& tensors, const Config& config = tiny_config(), const WeightFormat& want = {}) {
  const Folder folder;
  put_model(folder, config, tensors);
  ModelFiles files = ok(open_model(folder.path()));
  const auto plan = plan_weights(config, files.tensors, want, 1);
  if (!plan.ok()) {
    EXPECT_EQ(plan.error().code, ErrorCode::kCorrupt);
    return plan.error().message;
  }
  Ledger ledger(1_GiB);
  cpu::ThreadPool pool(1);
  const auto model = Model::load(config, std::move(files.tensors), Result<WeightsPlan>(plan).value(), ledger, pool);
  if (model.ok()) return "loaded";
  EXPECT_EQ(model.error().code, ErrorCode::kCorrupt);
  return model.error().message;
}

TensorSpec spec_of(const std::string& name) {
  for (const TensorSpec& spec : tensor_list(tiny_config())) {
    if (spec.name == name) return spec;
  }
  ADD_FAILURE() << name;
  std::abort();
}

const WeightFormat kQ4{.kind = WeightFormat::kAffine, .bits = 4, .group_size = 32};

TEST(Load, TinyModelLoads) {
  EXPECT_EQ(refusal(tiny_tensors(tiny_config())), "loaded");
  EXPECT_EQ(refusal(tiny_tensors(tiny_config(), 1, kQ4)), "loaded");
}

TEST(Load, EveryTensorIsRequired) {
  const FileTensors tensors = tiny_tensors(tiny_config());
  for (const TensorSpec& spec : tensor_list(tiny_config())) {
    if (spec.optional) continue;
    FileTensors less = tensors;
    less.erase(spec.full_name());
    EXPECT_EQ(refusal(less), fmt::format("tensor {} is missing: expected {}", spec.full_name(), to_string(spec.shape)));
  }
}

TEST(Load, UnknownTensorsAreNamed) {
  FileTensors tensors = tiny_tensors(tiny_config());
  tensors["layer_6.input_norm.weight"] = tensors["layer_5.input_norm.weight"];
  EXPECT_EQ(refusal(tensors), "tensor layer_6.input_norm.weight (F32 [64]) is unknown: the config has no place for it");
  tensors.erase("layer_6.input_norm.weight");
  tensors["norm.weight"] = {DType::kBF16, {2, 3}, std::vector<std::byte>(12)};
  EXPECT_EQ(refusal(tensors), "tensor norm.weight (BF16 [2, 3]) is unknown: the config has no place for it");
  tensors.erase("norm.weight");
  tensors["layer_0.ssm.D.scales"] = {DType::kF32, {2}, std::vector<std::byte>(8)};  // only matrices are quantised
  EXPECT_EQ(refusal(tensors), "tensor layer_0.ssm.D.scales (F32 [2]) is unknown: the config has no place for it");
}

TEST(Load, MisshapenTensorsAreNamedWithBothShapes) {
  const FileTensors tensors = tiny_tensors(tiny_config());
  const auto with_dims = [&](const std::string& name, std::vector<std::uint64_t> dims) {
    FileTensors changed = tensors;
    changed[name].dims = dims;
    return refusal(changed);
  };
  EXPECT_EQ(with_dims("layer_2.attention.q_proj.weight", {32, 128}),
            "tensor layer_2.attention.q_proj.weight: expected shape [64, 64], but the file has [32, 128] (F32)");
  EXPECT_EQ(with_dims("layer_2.attention.q_proj.weight", {4096}),
            "tensor layer_2.attention.q_proj.weight: expected shape [64, 64], but the file has [4096] (F32)");
  EXPECT_EQ(with_dims("layer_0.ssm.conv1d.weight", {128, 1, 4}),  // as PyTorch has it
            "tensor layer_0.ssm.conv1d.weight: expected shape [128, 4, 1], but the file has [128, 1, 4] (F32)");
  EXPECT_EQ(with_dims("layer_0.ssm.dt_proj.bias", {128, 1}),
            "tensor layer_0.ssm.dt_proj.bias: expected shape [128], but the file has [128, 1] (F32)");
  FileTensors small = tensors;
  small["embed_tokens.weight"].dims = {255, 64};
  small["embed_tokens.weight"].bytes.resize(255 * 64 * 4);
  EXPECT_EQ(refusal(small), "tensor embed_tokens.weight: expected shape [256, 64], but the file has [255, 64] (F32)");
}

TEST(Load, WrongTypesAreNamed) {
  const FileTensors tensors = tiny_tensors(tiny_config());
  const auto with_type = [&](const std::string& name, DType dtype) {
    FileTensors changed = tensors;
    FileTensor& t = changed[name];
    t.bytes.resize(t.bytes.size() / 4 * size_of(dtype));
    t.dtype = dtype;
    return refusal(changed);
  };
  EXPECT_EQ(with_type("input_proj.weight", DType::kU32),
            "tensor input_proj.weight: expected F32, F16 or BF16 values (or input_proj.scales beside U32 codes), but "
            "the file "
            "has U32");
  EXPECT_EQ(with_type("input_proj.weight", DType::kI8),
            "tensor input_proj.weight: expected F32, F16 or BF16 values, but the file has I8");
  EXPECT_EQ(with_type("layer_4.ssm.A_log", DType::kF64),
            "tensor layer_4.ssm.A_log: expected F32, F16 or BF16 values, but the file has F64");
}

TEST(Load, QuantisedTensorsMustFitTogether) {
  const std::string p = "layer_3.moe.switch_mlp.up_proj";  // [4, 64, 64]
  const FileTensors tensors = tiny_tensors(tiny_config(), 1, kQ4);
  const auto changed = [&](const std::function<void(FileTensors&)>& change) {
    FileTensors copy = tensors;
    change(copy);
    return refusal(copy);
  };
  EXPECT_EQ(changed([&](FileTensors& t) { t.erase(p + ".biases"); }),
            "tensor " + p + ".biases is missing (also looked for " + p + ".biases_quant)");
  // Without scales, the codes are read as a float matrix and the biases have no place.
  EXPECT_EQ(changed([&](FileTensors& t) { t.erase(p + ".scales"); }),
            "tensor " + p + ".weight: expected shape [4, 64, 64], but the file has [4, 64, 8] (U32)");
  EXPECT_EQ(
      changed([&](FileTensors& t) { t[p + ".weight"] = as_floats(spec_of(p), values_of(spec_of(p), 1), DType::kF32); }),
      "tensor " + p +
          ".weight: has scales, so packed U32 codes of [4, 64, 64] were expected, but the file has F32 [4, 64, 64]");
  const auto with_codes = [&](std::vector<std::uint64_t> dims) {
    return changed([&](FileTensors& t) {
      t[p + ".weight"] = {DType::kU32, dims, {}};
      t[p + ".weight"].bytes.resize(4 * std::accumulate(dims.begin(), dims.end(), std::size_t{1}, std::multiplies<>()));
    });
  };
  for (const std::uint64_t packed :
       {1u, 2u, 7u, 9u, 14u, 18u, 64u}) {  // 1, 7 and more bits, and what divides into none
    EXPECT_EQ(with_codes({4, 64, packed}),
              fmt::format("tensor {}.weight: expected [4, 64, 64] packed at 2, 3, 4, 5, 6 or 8 bits, "
                          "but the file has U32 [4, 64, {}]",
                          p, packed));
  }
  EXPECT_EQ(with_codes({4, 32, 8}), "tensor " + p +
                                        ".weight: expected [4, 64, 64] packed at 2, 3, 4, 5, 6 or 8 bits, but the "
                                        "file has U32 [4, 32, 8]");
  EXPECT_EQ(with_codes({256, 8}), "tensor " + p +
                                      ".weight: has scales, so packed U32 codes of [4, 64, 64] were expected, but the "
                                      "file has U32 [256, 8]");
  const auto with_scales = [&](const std::string& part, std::vector<std::uint64_t> dims, DType dtype) {
    return changed([&](FileTensors& t) {
      t[p + part] = {dtype, dims, {}};
      t[p + part].bytes.resize(size_of(dtype) *
                               std::accumulate(dims.begin(), dims.end(), std::size_t{1}, std::multiplies<>()));
    });
  };
  for (const std::vector<std::uint64_t>& dims :
       {std::vector<std::uint64_t>{4, 64, 3}, {4, 64, 4}, {4, 64, 128}, {4, 32, 2}, {4, 64, 0}, {}}) {
    EXPECT_EQ(with_scales(".scales", dims, DType::kF16)
                  .find("tensor " + p +
                        ".scales: expected scales for groups of 32, 64 or 128 "
                        "of [4, 64, 64], but the file has ["),
              0u);
  }
  EXPECT_EQ(with_scales(".biases", {4, 64, 1}, DType::kF16),
            "tensor " + p + ".biases: expected shape [4, 64, 2], but the file has [4, 64, 1] (F16)");
  EXPECT_EQ(with_scales(".biases", {4, 64, 2}, DType::kF32),
            "tensor " + p + ": scales and biases must share one of F32, F16, BF16, but are F16 and F32");
}

// One value that is not finite, in every type and role.
TEST(Load, NonFiniteValuesAreNamedWithTheirPlace) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const FileTensors floats = tiny_tensors(tiny_config()), codes = tiny_tensors(tiny_config(), 1, kQ4);
  const auto with_value = [&](FileTensors tensors, const std::string& name, std::size_t i, float value,
                              const WeightFormat& want = {}) {
    FileTensor& t = tensors.at(name);
    store_float(t.dtype, t.bytes.data(), i, value);
    return refusal(tensors, tiny_config(), want);
  };
  const auto as = [&](const std::string& name, DType dtype) {
    FileTensors tensors = floats;
    tensors[name + ".weight"] = as_floats(spec_of(name), values_of(spec_of(name), 1), dtype);
    return tensors;
  };
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(with_value(as("output_proj", dtype), "output_proj.weight", 64 * 64 - 1, nan),
              "tensor output_proj.weight: element 4095 is nan, expected finite values");
    EXPECT_EQ(with_value(as("embed_tokens", dtype), "embed_tokens.weight", 2500, -inf),
              "tensor embed_tokens.weight: element 2500 is -inf, expected finite values");
    // Also when it would be converted away.
    EXPECT_EQ(with_value(as("output_proj", dtype), "output_proj.weight", 0, nan, kQ4),
              "tensor output_proj.weight: element 0 is nan, expected finite values");
  }
  EXPECT_EQ(with_value(floats, "layer_3.post_attention_norm.weight", 63, nan),
            "tensor layer_3.post_attention_norm.weight: element 63 is nan, expected finite values");
  EXPECT_EQ(with_value(floats, "layer_0.ssm.conv1d.weight", 9, inf),
            "tensor layer_0.ssm.conv1d.weight: element 9 is inf, expected finite values");
  EXPECT_EQ(with_value(codes, "layer_3.moe.switch_mlp.up_proj.scales", 5, inf),
            "tensor layer_3.moe.switch_mlp.up_proj.scales: element 5 is inf, expected finite values");
  EXPECT_EQ(with_value(codes, "layer_3.moe.switch_mlp.up_proj.biases", 511, nan),
            "tensor layer_3.moe.switch_mlp.up_proj.biases: element 511 is nan, expected finite values");
}

TEST(Load, NonFiniteStateDecayIsNamed) {
  FileTensors tensors = tiny_tensors(tiny_config());
  store_float(DType::kF32, tensors["layer_1.ssm.A_log"].bytes.data(), 4 * 7 + 2, 89.0f);  // exp(89) is infinite
  const std::string message = refusal(tensors);
  EXPECT_EQ(message.find("tensor layer_1.ssm.A_log: element "), 0u) << message;
  EXPECT_NE(message.find("gives -inf, expected finite values"), std::string::npos) << message;
}

TEST(Load, HeadMayBeThereOrTied) {
  const Config tied = tiny_config();
  Config apart = tied;
  apart.weight_tying = false;
  FileTensors tensors = tiny_tensors(tied);
  EXPECT_EQ(refusal(tensors, apart), "tensor lm_head.weight is missing: expected [256, 64]");

  const auto ids = some_ids(20);
  const auto logits = [&](const Config& config) {
    const Folder folder;
    put_model(folder, config, tensors);
    LoadedModel model(folder.path());
    return model.logits(ids, {20});
  };
  const auto without = logits(tied);
  tensors["lm_head.weight"] = tensors["embed_tokens.weight"];  // as the original saves a tied model
  EXPECT_EQ(logits(tied), without);
  EXPECT_EQ(logits(apart), without);
  tensors["lm_head.weight"] = as_floats(spec_of("embed_tokens"), values_of(spec_of("embed_tokens"), 99), DType::kF32);
  const auto other = logits(apart);
  EXPECT_GT(difference(other, without), 0.1);
  EXPECT_EQ(logits(tied), other);  // what the file has counts
}

TEST(Load, BiasesMayBeCalledBiasesQuant) {
  FileTensors tensors = tiny_tensors(tiny_config(), 1, kQ4);
  const auto ids = some_ids(20);
  const auto logits = [&] {
    const Folder folder;
    put_model(folder, tiny_config(), tensors);
    LoadedModel model(folder.path());
    return model.logits(ids, {20});
  };
  const auto expected = logits();
  const std::string p = "layer_3.moe.switch_mlp.up_proj";
  tensors[p + ".biases_quant"] = tensors[p + ".biases"];
  EXPECT_EQ(refusal(tensors),
            "tensor " + p + ".biases_quant (F16 [4, 64, 2]) is unknown: the config has no place for it");
  tensors.erase(p + ".biases");
  EXPECT_EQ(logits(), expected);
}

// Headers need not be padded, so a tensor may lie at any byte.
TEST(Load, UnalignedTensorsGiveTheSameLogits) {
  const auto ids = some_ids(20);
  for (const WeightFormat& format :
       {WeightFormat{}, WeightFormat{.kind = WeightFormat::kFloat, .dtype = DType::kBF16}, kQ4}) {
    const FileTensors tensors = tiny_tensors(tiny_config(), 1, format);
    const auto run = [&](std::size_t shift, Bytes& mapped) {
      const Folder folder;
      put_model(folder, tiny_config(), tensors, shift);
      LoadedModel model(folder.path());
      mapped = {};
      for (const WeightsPlan::Zone& zone : model.plan().zones) mapped += zone.mapped;
      return model.logits(ids, {20});
    };
    Bytes aligned, unaligned;
    const auto expected = run(0, aligned);
    EXPECT_GT(aligned, 0_B);
    for (const std::size_t shift : {1u, 3u, 62u}) {
      EXPECT_EQ(run(shift, unaligned), expected) << shift;
      EXPECT_LT(unaligned, aligned) << shift;
    }
  }
}

TEST(Load, ShardsMakeOneModel) {
  const FileTensors tensors = tiny_tensors(tiny_config());
  const auto ids = some_ids(20);
  const Folder whole, shards;
  put_model(whole, tiny_config(), tensors);
  put_file(shards / "config.json", to_json(tiny_config()));
  std::vector<FileTensors> parts(3);
  std::string index = R"({"metadata": {"total_size": 1}, "weight_map": {)";
  std::size_t i = 0;
  for (const auto& [name, tensor] : tensors) {
    index += fmt::format("{}\"{}\": \"model-{}.safetensors\"", i == 0 ? "" : ", ", name, i % 3);
    parts[i++ % 3][name] = tensor;
  }
  put_file(shards / "model.safetensors.index.json", index + "}}");
  for (std::size_t p = 0; p < 3; ++p) put_file(shards / fmt::format("model-{}.safetensors", p), file_of(parts[p]));
  LoadedModel a(whole.path()), b(shards.path());
  EXPECT_EQ(b.logits(ids, {20}), a.logits(ids, {20}));
  std::filesystem::remove(shards / "model-1.safetensors");
  const auto missing = open_model(shards.path());
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("model-1.safetensors"), std::string::npos);
}

// The stretch that a benchmark reads over and over: weights, of one file or one arena.
TEST(Load, TheLargestBlockIsOfWeights) {
  const Folder folder;
  put_file(folder / "config.json", to_json(tiny_config()));
  std::vector<FileTensors> parts(2);
  std::string index = R"({"weight_map": {)";
  for (const auto& [name, tensor] : tiny_tensors(tiny_config())) {
    const std::size_t part = parts[0].size() > parts[1].size() ? 1 : 0;
    index += fmt::format("{}\"{}\": \"model-{}.safetensors\"", index.back() == '{' ? "" : ", ", name, part);
    parts[part][name] = tensor;
  }
  put_file(folder / "model.safetensors.index.json", index + "}}");
  for (std::size_t p = 0; p < 2; ++p) put_file(folder / fmt::format("model-{}.safetensors", p), file_of(parts[p]));
  LoadedModel mapped(folder.path()), converted(folder.path(), Arithmetic::kExact, kQ4);

  const std::span<const std::byte> block = mapped.model().largest_block();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data()) % 64, 0u);
  std::set<const MappedFile*> files;
  std::size_t weights = 0, largest = 0;
  for (const WeightsPlan::Item& item : mapped.plan().items) {
    for (const auto& part : item.stored.parts) {
      if (!item.in_place || part.empty()) continue;
      largest = std::max(largest, part.size());
      if (part.data() + part.size() <= block.data() || part.data() >= block.data() + block.size()) continue;
      files.insert(item.stored.file);
      weights += part.size();
    }
  }
  EXPECT_EQ(files.size(), 1u);
  EXPECT_GT(weights, largest) << "several tensors";
  EXPECT_GT(weights, block.size() * 9 / 10);
  Bytes zone;
  for (const WeightsPlan::Zone& z : converted.plan().zones) zone = std::max(zone, z.converted);
  EXPECT_EQ(converted.model().largest_block().size(), zone.count);
}

// Every --weights, from every stored form: the plan holds to the byte, and the logits stay near the stored model's.
TEST(Load, EveryPrecisionTakesWhatWasPlanned) {
  const auto ids = some_ids(24);
  for (const char* stored : {"f32", "bf16", "q8"}) {
    const Folder folder;
    put_model(folder, tiny_config(), tiny_tensors(tiny_config(), 1, ok(parse_weight_format(stored))), 2);
    LoadedModel keep(folder.path());
    const auto expected = keep.logits(ids, {24});
    // Twice what was measured: rounding errors grow through six layers of random weights, and now and then a router
    // decides otherwise. Unrelated logits differ by more than 1; at 2 and 3 bits there is nothing to tell them apart.
    for (const auto& [want, allowed] : std::initializer_list<std::pair<const char*, double>>{{"keep", 0.0},
                                                                                             {"f32", 1e-5},
                                                                                             {"f16", 2e-3},
                                                                                             {"bf16", 2e-2},
                                                                                             {"q8", 8e-2},
                                                                                             {"q6", 0.4},
                                                                                             {"q5", 0.7},
                                                                                             {"q4", 0.9},
                                                                                             {"q4g32", 0.9},
                                                                                             {"q3", 10},
                                                                                             {"q2", 10}}) {
      LoadedModel model(folder.path(), Arithmetic::kExact, ok(parse_weight_format(want)), 3);
      Bytes planned = model.plan().conversion;
      for (const WeightsPlan::Zone& zone : model.plan().zones) {
        planned += zone.bytes();
        EXPECT_EQ(model.weights_ledger().used(zone.account), zone.bytes());
      }
      EXPECT_EQ(model.weights_ledger().used(), planned) << want;
      EXPECT_EQ(model.weights_ledger().peak(), planned) << want;
      EXPECT_LE(difference(model.logits(ids, {24}), expected), allowed) << stored << " as " << want;
    }
  }
}

// Conversion with any number of threads gives the same weights.
TEST(Load, ThreadsDoNotChangeTheWeights) {
  const Folder folder;
  put_model(folder, tiny_config(), tiny_tensors(tiny_config()));
  const auto ids = some_ids(12);
  LoadedModel one(folder.path(), Arithmetic::kExact, kQ4, 1), three(folder.path(), Arithmetic::kExact, kQ4, 3);
  const auto& a = one.model().weights().blocks[4].ffn->moe.up_proj;
  const auto& b = three.model().weights().blocks[4].ffn->moe.up_proj;
  ASSERT_TRUE(a.quantised() && b.quantised());
  EXPECT_EQ(std::memcmp(a.data, b.data, a.rows * a.row_bytes()), 0);
  EXPECT_EQ(std::memcmp(a.affine.scales, b.affine.scales, a.rows * a.groups() * 2), 0);
}

TEST(Load, RefusalOfTheLedgerNamesTheAccount) {
  const Folder folder;
  put_model(folder, tiny_config(), tiny_tensors(tiny_config()));
  ModelFiles files = ok(open_model(folder.path()));
  const WeightsPlan plan = ok(plan_weights(files.config, files.tensors, kQ4, 1));
  Bytes total = plan.conversion;
  for (const WeightsPlan::Zone& zone : plan.zones) total += zone.bytes();
  Ledger ledger(total - 1_B);
  cpu::ThreadPool pool(1);
  const auto model = Model::load(files.config, std::move(files.tensors), plan, ledger, pool);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, ErrorCode::kOverBudget);
  EXPECT_EQ(ledger.used(), 0_B);
}

TEST(Load, ProgressCanStopIt) {
  const Folder folder;
  put_model(folder, tiny_config(), tiny_tensors(tiny_config()));
  ModelFiles files = ok(open_model(folder.path()));
  const WeightsPlan plan = ok(plan_weights(files.config, files.tensors, {}, 1));
  Ledger ledger(1_GiB);
  cpu::ThreadPool pool(1);
  std::size_t calls = 0;
  const auto model = Model::load(files.config, std::move(files.tensors), plan, ledger, pool,
                                 [&](std::size_t done, std::size_t total) { return ++calls, total > 0 && done < 5; });
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(calls, 5u);
  EXPECT_EQ(ledger.used(), 0_B);
}

TEST(OpenModel, SaysWhatWasLookedFor) {
  const auto message = [](const std::string& path) {
    const auto files = open_model(path);
    return files.ok() ? std::string("opened") : files.error().message;
  };
  const Folder folder;
  EXPECT_EQ(
      message(folder / "nowhere"),
      folder / "nowhere" + ": no such model folder (expected config.json, *.safetensors and tokenizer.json in it)");
  EXPECT_NE(message(folder.path()).find(folder / "config.json"), std::string::npos);
  put_file(folder / "config.json", "{}");
  EXPECT_NE(message(folder.path()).find(folder / "config.json" + ": key vocab_size is missing"), std::string::npos);
  put_file(folder / "config.json", to_json(tiny_config()));
  EXPECT_NE(message(folder.path()).find(folder.path()), std::string::npos);  // no weights
  put_file(folder / "model.safetensors", file_of(tiny_tensors(tiny_config())));
  EXPECT_EQ(message(folder.path()), "opened");
  EXPECT_EQ(message(folder / "model.safetensors"), "opened");
  EXPECT_TRUE(ok(open_model(folder.path())).tokenizer_path.empty());
  put_file(folder / "tokenizer.json", "{}");
  EXPECT_EQ(ok(open_model(folder / "model.safetensors")).tokenizer_path, folder / "tokenizer.json");
}

}  // namespace
}  // namespace axon
