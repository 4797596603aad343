// An adapter in the weights is the adapter beside them.

#include <gtest/gtest.h>

#include <filesystem>

#include "convert/convert.h"
#include "convert/low_rank_rows.h"
#include "model/adapter_for_test.h"

namespace axon {
namespace {

using namespace testing_model;

class Merging {
 public:
  explicit Merging(AdapterKind kind, const std::vector<std::string>& targets = every_target(),
                   const WeightFormat& format = {})
      : config_(tiny_config()), held_(some_shape(config_, kind, targets)) {
    put_model(base_, config_, tiny_tensors(config_, 1, format));
    put_file(base_ / "tokenizer.json", "{}");
    held_.randomise(3);
    ok(write_adapter(out_ / "adapter", held_.set(), AdapterForm::kPeft, config_, {}));
  }
  Status merge(const std::string& name, const WeightFormat& want = {}, bool fold = true, std::size_t threads = 2) {
    const ModelFiles model = ok(open_model(base_.path()));
    const AdapterFiles adapter = ok(AdapterFiles::open(out_ / "adapter", config_));
    const MergePlan plan = ok(plan_merge(model, adapter, want, threads, fold));
    Ledger ledger(1_GiB);
    cpu::ThreadPool pool(threads);
    const Status done = axon::merge(model, adapter, plan, out_ / name, ledger, pool, [](Bytes, Bytes) { return true; });
    EXPECT_EQ(ledger.peak(), plan.convert.buffers + plan.adapters);
    return done;
  }
  std::vector<float> hot(const std::string& folder = {}, const WeightFormat& want = {}) {
    LoadedModel model(folder.empty() ? base_.path() : folder, Arithmetic::kExact, want);
    HeldAdapter held(ok(AdapterFiles::open(out_ / "adapter", model.model().config())));
    model.attach(held.set());
    return model.logits(ids(), {7, 1});
  }
  std::vector<float> plain(const std::string& folder) {
    LoadedModel model(folder);
    return model.logits(ids(), {7, 1});
  }
  const Folder& base() const { return base_; }
  const Folder& out() const { return out_; }

