#include "convert/convert.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <iterator>

#include "model/tiny_model_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

const WriteProgress kQuiet = [](Bytes, Bytes) { return true; };

WeightFormat format_of(std::string_view text) { return ok(parse_weight_format(text)); }

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A folder to work in, with the small model in "in".
class ConvertTest : public ::testing::Test {
 protected:
  Folder folder_;
  std::string in_ = folder_ / "in", out_ = folder_ / "out";

  void put(const FileTensors& tensors, const Config& config = tiny_config()) {
    std::filesystem::create_directory(in_);
    put_file(in_ + "/config.json", to_json(config));
    put_file(in_ + "/model.safetensors", file_of(tensors));
  }
  Status quantise(const std::string& want, std::size_t threads = 1, const WriteProgress& progress = kQuiet,
                  Bytes limit = 1_GiB) {
    const ModelFiles files = AXON_TRY(open_model(in_));
    const ConvertPlan plan = AXON_TRY(plan_quantize(files, format_of(want), threads, /*fold_rotation=*/false));
    Ledger ledger(limit);
    cpu::ThreadPool pool(threads);
    const Status status = quantize(files, plan, out_, ledger, pool, progress);
    EXPECT_EQ(ledger.used(), 0_B);
    peak_ = ledger.peak();
    planned_ = plan;
    return status;
  }
  Status initialise(const Config& config, const std::string& want, std::uint64_t seed, std::size_t threads,
                    const std::string& out, const std::string& tokenizer = "") {
    const ConvertPlan plan = plan_init(config, format_of(want), threads);
    Ledger ledger(plan.buffers);
    cpu::ThreadPool pool(threads);
    const Status status = init(config, plan, seed, tokenizer, out, ledger, pool, kQuiet);
    EXPECT_EQ(ledger.peak(), plan.buffers);
    EXPECT_EQ(ledger.used(), 0_B);
    planned_ = plan;
    return status;
  }
  // Only the model that was there before.
  void expect_nothing_written() { EXPECT_EQ(folder_.entries(), std::filesystem::exists(in_) ? 1u : 0u); }

  ConvertPlan planned_;
  Bytes peak_;
};

// The bytes of a matrix: codes or values, scales, biases.
std::string bytes_of(const Weight& w) {
  std::string out = fmt::format("{}x{} {} q{}g{} {} ", w.rows, w.cols, name_of(w.dtype), w.affine.bits,
                                w.affine.group_size, name_of(w.affine.scale_dtype));
  out.append(static_cast<const char*>(w.data), w.rows * w.row_bytes());
  if (w.quantised()) {
    const std::size_t n = w.rows * w.groups() * size_of(w.affine.scale_dtype);
    out.append(static_cast<const char*>(w.affine.scales), n).append(static_cast<const char*>(w.affine.biases), n);
  }
  return out;
}

std::vector<std::string> all_matrices(const ModelWeights& w) {
  std::vector<const Weight*> list = {&w.embed_tokens, &w.input_proj, &w.output_proj, &w.lm_head};
  for (const BlockWeights& block : w.blocks) {
    if (const auto* ssm = std::get_if<SsmWeights>(&block.mixer)) {
      list.insert(list.end(), {&ssm->in_proj, &ssm->x_proj, &ssm->out_proj});
    } else {
      const auto& swa = std::get<SwaWeights>(block.mixer);
      list.insert(list.end(), {&swa.q_proj, &swa.k_proj, &swa.v_proj, &swa.o_proj});
    }
    if (!block.ffn) continue;
    const MoeWeights& m = block.ffn->moe;
    list.insert(list.end(), {&m.router, &m.gate_proj, &m.up_proj, &m.down_proj, &m.shared_gate, &m.shared_gate_proj,
                             &m.shared_up_proj, &m.shared_down_proj});
  }
  std::vector<std::string> out;
  for (const Weight* weight : list) out.push_back(bytes_of(*weight));
  return out;
}

