// The way back of the whole model against central differences in double: every value of every adapter and the gradient
// of the first block's input, through all three kinds of block, with LoRA and DoRA, on every CPU level. And that a sign
// flipped in any verb of the way back is seen.

#include <gtest/gtest.h>

#include "kernels/cpu/level.h"
#include "model/double_model_for_test.h"
#include "model/tiny_model_for_test.h"
#include "model/training_pass.h"

namespace axon {
namespace {

using namespace testing_model;

// One block of each kind; small enough to differentiate every value, with groups of 32 to quantise.
Config gradient_config() {
  Config c = tiny_config();
  c.vocab_size = 41;
  c.hidden_dim = c.d_source_model = c.moe_intermediate_dim = 32;
  c.num_layers = 3;
  c.num_heads = 2;
  c.ssm_d_state = 3;
  c.ssm_d_conv = 3;
  c.ssm_expand = 1;
  c.swa_window_size = 4;
  c.moe_num_experts = 3;
  return c;
}

struct Case {
  AdapterKind kind = AdapterKind::kLora;
  float dropout = 0;
};

constexpr std::size_t kTokens = 13, kRank = 2, kChunk = 4;

class Gradients {
 public:
  explicit Gradients(const Case& c) : case_(c) {
    const Config config = gradient_config();
    const WeightFormat q8{.kind = WeightFormat::kAffine, .bits = 8, .group_size = 32};
    put_model(folder_, config, tiny_tensors(config, 3, q8));
    ModelFiles files = ok(open_model(folder_.path()));
    weights_plan_ = ok(plan_weights(config, files.tensors, {}, 1));
    model_.emplace(ok(Model::load(config, std::move(files.tensors), weights_plan_, ledger_, pool_)));
    const std::vector<std::string> targets = {"all-linear", "experts"};
    AdapterShape shape{.kind = c.kind, .scale = 1.5f, .linears = ok(find_linears(config, targets, kRank))};
    Carver measure;
    AdapterSet(measure, shape);
    arena_ = ok(Arena::create(ledger_, account::kAdapters, measure.peak()));
    Carver carver = arena_.carver();
    adapters_ = AdapterSet(carver, shape);
    adapters_.initialise(5);
    adapters_.attach(*model_, pool_, /*fresh=*/true);
    for (const AdapterTensor& t : adapters_.tensors()) {  // B as after some steps, magnitudes apart from norms
      const std::span<float> values = adapters_.values_of(t);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const float noise = CounterRng(9, t.first).normal(i);
        if (t.part == AdapterTensor::Part::kB) values[i] = 0.2f * noise;
        if (t.part == AdapterTensor::Part::kMagnitude) values[i] *= 1 + 0.1f * noise;
      }
    }
    adapters_.refresh(pool_);
    gradients_.resize(adapters_.values().size());
    adapters_.learn(gradients_);

    in_.ids = some_ids(kTokens, config.vocab_size, 11);
    in_.starts = {0, 6, 7};  // sequences of 6, 1 and 6 tokens; chunks of 4 cut them
    in_.labels = some_ids(kTokens, config.vocab_size, 12);
    for (const std::size_t t : {std::size_t{0}, std::size_t{6}, std::size_t{8}}) in_.labels[t] = kNoLabel;
    for (std::size_t t = 0; t < kTokens; ++t) in_.factors.push_back(0.1f + 0.02f * static_cast<float>(t));
    in_.dropout = c.dropout;
    in_.seed = 77;
    in_.chunk = kChunk;
  }