 private:
  static std::vector<std::uint32_t> ids() { return some_ids(24); }
  Config config_;
  Folder base_, out_;
  HeldAdapter held_;
};

const WeightFormat kF32{.kind = WeightFormat::kFloat, .dtype = DType::kF32};
const WeightFormat kF16{.kind = WeightFormat::kFloat, .dtype = DType::kF16};
const WeightFormat kQ8{.kind = WeightFormat::kAffine, .bits = 8, .group_size = 32};

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Merge, IsTheAdapterBesideTheWeights) {
  for (const AdapterKind kind : {AdapterKind::kLora, AdapterKind::kDora}) {
    Merging test(kind);
    ASSERT_TRUE(test.merge("merged").ok());
    const std::vector<float> merged = test.plain(test.out() / "merged");
    EXPECT_LT(difference(merged, test.hot()), 2e-5);
    EXPECT_GT(difference(merged, test.plain(test.base().path())), 0.05);  // it does something
    for (const char* name : {"config.json", "tokenizer.json"}) {
      EXPECT_EQ(contents(test.out() / "merged/" + name), contents(test.base() / name));
    }
  }
}

// Only what has an adapter changes, and every tensor keeps its type.
TEST(Merge, LeavesTheRestAsItIs) {
  for (const WeightFormat& stored : {WeightFormat{}, kQ8}) {
    Merging test(AdapterKind::kLora, {"layer_3.attention.v_proj"}, stored);
    ASSERT_TRUE(test.merge("merged").ok());
    const Safetensors before = ok(Safetensors::open(test.base().path()));
    const Safetensors after = ok(Safetensors::open(test.out() / "merged"));
    ASSERT_EQ(before.tensors().size(), after.tensors().size());
    for (const auto& [name, view] : before.tensors()) {
      const TensorView* now = after.find(name);
      ASSERT_NE(now, nullptr) << name;
      EXPECT_EQ(now->dtype, view.dtype);
      EXPECT_EQ(std::ranges::equal(now->bytes, view.bytes), !name.starts_with("layer_3.attention.v_proj")) << name;
    }
  }
}

// A model in codes is rounded again: near the adapter beside the codes, and the same whatever the threads.
TEST(Merge, OfCodesIsRoundedOnce) {
  Merging test(AdapterKind::kDora, every_target(), kQ8);
  ASSERT_TRUE(test.merge("q8").ok());
  ASSERT_TRUE(test.merge("q8-one", {}, true, 1).ok());
  EXPECT_EQ(contents(test.out() / "q8/model.safetensors"), contents(test.out() / "q8-one/model.safetensors"));
  ASSERT_TRUE(test.merge("f32", kF32).ok());
  const std::vector<float> hot = test.hot();
  EXPECT_LT(difference(test.plain(test.out() / "f32"), hot), 2e-5);
  EXPECT_LT(difference(test.plain(test.out() / "q8"), hot), 0.05);
}

// Straight into codes is quantize of the merged floats, with attention's basis turned or not.
TEST(Merge, IntoCodesIsQuantizeOfTheMerged) {
  Merging test(AdapterKind::kLora);
  ASSERT_TRUE(test.merge("f32", kF32).ok());
  for (const bool fold : {true, false}) {
    const std::string name = fold ? "folded" : "plain";
    ASSERT_TRUE(test.merge(name, kQ8, fold).ok());
    const ModelFiles merged = ok(open_model(test.out() / "f32"));
    const ConvertPlan plan = ok(plan_quantize(merged, kQ8, 1, fold));
    EXPECT_EQ(plan.fold, fold ? RotationFold::kFolded : RotationFold::kNotAsked);
    Ledger ledger(1_GiB);
    cpu::ThreadPool pool(1);
    ASSERT_TRUE(quantize(merged, plan, test.out() / name + "-2", ledger, pool, [](Bytes, Bytes) { return true; }).ok());
    for (const char* file : {"/model.safetensors", "/config.json"}) {
      EXPECT_EQ(contents(test.out() / name + file), contents(test.out() / name + "-2" + file));
    }
  }
}

// An adapter of the plain model beside a model in the rotated basis: turned while it is read.
TEST(Merge, AnAdapterFollowsTheRotatedModel) {
  Merging test(AdapterKind::kLora, {"attention"});
  const ModelFiles model = ok(open_model(test.base().path()));
  const ConvertPlan plan = ok(plan_quantize(model, kQ8, 1, true));
  ASSERT_EQ(plan.fold, RotationFold::kFolded);
  Ledger ledger(1_GiB);
  cpu::ThreadPool pool(1);
  ASSERT_TRUE(quantize(model, plan, test.out() / "q8", ledger, pool, [](Bytes, Bytes) { return true; }).ok());
  const double without = difference(test.plain(test.out() / "q8"), test.hot());
  EXPECT_LT(difference(test.hot(test.out() / "q8"), test.hot()), without / 4);
}

TEST(Merge, LeavesNothingWhenItFails) {
  Merging test(AdapterKind::kLora);
  const ModelFiles model = ok(open_model(test.base().path()));
  const AdapterFiles adapter = ok(AdapterFiles::open(test.out() / "adapter", model.config, 1e8));
  const MergePlan plan = ok(plan_merge(model, adapter, kF16, 1, true));
  Ledger ledger(1_GiB);
  cpu::ThreadPool pool(1);
  const Status overflow =
      merge(model, adapter, plan, test.out() / "m", ledger, pool, [](Bytes, Bytes) { return true; });
  ASSERT_FALSE(overflow.ok());
  EXPECT_NE(overflow.error().message.find("values outside the range of F16"), std::string::npos);
  const Status cancelled =
      merge(model, adapter, plan, test.out() / "m", ledger, pool, [](Bytes, Bytes) { return false; });
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(test.out().entries(), 1u);  // the adapter
  Ledger small(plan.convert.buffers);
  const Status refused = merge(model, adapter, plan, test.out() / "m", small, pool, [](Bytes, Bytes) { return true; });
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOverBudget);
}

}  // namespace
}  // namespace axon
