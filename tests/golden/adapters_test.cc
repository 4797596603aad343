// Against the original running on MLX: the adapter that it trained, beside the float weights and merged into them, and
// its DoRA, as it computes it and as it merges it.

#include <cmath>
#include <filesystem>

#include "convert/low_rank_rows.h"
#include "golden.h"
#include "kernels/reference_device.h"
#include "model/adapter_for_test.h"

namespace axon {
namespace {

using golden::ok;
using golden::Recorded;

const Recorded& misc() {
  static const Recorded r("mlx-tiny/misc.safetensors");
  return r;
}

// Logits of every position, with the adapter (may be null) beside the weights.
std::vector<float> logits_of(const AdapterFiles* adapter) {
  ModelFiles files = ok(open_model(golden::path("mlx-tiny/fp")));
  const EngineOptions options{
      .weights = {},
      .session = {.context = 64, .prefill_chunk = 64, .arithmetic = Arithmetic::kExact, .logits_rows = 12},
      .sampling = {},
      .threads = 2,
      .text = {},
      .adapter = adapter};
  const EnginePlan plan = ok(Engine::plan(files, nullptr, options));
  const auto engine = ok(Engine::create(std::move(files), nullptr, {}, plan, options, plan.total()));
  const auto ids = Recorded("mlx-tiny/forward.safetensors").ids("ids_a");
  ok(engine->session().prefill(ids));
  const Mat<float> logits = engine->session().logits_of(0, ids.size());
  return {logits.data, logits.data + logits.rows * logits.cols};
}

AdapterFiles trained() {
  const Config config = ok(open_model(golden::path("mlx-tiny/fp"))).config;
  return ok(AdapterFiles::open(golden::path("mlx-tiny/train/final_adapter.safetensors"), config));
}

void expect_close(std::span<const float> came, std::span<const float> expected) {
  EXPECT_LE(golden::largest_difference(came, expected), 1e-5f * golden::largest(expected));
}

TEST(MlxTinyAdapter, BesideTheWeights) {
  const AdapterFiles adapter = trained();
  EXPECT_EQ(adapter.form(), AdapterForm::kOriginal);
  EXPECT_EQ(adapter.shape().scale, 20.0f);
  const std::vector<float> came = logits_of(&adapter);
  expect_close(came, misc().floats("unmerged_fp.logits_a"));
  expect_close(came, misc().floats("merged_fp.logits_a"));
  EXPECT_GT(golden::largest_difference(came, logits_of(nullptr)), 0.01f * golden::largest(came));
}

// One matrix W [32, 64], with A [64, 4] and B [4, 32] as MLX has them; here both have the rank first.
struct Dora {
  std::vector<float> w = misc().floats("dora.w"), x = misc().floats("dora.x"), y = std::vector<float>(3 * 32);
  testing_model::HeldAdapter held{
      {.kind = AdapterKind::kDora, .scale = 20.0f, .linears = {{"input_proj", 64, 32, 0, 4}}}};

  Dora() {
    const auto tensors = held.set().tensors();
    const std::vector<float> a = misc().floats("dora.a");
    for (std::size_t r = 0; r < 4; ++r) {
      for (std::size_t i = 0; i < 64; ++i) held.set().values_of(tensors[0])[r * 64 + i] = a[i * 4 + r];
    }
    std::ranges::copy(misc().floats("dora.b"), held.set().values_of(tensors[1]).begin());
    std::ranges::copy(misc().floats("dora.m"), held.set().values_of(tensors[2]).begin());
  }
  Mat<const float> in() const { return {x.data(), 3, 64}; }
  Mat<float> out() { return {y.data(), 3, 32}; }
};

TEST(MlxTinyAdapter, DoraMerged) {
  Dora dora;
  const LowRankRows rows(dora.held.set());
  for (std::size_t r = 0; r < 32; ++r) rows.add("input_proj", r, std::span(dora.w).subspan(r * 64, 64));
  const Weight weight{.data = dora.w.data(), .rows = 32, .cols = 64, .dtype = DType::kF32, .affine = {}};
  ReferenceDevice device(Arithmetic::kExact);
  device.matmul(weight, dora.in(), dora.out());
  expect_close(dora.y, misc().floats("dora.y_fused"));
}

// Beside the weights it is what it is merged; with the original's cross term, half of the right one, it is not.
TEST(MlxTinyAdapter, DoraBesideTheWeights) {
  Config config = testing_model::tiny_config();
  config.hidden_dim = 32, config.num_heads = 2;
  auto tensors = testing_model::tiny_tensors(config);
  const std::vector<float> w = misc().floats("dora.w");
  std::ranges::copy(std::as_bytes(std::span(w)), tensors["input_proj.weight"].bytes.begin());
  const testing_model::Folder folder;
  testing_model::put_model(folder, config, tensors);
  testing_model::LoadedModel model(folder.path());
  Dora dora;
  model.attach(dora.held.set());
  const auto forward = [&] {
    Ledger ledger(1_MiB);
    const Arena arena = ok(Arena::create(ledger, account::kWorkspace, 64_KiB));
    Carver carver = arena.carver();
    const AdapterNeeds needs = dora.held.set().shape().needs();
    const LinearScratch scratch(carver, 3, 1, 64, needs);
    const LinearCall call{model.model().weights().input_proj, dora.in(), {}, dora.out(), carver.mat<float>(3, 4)};
    linear_forward(model.device(), {&call, 1}, scratch);
    return dora.y;
  };
  expect_close(forward(), misc().floats("dora.y_fused"));
  dora.held.set().refresh(model.device().pool(), /*compat=*/true);
  expect_close(forward(), misc().floats("dora.y_forward_as_coded"));
  EXPECT_GT(golden::largest_difference(dora.y, misc().floats("dora.y_fused")), 1e-3f);
}

}  // namespace
}  // namespace axon