  // Central differences: of the values, then of what is added to the first block's input.
  const std::pair<Vec, Vec>& expected() {
    if (!expected_.first.empty()) return expected_;
    DoubleModel slow(*model_, adapters_);
    Vec values(adapters_.values().begin(), adapters_.values().end());
    Vec dx(kTokens * model_->config().hidden_dim);
    for (Vec* at : {&values, &dx}) {
      Vec& out = at == &values ? expected_.first : expected_.second;
      for (double& v : *at) {
        const double before = v, step = 1e-5;
        v = before + step;
        const double above = slow.loss(in_, values, dx);
        v = before - step;
        out.push_back((above - slow.loss(in_, values, dx)) / (2 * step));
        v = before;
      }
    }
    return expected_;
  }
  double expected_loss() {
    DoubleModel slow(*model_, adapters_);
    return slow.loss(in_, Vec(adapters_.values().begin(), adapters_.values().end()),
                     Vec(kTokens * model_->config().hidden_dim));
  }

  static TrainingShape shape(const Case& c) {
    AdapterNeeds needs{
        .rank = kRank, .dora = c.kind == AdapterKind::kDora, .dropout = c.dropout != 0, .backward = true};
    return {.row = {.tokens_max = 16, .chunk = kChunk, .needs = needs}, .loss_rows = 5};
  }

  // What the way back gives on `device`, compared tensor by tensor: the worst difference, relative to the norm of what
  // is expected of that tensor, and its name.
  std::pair<double, std::string> worst(Device& device) {
    Ledger ledger(1_GiB);
    TrainingPass pass = ok(TrainingPass::create(*model_, device, ledger, shape(case_)));
    std::ranges::fill(gradients_, 0.0f);
    pass.set_dropout(case_.dropout, in_.seed);
    pass.forward(in_.ids, {.tokens = kTokens, .starts = in_.starts});
    std::vector<float> loss(kTokens);
    pass.backward({in_.labels, in_.factors, loss});
    adapters_.finish_gradients(pool_);
    std::pair<double, std::string> most{0, "none"};
    const auto compare = [&](std::span<const float> came, const Vec& all, std::size_t first, const std::string& name) {
      double difference = 0, norm = 0;
      for (std::size_t i = 0; i < came.size(); ++i) {
        const double e = all[first + i], d = double{came[i]} - e;
        difference += d * d;
        norm += e * e;
      }
      const double relative = std::sqrt(difference) / std::max(std::sqrt(norm), 1e-6);
      if (!(relative <= most.first)) most = {relative, name};
    };
    for (const AdapterTensor& t : adapters_.tensors()) {
      const char* part = t.part == AdapterTensor::Part::kA ? "a" : t.part == AdapterTensor::Part::kB ? "b" : "m";
      compare(std::span<const float>(gradients_).subspan(t.first, t.size()), expected().first, t.first,
              fmt::format("{}.{} of expert {}", adapters_.shape().linears[t.linear].name, part, t.expert));
    }
    const Mat<const float> dx = pass.dx();
    compare({dx.data, dx.rows * dx.cols}, expected().second, 0, "dx");
    return most;
  }

  double loss_of(Device& device) {
    Ledger ledger(1_GiB);
    TrainingPass pass = ok(TrainingPass::create(*model_, device, ledger, shape(case_)));
    pass.set_dropout(case_.dropout, in_.seed);
    pass.forward(in_.ids, {.tokens = kTokens, .starts = in_.starts});
    std::vector<float> loss(kTokens);
    pass.losses(in_.labels, loss);
    double sum = 0;
    for (std::size_t t = 0; t < kTokens; ++t) sum += double{in_.factors[t]} * double{loss[t]};
    return sum;
  }
  const Config& config() const { return model_->config(); }

 private:
  Case case_;
  Folder folder_;
  Ledger ledger_{1_GiB};
  cpu::ThreadPool pool_{1};
  WeightsPlan weights_plan_;
  std::optional<Model> model_;
  Arena arena_;
  AdapterSet adapters_;
  std::vector<float> gradients_;
  DoubleModel::Input in_;
  std::pair<Vec, Vec> expected_;
};

// Float32 between the steps of three blocks, 2^-24 each; measured 2e-6 to 2e-5 of a tensor's norm.
constexpr double kTolerance = 1e-4;

class Gradient : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Gradient,
                         ::testing::Values(Case{}, Case{AdapterKind::kDora, 0}, Case{AdapterKind::kLora, 0.3f},
                                           Case{AdapterKind::kDora, 0.3f}),
                         [](const auto& test) {
                           return std::string(test.param.kind == AdapterKind::kDora ? "Dora" : "Lora") +
                                  (test.param.dropout != 0 ? "Dropout" : "");
                         });