TEST_F(ConvertTest, QuantizedFileEqualsConversionAtLoad) {
  const auto ids = some_ids(20);
  for (const char* stored : {"f32", "bf16", "q8"}) {
    put(tiny_tensors(tiny_config(), 1, format_of(stored)));
    for (const char* want : {"q2", "q3", "q4", "q5", "q6", "q8g32", "q4g32", "bf16", "f16", "keep"}) {
      const Status status = quantise(want, 3);
      ASSERT_TRUE(status.ok()) << status.error().message;
      LoadedModel written(out_), converted(in_, Arithmetic::kExact, format_of(want));
      const auto a = all_matrices(written.model().weights()), b = all_matrices(converted.model().weights());
      ASSERT_EQ(a.size(), b.size());
      for (std::size_t i = 0; i < a.size(); ++i)
        EXPECT_TRUE(a[i] == b[i]) << stored << " as " << want << ": matrix " << i;
      EXPECT_EQ(written.logits(ids, {20}), converted.logits(ids, {20})) << stored << " as " << want;
      std::filesystem::remove_all(out_);
    }
    std::filesystem::remove_all(in_);
  }
}

TEST_F(ConvertTest, TakesWhatItPlansAndNoMore) {
  put(tiny_tensors(tiny_config()));
  Bytes one, three;
  for (const std::size_t threads : {1u, 3u}) {
    std::filesystem::remove_all(out_);
    ASSERT_TRUE(quantise("q4", threads).ok());
    EXPECT_EQ(peak_, planned_.buffers);
    (threads == 1 ? one : three) = planned_.buffers;
    EXPECT_EQ(planned_.output, written_bytes(planned_.tensors));
    Bytes data;
    const Safetensors file = ok(Safetensors::open(out_));
    for (const auto& [name, tensor] : file.tensors()) data += Bytes{tensor.bytes.size()};
    EXPECT_EQ(data, planned_.output);
  }
  EXPECT_EQ(three - one, Bytes{2 * 128 * 4});  // a row of the widest matrix for each further thread
  std::filesystem::remove_all(out_);
  const Status refused = quantise("q4", 1, kQuiet, one - 1_B);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
  expect_nothing_written();
}

TEST_F(ConvertTest, ResultIsAWholeModel) {
  FileTensors tensors = tiny_tensors(tiny_config());
  tensors["lm_head.weight"] = tensors["embed_tokens.weight"];  // as the original saves a tied model
  put(tensors);
  put_file(in_ + "/tokenizer.json", "{\"some\": \"tokenizer\"}");
  put_file(in_ + "/generation_config.json", "{}");
  put_file(in_ + "/README.md", "not part of the model");
  ASSERT_TRUE(quantise("q4").ok());
  EXPECT_EQ(contents(out_ + "/tokenizer.json"), "{\"some\": \"tokenizer\"}");
  EXPECT_TRUE(std::filesystem::exists(out_ + "/generation_config.json"));
  EXPECT_FALSE(std::filesystem::exists(out_ + "/README.md"));
  const ModelFiles files = ok(open_model(out_));
  EXPECT_TRUE(files.config == tiny_config());
  EXPECT_EQ(files.tensors.metadata().at("format"), "mlx");
  EXPECT_EQ(files.tensors.find("lm_head.weight"), nullptr);
  EXPECT_NE(files.tensors.find("embed_tokens.scales"), nullptr);
  // Routers and everything that is no matrix stay as they were.
  for (const auto& [name, tensor] : tensors) {
    const bool kept = name.find("moe.gate.") != std::string::npos ||
                      name.find("shared_expert_gate") != std::string::npos || name.find("norm") != std::string::npos ||
                      name.find("A_log") != std::string::npos || name.find("conv1d") != std::string::npos ||
                      name.find("dt_proj") != std::string::npos;
    const TensorView* written = files.tensors.find(name);
    if (name == "lm_head.weight") continue;
    ASSERT_NE(written, nullptr) << name;
    if (kept) {
      EXPECT_TRUE(std::ranges::equal(written->bytes, tensor.bytes)) << name;
    }
    EXPECT_EQ(written->dtype, kept || name.ends_with("ssm.D") ? DType::kF32 : DType::kU32) << name;
  }
}

