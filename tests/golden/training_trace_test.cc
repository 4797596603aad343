// Twelve recorded steps of the Python original's trainer: losses, gradient norms, learning rates, and what the adapters
// are afterwards (spec section 22). Float32 on both sides.

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "golden.h"
#include "io/safetensors.h"
#include "model/adapters.h"
#include "model/tiny_model_for_test.h"
#include "train/trainer.h"

namespace axon::train {
namespace {

using golden::ok;
using Json = nlohmann::json;
using testing_model::FileTensor;
using testing_model::Folder;

const std::string kGolden = AXON_SOURCE_DIR "/tests/golden/mlx-tiny";

Json json_of(const std::string& path) {
  std::ifstream in(path);
  return Json::parse(in);
}

// The model as the original trained it: linear layers in 4 bits, and the embedding rounded to half precision.
void write_model(const Folder& folder) {
  const Safetensors stored = ok(Safetensors::open(kGolden + "/q4_linear_only"));
  testing_model::FileTensors tensors;
  for (const auto& [name, view] : stored.tensors()) {
    FileTensor tensor{view.dtype, {view.shape.dims().begin(), view.shape.dims().end()}, {}};
    tensor.bytes.assign(view.bytes.begin(), view.bytes.end());
    if (name == "embed_tokens.weight") {
      std::vector<std::byte> half(view.shape.elements() * 2);
      for (std::size_t i = 0; i < view.shape.elements(); ++i) {
        store_float(DType::kF16, half.data(), i, load_float(view.dtype, view.bytes.data(), i));
      }
      tensor.dtype = DType::kF16;
      tensor.bytes = std::move(half);
    }
    tensors[name] = std::move(tensor);
  }
  std::filesystem::copy_file(kGolden + "/q4_linear_only/config.json", folder / "config.json");
  testing_model::put_file(folder / "model.safetensors", testing_model::file_of(tensors));
}

// A tensor of a recorded adapter as AdapterSet holds it: A comes as [in, R].
std::vector<float> recorded(const Safetensors& file, const AdapterSet& set, const AdapterTensor& t) {
  const bool a = t.part == AdapterTensor::Part::kA;
  const TensorView* view = file.find(set.shape().linears[t.linear].name + (a ? ".lora_a" : ".lora_b"));
  EXPECT_NE(view, nullptr);
  std::vector<float> out(t.size());
  for (std::size_t r = 0; r < t.rows; ++r) {
    for (std::size_t c = 0; c < t.cols; ++c) {
      out[r * t.cols + c] = load_float(DType::kF32, view->bytes.data(), a ? c * t.rows + r : r * t.cols + c);
    }
  }
  return out;
}

TEST(TrainingTrace, EqualsTheOriginals) {
  const Json trace = json_of(kGolden + "/train/trace.json");
  const Json& c = trace["config"];
  const Folder model, output;
  write_model(model);
  TrainingInputs inputs;
  inputs.settings = {.rank = 4,
                     .scale = c["lora_scale"],
                     .batch_size = c["batch_size"],
                     .grad_accum = c["grad_accum_steps"],
                     .max_seq_len = c["max_seq_len"],
                     .seed = c["seed"],
                     .max_steps = c["max_steps"],
                     .learning_rate = c["learning_rate"],
                     .warmup = c["warmup_steps"],
                     .weight_decay = c["weight_decay"],
                     .max_grad_norm = c["max_grad_norm"],
                     .compat = true,
                     .exact = true};
  const auto examples = [&](const Tokenizer*, Ledger&) -> Result<std::unique_ptr<ExampleSource>> {
    std::vector<Example> list;
    for (const Json& pair : json_of(kGolden + "/train/dataset.json")) {
      Example example;
      example.sequences[0] = {pair[0].get<std::vector<TokenId>>(), pair[1].get<std::vector<std::uint8_t>>()};
      list.push_back(std::move(example));
    }
    return std::unique_ptr<ExampleSource>(
        std::make_unique<TokenExamples>(ok(TokenExamples::create(std::move(list), 32, /*pairs=*/false))));
  };
  auto training = ok(Training::create(ok(open_model(model.path())), nullptr, {}, inputs, {examples, {}}, 1_GiB));
  AdapterSet& adapters = training->adapters();
  const Safetensors initial = ok(Safetensors::open(kGolden + "/train/initial_adapter.safetensors"));
  ASSERT_EQ(2 * initial.tensors().size() / 2, adapters.tensors().size());
  for (const AdapterTensor& t : adapters.tensors()) {
    std::ranges::copy(recorded(initial, adapters, t), adapters.values_of(t).begin());
  }

  const auto ranks = single_process();
  Trainer trainer(*training, *ranks, nullptr, {.folder = output.path(), .data = "dataset.json", .write_adapter = {}});
  const std::atomic<bool> stop = false;
  std::vector<TrainMetrics> steps;
  const TrainEnd end = ok(trainer.run(stop, [&](const MetricsLine& line) {
    if (const auto* step = std::get_if<TrainMetrics>(&line)) steps.push_back(*step);
  }));
  EXPECT_EQ(end, TrainEnd::kDone);
  ASSERT_EQ(steps.size(), trace["trace"].size());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Json& expected = trace["trace"][i];
    const auto near = [&](double came, const char* key) {
      EXPECT_NEAR(came, expected[key].get<double>(), 1e-4 * std::fabs(expected[key].get<double>()) + 1e-12) << i << key;
    };
    near(steps[i].loss, "loss");
    near(steps[i].gradient_norm, "grad_norm");
    // Recorded is the rate that the optimizer would use next; a step has that of its last update.
    EXPECT_EQ(steps[i].update, expected["opt_step"].get<std::uint64_t>());
  }
  EXPECT_EQ(training->ledger().peak(), training->plan().total());

  const Safetensors final_adapter = ok(Safetensors::open(kGolden + "/train/final_adapter.safetensors"));
  double difference = 0, norm = 0;
  for (const AdapterTensor& t : adapters.tensors()) {
    const std::vector<float> expected = recorded(final_adapter, adapters, t);
    for (std::size_t k = 0; k < expected.size(); ++k) {
      const double d = double{adapters.values_of(t)[k]} - double{expected[k]};
      difference += d * d;
      norm += double{expected[k]} * double{expected[k]};
    }
  }
  EXPECT_LE(std::sqrt(difference / norm), 1e-4);
}

}  // namespace
}  // namespace axon::train