TEST_P(Gradient, EqualsCentralDifferencesOnEveryLevel) {
  Gradients gradients(GetParam());
  ReferenceDevice slow(Arithmetic::kExact);
  EXPECT_NEAR(gradients.loss_of(slow), gradients.expected_loss(), 1e-5);
  const auto [worst, where] = gradients.worst(slow);
  EXPECT_LE(worst, kTolerance) << where;
  const std::string before(cpu::name_of(cpu::level()));
  for (const cpu::Level level : cpu::supported_levels()) {
    ASSERT_TRUE(cpu::force(cpu::name_of(level)).ok());
    for (const std::size_t threads : {std::size_t{1}, std::size_t{3}}) {
      Ledger ledger(1_GiB);
      const auto limits = TrainingPass::limits(gradients.config(), Gradients::shape(GetParam()));
      const auto device = ok(cpu::CpuDevice::create(ledger, limits, threads, Arithmetic::kExact));
      const auto [most, name] = gradients.worst(*device);
      EXPECT_LE(most, kTolerance) << cpu::name_of(level) << ", " << threads << " threads: " << name;
    }
  }
  ASSERT_TRUE(cpu::force(before).ok());
}

// The slow device with one output of one verb of the way back negated.
class FlippedDevice : public ReferenceDevice {
 public:
  enum Flip {
    kNone,
    kOuter,
    kColumnDots,
    kNorm,
    kConvInput,
    kConvCarry,
    kScanInput,
    kScanGate,
    kScanParameters,
    kScanState,
    kQueries,
    kKeys,
    kValues,
    kRoute,
    kGate,
    kUp,
    kRouted,
    kScores,
    kShared,
    kSharedGate,
    kRows,
    kLoss,
    kWeight,
    kFlips
  };
  explicit FlippedDevice(Flip flip) : ReferenceDevice(Arithmetic::kExact), flip_(flip) {}