TEST_F(ConvertTest, AHeadOfItsOwnIsKept) {
  FileTensors tensors = tiny_tensors(tiny_config());
  tensors["lm_head.weight"] = tensors["embed_tokens.weight"];
  tensors["lm_head.weight"].bytes[5] ^= std::byte{1};
  put(tensors);
  ASSERT_TRUE(quantise("q8").ok());
  EXPECT_NE(ok(Safetensors::open(out_)).find("lm_head.scales"), nullptr);
}

TEST_F(ConvertTest, EveryTensorIsAlignedToItsElements) {
  Config odd = tiny_config();
  odd.vocab_size = 255, odd.hidden_dim = 33, odd.num_heads = 3, odd.d_source_model = 37, odd.ssm_d_state = 3,
  odd.ssm_d_conv = 3;
  odd.moe_num_experts = 3, odd.moe_intermediate_dim = 35;
  Config narrow = tiny_config();  // rows of 32: one group, 2 bytes of scales
  narrow.hidden_dim = 32, narrow.d_source_model = 32, narrow.moe_intermediate_dim = 32, narrow.ssm_expand = 1,
  narrow.ssm_d_state = 3;
  narrow.vocab_size = 251;
  for (const Config& config : {tiny_config(), odd, narrow}) {
    for (const char* want : {"bf16", "q4g32", "q3g32", "q5"}) {
      ASSERT_TRUE(initialise(config, want, 1, 1, out_).ok());
      const Safetensors file = ok(Safetensors::open(out_));
      for (const auto& [name, tensor] : file.tensors()) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % size_of(tensor.dtype), 0u)
            << name << " " << want;
      }
      // So all matrices are used in place.
      for (const WeightsPlan::Item& item : ok(plan_weights(config, file, {}, 1)).items) {
        EXPECT_TRUE(item.in_place || !item.spec.is_matrix() || item.spec.optional) << item.spec.name;
      }
      LoadedModel model(out_);
      EXPECT_EQ(model.logits(some_ids(9, config.vocab_size), {9}).size(), 9 * config.vocab_size);
      std::filesystem::remove_all(out_);
    }
  }
}

