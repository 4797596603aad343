// The rotation in attention's matrices: the same function, the same codes as folding first, all matrices or none.

#include "convert/fold_rotation.h"

#include <gtest/gtest.h>

#include <cstring>
#include <iterator>

#include "convert/convert.h"
#include "model/tiny_model_for_test.h"

namespace axon {
namespace {

using namespace testing_model;
using turboquant::Rotation;

const WriteProgress kQuiet = [](Bytes, Bytes) { return true; };

std::vector<float> random_values(std::size_t count, std::uint64_t stream) {
  const CounterRng rng(11, stream);
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = rng.normal(i);
  return out;
}

// out[r] = sum_c w[r, c] x[c]
std::vector<double> product(std::span<const float> w, std::span<const double> x) {
  std::vector<double> out(w.size() / x.size());
  for (std::size_t i = 0; i < w.size(); ++i) out[i / x.size()] += double{w[i]} * x[i % x.size()];
  return out;
}

double largest_difference(std::span<const double> a, std::span<const double> b) {
  double most = 0, scale = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::fabs(a[i] - b[i]));
    scale = std::max(scale, std::fabs(b[i]));
  }
  return most / scale;
}

// q, k, v, o of 3 heads, as stored and folded.
struct Projections {
  std::size_t head_dim, width = 3 * head_dim;
  std::array<std::vector<float>, 4> plain, folded;
  explicit Projections(std::size_t a) : head_dim(a) {
    const Rotation rotation(head_dim);
    for (std::size_t i = 0; i < 4; ++i) {
      plain[i] = folded[i] = random_values(width * width, i);
      rotate_heads(rotation, i < 3 ? Heads::kInRows : Heads::kInCols, folded[i], width);
    }
  }
  std::vector<double> input(std::uint64_t stream) const {
    const auto values = random_values(width, stream);
    return {values.begin(), values.end()};
  }
};

// It is R, not its transpose: what a cache that rotates at run time would have made of the plain matrices' output.
TEST(FoldRotation, OutputsAreThoseOfTheRotation) {
  for (const std::size_t a : {16u, 48u, 64u, 80u, 128u}) {
    const Projections p(a);
    const Rotation rotation(a);
    const std::vector<float> matrix = rotation.matrix();
    for (std::size_t i = 0; i < 3; ++i) {
      const auto plain = product(p.plain[i], p.input(9)), folded = product(p.folded[i], p.input(9));
      for (std::size_t head = 0; head < 3; ++head) {
        const std::span<const double> x = std::span(plain).subspan(head * a, a);
        EXPECT_LE(largest_difference(std::span(folded).subspan(head * a, a), product(matrix, x)), 1e-5) << a;
      }
    }
  }
}

TEST(FoldRotation, ScoresAndOutputsStayTheSame) {
  for (const std::size_t a : {16u, 80u, 112u}) {
    const Projections p(a);
    const auto scores = [&](const std::array<std::vector<float>, 4>& w) {
      const auto q = product(w[0], p.input(20)), k = product(w[1], p.input(21));
      std::vector<double> out(3);
      for (std::size_t i = 0; i < q.size(); ++i) out[i / a] += q[i] * k[i];
      return out;
    };
    const auto output = [&](const std::array<std::vector<float>, 4>& w) {
      auto v = product(w[2], p.input(22));
      for (std::size_t i = 0; i < v.size(); ++i) v[i] *= 0.1 + static_cast<double>(i / a);  // heads attend differently
      return product(w[3], v);
    };
    EXPECT_LE(largest_difference(scores(p.folded), scores(p.plain)), 1e-5) << a;
    EXPECT_LE(largest_difference(output(p.folded), output(p.plain)), 1e-5) << a;
    EXPECT_GT(largest_difference(output({p.plain[0], p.plain[1], p.folded[2], p.plain[3]}), output(p.plain)), 0.1);
  }
}

std::vector<float> floats_of(const FileTensor& t) {
  std::vector<float> out(t.bytes.size() / size_of(t.dtype));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = load_float(t.dtype, t.bytes.data(), i);
  return out;
}