  using Device::matmul_transposed;
  void matmul_transposed(std::span<const Product> products) override {
    for (Product p : products) {  // of the frozen weights alone: adapters' go the way there, too
      Copy x(p.x, flip_ == kWeight && p.weight.quantised());
      p.x = x.mat;
      ReferenceDevice::matmul_transposed({&p, 1});
    }
  }
  void add_outer(std::span<const OuterProduct> products) override {
    for (OuterProduct p : products) {
      if (flip_ == kOuter) p.factor = -p.factor;
      ReferenceDevice::add_outer({&p, 1});
    }
  }
  void add_column_dots(Mat<const float> a, Mat<const float> b, std::span<float> g) override {
    ReferenceDevice::add_column_dots(Copy(a, flip_ == kColumnDots).mat, b, g);
  }
  void rms_norm_backward(Mat<const float> x, std::span<const float> weight, float eps, Mat<const float> dy,
                         Mat<float> dx) override {
    ReferenceDevice::rms_norm_backward(x, weight, eps, Copy(dy, flip_ == kNorm).mat, dx);
  }
  void conv_silu_backward(Mat<const float> x, Mat<const float> taps, std::span<const float> bias, Mat<const float> tail,
                          Mat<const float> du, Mat<float> carry, Mat<float> dx) override {
    ReferenceDevice::conv_silu_backward(x, taps, bias, tail, du, carry, dx);
    negate(kConvInput, dx);
    negate(kConvCarry, carry);
  }
  void scan_backward(const ScanInput& in, Mat<const float> h, Mat<const float> dy, Mat<float> dh, Mat<float> du,
                     Mat<float> dz, Mat<float> dbcdt) override {
    ReferenceDevice::scan_backward(in, h, dy, dh, du, dz, dbcdt);
    negate(kScanState, dh);
    negate(kScanInput, du);
    negate(kScanGate, dz);
    negate(kScanParameters, dbcdt);
  }
  void attend_backward(Mat<const float> q, Mat<const float> k, Mat<const float> v, std::size_t heads,
                       std::size_t window, Mat<const float> y, Mat<const float> log_sums, Mat<const float> dy,
                       Mat<float> dq, Mat<float> dk, Mat<float> dv) override {
    ReferenceDevice::attend_backward(q, k, v, heads, window, y, log_sums, dy, dq, dk, dv);
    negate(kQueries, dq);
    negate(kKeys, dk);
    negate(kValues, dv);
  }
  void route_backward(Mat<const float> logits, Mat<const std::uint32_t> experts, Mat<const float> dscores,
                      Mat<float> dlogits) override {
    ReferenceDevice::route_backward(logits, experts, dscores, dlogits);
    negate(kRoute, dlogits);
  }
  void swiglu_backward(Mat<const float> gate, Mat<const float> up, Mat<const float> dh, Mat<float> dgate,
                       Mat<float> dup) override {
    ReferenceDevice::swiglu_backward(gate, up, dh, dgate, dup);
    negate(kGate, dgate);
    negate(kUp, dup);
  }
  void combine_backward(Mat<const float> routed, Mat<const std::uint32_t> slots, Mat<const float> scores,
                        Mat<const float> shared, Mat<const float> shared_gate, Mat<const float> dy, Mat<float> drouted,
                        Mat<float> dscores, Mat<float> dshared, Mat<float> dshared_gate) override {
    ReferenceDevice::combine_backward(routed, slots, scores, shared, shared_gate, dy, drouted, dscores, dshared,
                                      dshared_gate);
    negate(kRouted, drouted);
    negate(kScores, dscores);
    negate(kShared, dshared);
    negate(kSharedGate, dshared_gate);
  }
  void add_rows(Mat<const float> rows, Mat<const std::uint32_t> slots, Mat<float> x) override {
    ReferenceDevice::add_rows(Copy(rows, flip_ == kRows).mat, slots, x);
  }
  void cross_entropy_backward(Mat<float> logits, std::span<const std::uint32_t> labels,
                              std::span<const float> factors) override {
    ReferenceDevice::cross_entropy_backward(logits, labels, factors);
    negate(kLoss, logits);
  }

 private:
  struct Copy {
    std::vector<float> values;
    Mat<const float> mat;
    Copy(Mat<const float> m, bool negative) : mat(m) {
      if (!negative) return;
      for (std::size_t t = 0; t < m.rows; ++t) {
        for (const float v : m.row(t)) values.push_back(-v);
      }
      mat = {values.data(), m.rows, m.cols};
    }
  };
  void negate(Flip flip, Mat<float> m) const {
    if (flip != flip_) return;
    for (std::size_t t = 0; t < m.rows; ++t) {
      for (float& v : m.row(t)) v = -v;
    }
  }
  Flip flip_;
};

TEST(GradientCheck, SeesEveryFlippedSign) {
  for (const AdapterKind kind : {AdapterKind::kLora, AdapterKind::kDora}) {
    Gradients gradients({.kind = kind});
    for (int flip = 0; flip < FlippedDevice::kFlips; ++flip) {
      FlippedDevice device(static_cast<FlippedDevice::Flip>(flip));
      const auto [worst, where] = gradients.worst(device);
      const bool absent = flip == FlippedDevice::kColumnDots && kind == AdapterKind::kLora;
      if (flip == FlippedDevice::kNone || absent) {
        EXPECT_LE(worst, kTolerance) << flip << ": " << where;
      } else {
        EXPECT_GT(worst, 100 * kTolerance) << flip;
      }
    }
  }
}

}  // namespace
}  // namespace axon