TEST_F(ConvertTest, InitDependsOnTheSeedAndNotOnThreads) {
  for (const char* want : {"bf16", "q4"}) {
    const std::string a = folder_ / fmt::format("{}-a", want), b = folder_ / fmt::format("{}-b", want),
                      c = folder_ / fmt::format("{}-c", want);
    ASSERT_TRUE(initialise(tiny_config(), want, 5, 1, a).ok());
    ASSERT_TRUE(initialise(tiny_config(), want, 5, 3, b).ok());
    ASSERT_TRUE(initialise(tiny_config(), want, 6, 1, c).ok());
    const std::string file = contents(a + "/model.safetensors");
    EXPECT_GT(file.size(), 100'000u);
    EXPECT_TRUE(file == contents(b + "/model.safetensors"));
    EXPECT_FALSE(file == contents(c + "/model.safetensors"));
    EXPECT_TRUE(ok(open_model(a)).config == tiny_config());
  }
}

// Spec section 2, tensor by tensor.
TEST_F(ConvertTest, InitHasTheOriginalsDistributions) {
  put_file(folder_ / "tokenizer.json", "{}");
  ASSERT_TRUE(initialise(tiny_config(), "f32", 5, 2, out_, folder_ / "tokenizer.json").ok());
  EXPECT_EQ(contents(out_ + "/tokenizer.json"), "{}");
  const Safetensors file = ok(Safetensors::open(out_));
  EXPECT_EQ(file.find("lm_head.weight"), nullptr);
  const auto values = [&](const std::string& name) {
    const TensorView* t = file.find(name);
    EXPECT_NE(t, nullptr) << name;
    std::vector<float> out(t->shape.elements());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = load_float(t->dtype, t->bytes.data(), i);
    return out;
  };
  const auto moments = [](const std::vector<float>& v) {
    double sum = 0, squares = 0, largest = 0;
    for (const float x : v)
      sum += double{x}, squares += double{x} * double{x}, largest = std::max(largest, std::fabs(double{x}));
    const double n = static_cast<double>(v.size());
    return std::array{sum / n, std::sqrt(squares / n), largest};
  };
  const auto expect_uniform = [&](const std::string& name, double limit) {
    const auto v = values(name);
    const auto [mean, spread, largest] = moments(v);
    const double slack = 5 / std::sqrt(static_cast<double>(v.size()));  // standard errors, of limit / sqrt(3) and less
    EXPECT_NEAR(mean, 0.0, limit * 0.58 * slack) << name;
    EXPECT_NEAR(spread, limit / std::sqrt(3.0), limit * 0.3 * slack) << name;
    EXPECT_LE(largest, limit) << name;
  };
  expect_uniform("input_proj.weight", 1 / 8.0);
  expect_uniform("layer_0.ssm.in_proj.weight", 1 / 8.0);
  expect_uniform("layer_0.ssm.out_proj.weight", 1 / std::sqrt(128.0));
  expect_uniform("layer_0.ssm.conv1d.weight", 1 / std::sqrt(4.0 * 128));
  expect_uniform("layer_0.ssm.dt_proj.weight", 1.0);
  expect_uniform("layer_0.ssm.dt_proj.bias", 1.0);
  expect_uniform("layer_2.attention.v_proj.weight", 1 / 8.0);
  expect_uniform("layer_3.moe.switch_mlp.down_proj.weight", 1 / 8.0);
  expect_uniform("layer_3.moe.gate.weight", 1 / 8.0);
  const auto [mean, spread, largest] = moments(values("embed_tokens.weight"));
  EXPECT_NEAR(mean, 0.0, 5 * 0.125 / 128);
  EXPECT_NEAR(spread, 0.125, 0.125 * 5 / 128);
  EXPECT_GT(largest, 3 * 0.125);  // not uniform
  for (const float v : values("layer_5.post_ssm_norm.weight")) EXPECT_EQ(v, 1.0f);
  for (const float v : values("layer_5.ssm.D")) EXPECT_EQ(v, 1.0f);
  for (const float v : values("layer_5.ssm.conv1d.bias")) EXPECT_EQ(v, 0.0f);
  const auto a_log = values("layer_5.ssm.A_log");
  for (std::size_t i = 0; i < a_log.size(); ++i) EXPECT_FLOAT_EQ(a_log[i], std::log(static_cast<float>(i % 4 + 1)));
}

TEST_F(ConvertTest, ExistingOutputIsLeftAlone) {
  put(tiny_tensors(tiny_config()));
  std::filesystem::create_directory(out_);
  put_file(out_ + "/precious", "x");
  const Status refused = quantise("q4");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, out_ + " already exists");
  const ConvertPlan plan = plan_init(tiny_config(), {}, 1);
  Ledger ledger(1_GiB);
  cpu::ThreadPool pool(1);
  EXPECT_EQ(init(tiny_config(), plan, 1, "", out_, ledger, pool, kQuiet).error().message, out_ + " already exists");
  EXPECT_EQ(contents(out_ + "/precious"), "x");
  EXPECT_EQ(folder_.entries(), 2u);
}

TEST_F(ConvertTest, CancelLeavesNothing) {
  put(tiny_tensors(tiny_config()));
  Bytes last;
  for (const std::size_t after : {1u, 7u}) {
    std::size_t calls = 0;
    const Status cancelled = quantise("q4", 1, [&](Bytes done, Bytes total) {
      EXPECT_GT(done, calls == 0 ? 0_B : last);
      EXPECT_LE(done, total);
      last = done;
      return ++calls < after;
    });
    ASSERT_FALSE(cancelled.ok());
    EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
    expect_nothing_written();
  }
}

// What a full disk does to write(2): first short, then failing.
TEST_F(ConvertTest, FullDiskLeavesNothing) {
  put(tiny_tensors(tiny_config()));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {rlim_t{100}, rlim_t{20'000}, rlim_t{100'000}}) {  // the config, the header, the data
    rlimit small = before;
    small.rlim_cur = limit;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status quantised = quantise("q4");
    const ConvertPlan plan = plan_init(tiny_config(), {}, 1);
    Ledger ledger(1_GiB);
    cpu::ThreadPool pool(1);
    const Status initialised = init(tiny_config(), plan, 1, "", out_, ledger, pool, kQuiet);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    for (const Status& status : {quantised, initialised}) {
      ASSERT_FALSE(status.ok());
      EXPECT_EQ(status.error().code, ErrorCode::kIo);
      EXPECT_NE(status.error().message.find("out"), std::string::npos) << status.error().message;
    }
    expect_nothing_written();
  }
  std::signal(SIGXFSZ, old);
  EXPECT_TRUE(quantise("q4").ok());
}