// Attention's matrices folded, in float32.
FileTensors folded_by_hand(FileTensors tensors, const Config& config) {
  const Rotation rotation(config.head_dim());
  for (const TensorSpec& spec : tensor_list(config)) {
    if (spec.heads == Heads::kNone) continue;
    std::vector<float> values = floats_of(tensors.at(spec.full_name()));
    rotate_heads(rotation, spec.heads, values, spec.cols());
    tensors.at(spec.full_name()) = as_floats(spec, values, DType::kF32);
  }
  return tensors;
}

Config with_heads(std::uint64_t hidden, std::uint64_t heads, std::uint64_t layers = 6) {
  Config config = tiny_config();
  config.hidden_dim = hidden, config.num_heads = heads, config.num_layers = layers;
  return config;
}

Config rotated(Config config) {
  config.kv_rotated = true;
  return config;
}

TEST(FoldRotation, AFoldedModelGivesTheSameLogits) {
  for (const Config& config : {tiny_config(), with_heads(160, 2), with_heads(192, 4)}) {
    const FileTensors tensors = tiny_tensors(config);
    const Folder plain, folded;
    put_model(plain, config, tensors);
    put_model(folded, rotated(config), folded_by_hand(tensors, config));
    const auto ids = some_ids(60);
    LoadedModel a(plain.path()), b(folded.path());
    EXPECT_FALSE(a.model().config().kv_rotated);
    EXPECT_TRUE(b.model().config().kv_rotated);
    const auto expected = a.logits(ids, {60}), came = b.logits(ids, {60});
    EXPECT_LE(difference(came, expected), 1e-4);
    EXPECT_NE(came, expected);
    EXPECT_LE(difference(b.logits(ids, {1}), expected), 1e-4);
  }
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A source model that is quantised into other folders.
struct Source {
  Folder folder;
  Config config;
  Source(const Config& c, const FileTensors& tensors) : config(c) {
    std::filesystem::create_directory(folder / "in");
    put_file(folder / "in/config.json", to_json(config));
    put_file(folder / "in/model.safetensors", file_of(tensors));
  }
  // What became of the basis; the peak of memory is the planned one, to the byte.
  RotationFold quantise(const std::string& to, const std::string& want, bool fold = true, std::size_t threads = 1,
                        const std::string& from = "in") const {
    const ModelFiles files = ok(open_model(folder / from));
    const ConvertPlan plan = ok(plan_quantize(files, ok(parse_weight_format(want)), threads, fold));
    Ledger ledger(plan.buffers);
    cpu::ThreadPool pool(threads);
    const Status status = axon::quantize(files, plan, folder / to, ledger, pool, kQuiet);
    EXPECT_TRUE(status.ok()) << status.error().message;
    EXPECT_EQ(ledger.peak(), plan.buffers);
    EXPECT_EQ(config_of(to).kv_rotated, is_rotated(*plan.fold));
    return *plan.fold;
  }
  Config config_of(const std::string& name) const { return ok(open_model(folder / name)).config; }
  std::string weights(const std::string& name) const { return contents(folder / name + "/model.safetensors"); }
};

// Bit for bit what folding in float32 and then quantising gives.
TEST(FoldRotation, QuantizeFoldsWhatIsFloat) {
  const std::array configs = {tiny_config(), with_heads(128, 2), with_heads(320, 4)};
  for (const Config& config : configs) {
    for (const char* stored : {"f32", "bf16", "f16"}) {
      const FileTensors tensors = tiny_tensors(config, 1, ok(parse_weight_format(stored)));
      const Source source(config, tensors), by_hand(rotated(config), folded_by_hand(tensors, config));
      for (const std::string want : {"q8", "q4g32", "q3"}) {
        EXPECT_EQ(source.quantise(want, want), RotationFold::kFolded);
        EXPECT_EQ(by_hand.quantise(want, want), RotationFold::kInSource);
        EXPECT_TRUE(source.weights(want) == by_hand.weights(want)) << stored << " as " << want;
        EXPECT_TRUE(source.config_of(want) == rotated(config));
      }
      EXPECT_EQ(source.quantise("plain", "q8", /*fold=*/false), RotationFold::kNotAsked);
      EXPECT_FALSE(source.weights("plain") == source.weights("q8"));
      EXPECT_EQ(contents(source.folder / "plain/config.json"), contents(source.folder / "in/config.json"));
    }
  }
}

// Weights so large that the rotation's sums overflow are refused as they are without it.
TEST(FoldRotation, EnormousWeightsAreNamed) {
  for (const char* name : {"layer_2.attention.k_proj.weight", "layer_3.attention.o_proj.weight"}) {
    FileTensors tensors = tiny_tensors(tiny_config());
    std::vector<std::byte>& bytes = tensors.at(name).bytes;
    for (std::size_t i = 0; i < bytes.size() / 4; i += 7) store_float(DType::kF32, bytes.data(), i, 3e38f);
    const Source source(tiny_config(), tensors);
    const ModelFiles files = ok(open_model(source.folder / "in"));
    for (const bool fold : {true, false}) {
      const ConvertPlan plan = ok(plan_quantize(files, ok(parse_weight_format("q4")), 1, fold));
      Ledger ledger(plan.buffers);
      cpu::ThreadPool pool(1);
      const Status status = axon::quantize(files, plan, source.folder / "out", ledger, pool, kQuiet);
      ASSERT_FALSE(status.ok());
      EXPECT_NE(status.error().message.find(fmt::format("tensor {}: rows 0 to 63 have values outside", name)),
                std::string::npos)
          << status.error().message;
    }
  }
}

// A column that overflows beside others that do not: what the group's fit would pass over.
TEST(FoldRotation, OverflowIsInfinity) {
  const Rotation rotation(16);
  std::vector<float> rows(16 * 4, 1.0f), row(16, 3e38f);
  for (std::size_t i = 0; i < 16; ++i) rows[i * 4 + 2] = 3e38f;
  rotate_heads(rotation, Heads::kInRows, rows, 4);
  rotate_heads(rotation, Heads::kInCols, row, 16);
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(std::isfinite(rows[i]), i % 4 != 2) << i;
  for (const float v : row) EXPECT_FALSE(std::isnan(v));
  for (const float v : rows) EXPECT_FALSE(std::isnan(v));
}

TEST(FoldRotation, ThreadsDoNotShow) {
  const Config config = with_heads(320, 4);
  const Source source(config, tiny_tensors(config));
  for (const std::size_t threads : {1u, 2u, 3u, 7u}) {
    EXPECT_EQ(source.quantise(fmt::format("{}", threads), "q4", true, threads), RotationFold::kFolded);
    EXPECT_TRUE(source.weights(fmt::format("{}", threads)) == source.weights("1")) << threads;
  }
}

TEST(FoldRotation, ARotatedModelStaysRotated) {
  const Source source(tiny_config(), tiny_tensors(tiny_config()));
  EXPECT_EQ(source.quantise("q8", "q8"), RotationFold::kFolded);
  for (const bool fold : {true, false}) {
    const std::string out = fmt::format("q4-{}", fold);
    EXPECT_EQ(source.quantise(out, "q4", fold, 1, "q8"), RotationFold::kInSource);
    EXPECT_TRUE(source.weights(out) == source.weights("q4-true"));
  }
  EXPECT_EQ(source.quantise("third", "q8", true, 1, "q4-true"), RotationFold::kInSource);
}

TEST(FoldRotation, AllMatricesOrNone) {
  const auto expect = [](const Config& config, const FileTensors& tensors, const std::string& want,
                         RotationFold expected) {
    const Source source(config, tensors);
    EXPECT_EQ(source.quantise("asked", want), expected) << describe(expected, config);
    EXPECT_EQ(source.quantise("not asked", want, /*fold=*/false), RotationFold::kNotAsked);
    EXPECT_TRUE(source.weights("asked") == source.weights("not asked")) << describe(expected, config);
    EXPECT_EQ(contents(source.folder / "asked/config.json"), contents(source.folder / "in/config.json"));
  };
  const Config tiny = tiny_config();
  expect(tiny, tiny_tensors(tiny, 1, ok(parse_weight_format("q8"))), "q4", RotationFold::kSourceQuantised);
  for (const TensorSpec& spec : tensor_list(tiny)) {
    if (spec.heads == Heads::kNone) continue;
    FileTensors mixed = tiny_tensors(tiny);
    put_quantised(mixed, spec, values_of(spec, 1), 8, 64, DType::kF16);
    expect(tiny, mixed, "q4", RotationFold::kSourceQuantised);
  }
  for (const char* want : {"bf16", "keep"}) expect(tiny, tiny_tensors(tiny), want, RotationFold::kFloatOutput);
  const Config narrow = with_heads(96, 2);  // rows that groups of 64 do not divide stay in floating point
  expect(narrow, tiny_tensors(narrow), "q4", RotationFold::kFloatOutput);
  const Config eight = with_heads(64, 8);
  expect(eight, tiny_tensors(eight), "q4", RotationFold::kHeadDim);
  EXPECT_EQ(describe(RotationFold::kHeadDim, eight), "not folded: head_dim 8 is not a multiple of 16, at most 1024");
  const Config recurrent = with_heads(64, 4, 2);
  expect(recurrent, tiny_tensors(recurrent), "q4", RotationFold::kNoAttention);
}

TEST(FoldRotation, HeadsTakeTheirRowsOfMemory) {
  const Source source(tiny_config(), tiny_tensors(tiny_config()));
  const ModelFiles files = ok(open_model(source.folder / "in"));
  const auto buffers = [&](std::size_t threads, bool fold) {
    return ok(plan_quantize(files, ok(parse_weight_format("q4")), threads, fold)).buffers;
  };
  EXPECT_EQ(buffers(3, true) - buffers(1, true), Bytes{2 * 16 * 64 * 4});  // the 16 rows of a head a thread
  EXPECT_GT(buffers(1, true), buffers(1, false));
}

// Values that say where they belong, and a note of every piece that was asked for.
class Counting : public RowSource {
 public:
  static float value(std::uint64_t row, std::uint64_t col) { return static_cast<float>(row * 3 + col % 5); }
  void read(const OutputTensor& t, std::uint64_t first, std::span<float> rows) const override {
    EXPECT_EQ(first % t.rows_together, 0u);
    EXPECT_EQ(rows.size(), t.rows_together * t.cols());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = value(first + i / t.cols(), i % t.cols());
  }
  void passed(const OutputTensor& t, std::uint64_t rows) const override { EXPECT_EQ(rows % t.rows_together, 0u); }
};

// Rows of 64 KiB and of 32 KiB: blocks of 2 MiB hold less than 48 of them, and no multiple of 48.
TEST(FoldRotation, ABlockHoldsWholeHeads) {
  std::vector<OutputTensor> tensors;
  for (const std::uint64_t cols : {16384u, 8192u}) {
    OutputTensor t;
    t.spec.name = fmt::format("t{}", cols);
    t.spec.shape = {144, cols};
    t.spec.use = TensorUse::kMatrix;
    t.dtype = DType::kF32;
    t.rows_together = 48;
    tensors.push_back(t);
  }
  const Folder folder;
  const Bytes buffers = write_model_buffers(tensors, 2);
  Ledger ledger(buffers);
  cpu::ThreadPool pool(2);
  ASSERT_TRUE(write_model(folder / "model.safetensors", tensors, Counting(), ledger, pool, kQuiet).ok());
  EXPECT_EQ(ledger.peak(), buffers);
  const Safetensors file = ok(Safetensors::open(folder.path()));
  for (const OutputTensor& t : tensors) {
    const TensorView* view = file.find(t.spec.name);
    ASSERT_NE(view, nullptr);
    for (std::uint64_t i = 0; i < t.spec.shape.elements(); ++i) {
      ASSERT_EQ(load_float(DType::kF32, view->bytes.data(), i), Counting::value(i / t.cols(), i % t.cols())) << i;
    }
  }
}

}  // namespace
}  // namespace axon