TEST_F(ConvertTest, BadWeightsAreNamedAndLeaveNothing) {
  FileTensors tensors = tiny_tensors(tiny_config());
  const auto message = [&](const char* want) {
    std::filesystem::remove_all(in_);
    put(tensors);
    const Status status = quantise(want);
    expect_nothing_written();
    return status.ok() ? std::string("written") : status.error().message;
  };
  float* value = reinterpret_cast<float*>(tensors["layer_3.moe.switch_mlp.up_proj.weight"].bytes.data()) + 100;
  const float good = *value;
  *value = std::nanf("");
  EXPECT_EQ(message("q4"), "tensor layer_3.moe.switch_mlp.up_proj.weight: element 100 is nan, expected finite values");
  *value = 1e7f;  // its scale does not fit half precision
  EXPECT_NE(message("q4").find("tensor layer_3.moe.switch_mlp.up_proj.weight: rows "), std::string::npos)
      << message("q4");
  EXPECT_NE(message("f16").find("outside the range of F16"), std::string::npos) << message("f16");
  *value = good;
  tensors["extra"] = {DType::kF32, {1}, std::vector<std::byte>(4)};
  EXPECT_EQ(message("q4"), "tensor extra (F32 [1]) is unknown: the config has no place for it");
  tensors.erase("extra");
  tensors.erase("layer_1.ssm.D");
  EXPECT_EQ(message("q4"), "tensor layer_1.ssm.D is missing: expected [128]");
}

// A model that is not there yet plans as it will when it is: every zone, mapped and converted, and the conversion.
TEST_F(ConvertTest, AsIfWrittenPlansLikeTheFiles) {
  Config uneven = tiny_config();  // rows that no group divides, tensors of odd sizes
  uneven.hidden_dim = 68, uneven.num_heads = 2, uneven.vocab_size = 301, uneven.ssm_d_conv = 3;
  const std::vector<std::string> formats = {"keep", "f32", "bf16", "f16", "q8",    "q6",
                                            "q5",   "q4",  "q3",   "q2",  "q4g32", "q8g128"};
  for (const Config& config : {tiny_config(), uneven}) {
    for (const std::string& format : formats) {
      ASSERT_TRUE(initialise(config, format, 1, 1, out_).ok());
      const ModelFiles real = ok(open_model(out_));
      const ModelFiles made_up = ok(as_if_written(config, planned_, "made up"));
      EXPECT_TRUE(made_up.config == real.config);
      EXPECT_EQ(made_up.tensors.tensors().size(), real.tensors.tensors().size());
      for (const std::string want : {"keep", "q4", "bf16"}) {
        const WeightsPlan a = ok(plan_weights(config, real.tensors, format_of(want), 3));
        const WeightsPlan b = ok(plan_weights(config, made_up.tensors, format_of(want), 3));
        ASSERT_EQ(a.zones.size(), b.zones.size());
        for (std::size_t z = 0; z < a.zones.size(); ++z) {
          EXPECT_EQ(a.zones[z].account, b.zones[z].account);
          EXPECT_EQ(a.zones[z].mapped, b.zones[z].mapped) << format << " as " << want << ": " << a.zones[z].account;
          EXPECT_EQ(a.zones[z].converted, b.zones[z].converted)
              << format << " as " << want << ": " << a.zones[z].account;
        }
        EXPECT_EQ(a.conversion, b.conversion);
        EXPECT_EQ(a.parameters_held, b.parameters_held);
        ASSERT_EQ(a.items.size(), b.items.size());
        for (std::size_t i = 0; i < a.items.size(); ++i) {
          EXPECT_EQ(a.items[i].in_place, b.items[i].in_place) << a.items[i].spec.full_name();
          EXPECT_TRUE(a.items[i].stored.has_form(b.items[i].stored.dtype, b.items[i].stored.affine));
        }
      }
      std::filesystem::remove_all(out_);
    }
  }
}

}  // namespace
}  // namespace axon
