#include "plan/architecture_subject.h"

#include <rapidcheck.h>

#include "plan/plan_for_test.h"
#include "plan/train_plan.h"

namespace axon {
namespace {

using namespace testing_plan;

std::uint64_t cache(const std::string& model, std::uint64_t tokens, const std::string& kv = "fp16") {
  return bytes_of(footprint_of(*subject_of(model), choice_of(tokens, "keep", kv)), "kv cache");
}
std::uint64_t weights(const Footprint& f) {
  std::uint64_t sum = 0;
  for (const Account& a : f.accounts) sum += a.name.starts_with("weights") ? a.bytes.count : 0;
  return sum;
}

TEST(ForeignSubject, Llama31Keeps128KiBAToken) {
  EXPECT_EQ(cache("llama-3.1-8b", 1), 131'072u);
  EXPECT_EQ(cache("llama-3.1-8b", 131072), std::uint64_t{16} << 30);
  EXPECT_EQ(cache("llama-3.1-8b", 131072, "fp32"), std::uint64_t{32} << 30);
  EXPECT_EQ(cache("llama-3.1-8b", 4096, "q8"), 131'072ull * 4096 / 2 * 34 / 32);
  // As its files are: 16,060,522,496 bytes of tensors.
  EXPECT_EQ(weights(footprint_of(*subject_of("llama-3.1-8b"), choice_of(1))), 16'060'522'496u);
}

// Every other layer of gpt-oss reaches 128 tokens back: 8 heads x (64 + 64) x 2 B.
TEST(ForeignSubject, GptOssSlidingLayersStopAt128) {
  const auto expected = [](std::uint64_t tokens) {
    return 2048 * (12 * std::min<std::uint64_t>(tokens, 128) + 12 * tokens);
  };
  for (const std::uint64_t tokens : {1u, 127u, 128u, 129u, 4096u, 131072u}) {
    EXPECT_EQ(cache("gpt-oss-20b", tokens), expected(tokens)) << tokens;
  }
  EXPECT_EQ(cache("gpt-oss-20b", 1000, "fp32"), 2 * expected(1000));
  // Its makers: "Checkpoint size 12.8 GiB" and 60.8 GiB (arXiv 2508.10925, table 1).
  for (const auto& [name, gib] : {std::pair("gpt-oss-20b", 12.8), std::pair("gpt-oss-120b", 60.8)}) {
    EXPECT_NEAR(static_cast<double>(weights(footprint_of(*subject_of(name), choice_of(1)))) / 0x1p30, gib, 0.05)
        << name;
  }
}

TEST(ForeignSubject, DeepSeekKeepsALatent) {
  for (const std::uint64_t tokens : {1u, 4096u, 163840u})
    EXPECT_EQ(cache("deepseek-v3", tokens), tokens * 576 * 61 * 2);
  EXPECT_EQ(cache("deepseek-v3", 100, "fp8"), 100u * 576 * 61);
  EXPECT_EQ(cache("deepseek-v3", 100, "q8"), 100u * 576 / 32 * 34 * 61);
  EXPECT_EQ(cache("deepseek-v2-lite", 1000), 1000u * 576 * 27 * 2);
}

// 42 layers, every other one with a window of 4,096; 8 heads of 256.
TEST(ForeignSubject, Gemma2Alternates) {
  EXPECT_EQ(cache("gemma-2-9b", 8192), 2ull * 8 * 256 * 2 * (21 * 4096 + 21 * 8192));
  EXPECT_EQ(cache("gemma-2-9b", 4096), 2ull * 8 * 256 * 2 * 42 * 4096);
}

// A head of 128 that is not hidden size / heads.
TEST(ForeignSubject, Qwen3HeadsAreAsWideAsTheySay) {
  EXPECT_EQ(cache("qwen3-0.6b", 1), 28u * 8 * (128 + 128) * 2);
  EXPECT_EQ(cache("qwen3-30b-a3b", 1), 48u * 4 * (128 + 128) * 2);
}

TEST(ForeignSubject, ARollingStateDoesNotGrow) {
  for (const char* name :
       {"mamba-2.8b", "mamba2-2.7b", "falcon-mamba-7b", "rwkv-4-7b", "rwkv-5-7b", "rwkv-6-world-1b6", "rwkv-7-1.5b"}) {
    const auto subject = subject_of(name);
    RunChoice choice = choice_of(256);
    const Footprint small = footprint_of(*subject, choice),
                    large = footprint_of(*subject, choice_of(std::uint64_t{1} << 40));
    EXPECT_EQ(small.total(), large.total()) << name;
    EXPECT_EQ(bytes_of(small, "kv cache"), 0u) << name;
    EXPECT_GT(bytes_of(small, "recurrent state"), 0u) << name;
  }
  const Footprint mamba = footprint_of(*subject_of("mamba-2.8b"), choice_of(1));
  EXPECT_EQ(bytes_of(mamba, "recurrent state"), 64ull * 5120 * 16 * 4);
  // The last inputs of the convolution: some keep all four, three suffice.
  EXPECT_LE(bytes_of(mamba, "conv state"), 64ull * 5120 * 4 * 4);
  EXPECT_GE(bytes_of(mamba, "conv state"), 64ull * 5120 * 3 * 4);
}

// Four of forty layers attend, 8 heads of 64; the others keep 64 x 64 x 128 values.
TEST(ForeignSubject, GraniteHybridHasBoth) {
  const Footprint f = footprint_of(*subject_of("granite-4.0-h-micro"), choice_of(1000));
  EXPECT_EQ(bytes_of(f, "kv cache"), 4ull * 8 * 128 * 2 * 1000);
  EXPECT_EQ(bytes_of(f, "recurrent state"), 36ull * 64 * 64 * 128 * 4);
}

TEST(ForeignSubject, AllExpertsAreResident) {
  const auto subject = subject_of("qwen3-30b-a3b");
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice_of(1)), "weights: experts"), 48ull * 128 * 3 * 2048 * 768 * 2);
  EXPECT_GT(weights(footprint_of(*subject, choice_of(1))), 2 * subject->facts().active * 8);
}

// Formats are for matrices; routers, norms and biases keep 16 bits.
TEST(ForeignSubject, RoutersAndNormsStayIn16Bits) {
  const auto subject = subject_of("qwen3-30b-a3b");
  const Footprint keep = footprint_of(*subject, choice_of(1)), q2 = footprint_of(*subject, choice_of(1, "q2"));
  for (const char* name : {"weights: router", "weights: norms"}) {
    EXPECT_GT(bytes_of(keep, name), 0u);
    EXPECT_EQ(bytes_of(keep, name), bytes_of(q2, name)) << name;
  }
  EXPECT_LT(bytes_of(q2, "weights: experts"), bytes_of(keep, "weights: experts") / 6);
}

TEST(ForeignSubject, FactsAndWords) {
  const auto subject = subject_of("gpt-oss-20b");
  EXPECT_EQ(subject->facts().family, "gpt_oss");
  EXPECT_EQ(subject->facts().evidence, "known model");
  EXPECT_NE(subject->facts().source.find("arxiv.org"), std::string::npos);
  EXPECT_FALSE(subject->facts().runs_here);
  ASSERT_EQ(subject->facts().layers.size(), 2u);
  EXPECT_EQ(subject->facts().layers[0].count, 12u);
  EXPECT_EQ(subject->facts().layers[0].window, 128u);
  EXPECT_EQ(subject->command(choice_of(10, "q4", "q8")), "bit-axon plan gpt-oss-20b --context 10 --weights q4 --kv q8");
  RunChoice all = choice_of(10);
  all.window = 0;
  EXPECT_EQ(subject->command(all), "bit-axon plan gpt-oss-20b --context 10 --attention-window all");
  const Footprint f = footprint_of(*subject, choice_of(200'000));
  EXPECT_EQ(f.cannot_run, "this program does not run the family gpt_oss");
  EXPECT_EQ(f.notes.front(), "a context of 200,000 is beyond the 131,072 that the model was made for");
}

TEST(ForeignSubject, AWindowIsForEveryLayer) {
  const auto subject = subject_of("gpt-oss-20b");
  RunChoice choice = choice_of(5000);
  choice.window = 0;
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice), "kv cache"), 2048ull * 24 * 5000);
  choice.window = 300;
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice), "kv cache"), 2048ull * 24 * 300);
}

// Files without a config: their bytes are known, and nothing else.
TEST(ForeignSubject, FilesWithoutShapes) {
  ForeignModel model;
  model.files = FileWeights{};
  model.files->types = {{.name = "BF16", .tensors = 3, .elements = 50, .bytes = 100_B}};
  model.target = model.title = "it";
  model.cache_unknown = "there is no config.json beside it";
  const auto subject = foreign_subject(std::move(model));
  const Footprint f = footprint_of(*subject, choice_of(100));
  EXPECT_EQ(wrong_sums(f), "");
  EXPECT_EQ(f.total(), 100_B);
  EXPECT_EQ(f.find("kv cache"), nullptr);
  EXPECT_NE(f.notes.front().find("there is no config.json beside it"), std::string::npos);
  EXPECT_NE(error_of(subject->footprint(choice_of(100, "q4"))).find("--weights q4 needs the model's shapes"),
            std::string::npos);
  EXPECT_NE(error_of(subject->footprint(choice_of(100, "keep", "no"))).find("unknown KV format"), std::string::npos);
  EXPECT_NE(error_of(subject->training({})).find("training needs shapes"), std::string::npos);
}

// The largest numbers that a config may have: exact sums or an error, whatever the context.
TEST(ForeignSubject, AbsurdConfigsAreErrorsOrExact) {
  std::size_t sums = 0, errors = 0;
  for (const char* family : {"llama", "qwen3", "mixtral", "mamba", "jamba"}) {
    for (const std::uint64_t layers : {1u, 4096u}) {
      for (const std::uint64_t heads : {1u, 128u, 32768u, 1u << 21}) {
        for (const std::uint64_t big : {1u, 1u << 21}) {
          SmallConfig config{.family = family,
                             .layers = layers,
                             .heads = heads,
                             .kv_heads = heads,
                             .head_dim = std::max<std::uint64_t>(1, (1u << 21) / heads / 2),
                             .inner = big,
                             .vocab = big,
                             .experts = 4,
                             .window = 0};
          Result<std::unique_ptr<Subject>> read = read_foreign(config.json());
          if (!read.ok()) {
            EXPECT_EQ(read.error().code, ErrorCode::kInvalidArgument) << read.error().message;
            continue;
          }
          for (const std::uint64_t tokens :
               {std::uint64_t{1}, std::uint64_t{1} << 30, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
            for (const std::string& kv : kv_names()) {
              RunChoice choice = choice_of(tokens, "fp32", kv);
              choice.prefill_chunk = tokens;
              Result<Footprint> f = read.value()->footprint(choice);
              if (!f.ok()) {
                EXPECT_EQ(f.error().code, ErrorCode::kInvalidArgument) << f.error().message;
                ++errors;
                continue;
              }
              ++sums;
              ASSERT_EQ(wrong_sums(f.value()), "") << config.json() << tokens;
              const std::string name = family;
              if (name == "mamba") continue;
              // In floating point, of the attention layers: for plain formats, within a block of each row.
              const auto layers_attending = static_cast<long double>(name == "jamba" ? layers == 1 ? 0 : 1024 : layers);
              const auto width = static_cast<long double>(config.heads * config.head_dim * (name == "qwen3" ? 2 : 1));
              if (kv != "fp32") continue;
              EXPECT_NEAR(
                  static_cast<double>(bytes_of(f.value(), "kv cache") /
                                      (8 * layers_attending * width * static_cast<long double>(tokens) + 1e-30L)),
                  layers_attending == 0 ? 0.0 : 1.0, 1e-9)
                  << config.json();
            }
          }
        }
      }
    }
  }
  EXPECT_GT(sums, 100u);
  EXPECT_GT(errors, 100u);
}

SmallConfig any_config() {
  SmallConfig c;
  c.family = *rc::gen::elementOf(std::vector<std::string>{"llama", "qwen3", "mixtral", "mamba", "jamba"});
  c.layers = *rc::gen::inRange<std::uint64_t>(4, 40);
  c.kv_heads = *rc::gen::inRange<std::uint64_t>(1, 5);
  c.heads = c.kv_heads * *rc::gen::inRange<std::uint64_t>(1, 5);
  c.head_dim = 2 * *rc::gen::inRange<std::uint64_t>(1, 50);
  c.inner = *rc::gen::inRange<std::uint64_t>(1, 3000);
  c.vocab = *rc::gen::inRange<std::uint64_t>(1, 3000);
  c.experts = *rc::gen::inRange<std::uint64_t>(2, 9);
  if (*rc::gen::arbitrary<bool>()) c.window = *rc::gen::inRange<std::uint64_t>(1, 3000);
  return c;
}

TEST(ForeignSubject, MoreIsNeverLess) {
  EXPECT_TRUE(rc::check("context, layers, widths, window, chunk", [] {
    SmallConfig config = any_config();
    RunChoice choice = choice_of(*rc::gen::inRange<std::uint64_t>(1, 10000), *rc::gen::elementOf(our_weights()),
                                 *rc::gen::elementOf(kv_names()));
    choice.prefill_chunk = *rc::gen::inRange<std::uint64_t>(1, 600);
    if (*rc::gen::arbitrary<bool>()) choice.window = *rc::gen::inRange<std::uint64_t>(1, 3000);
    const Footprint before = footprint_of(*foreign(config.json()), choice);
    RC_ASSERT(wrong_sums(before).empty());
    const auto more = *rc::gen::inRange<std::uint64_t>(0, 3000);
    switch (*rc::gen::inRange(0, 8)) {
      case 0: choice.context += more; break;
      case 1: choice.prefill_chunk += more; break;
      case 2: config.inner += more; break;
      case 3: config.vocab += more; break;
      case 4: config.experts += more % 50; break;
      case 5: config.head_dim += 2 * (more % 50); break;
      case 6:
        if (choice.window) *choice.window += more;
        break;
      default: config.layers += more % 50;
    }
    RC_ASSERT(footprint_of(*foreign(config.json()), choice).total() >= before.total());
  }));
}

TEST(ForeignSubject, FewerBitsAreFewerBytes) {
  const auto subject = subject_of("llama-3.1-8b");
  const auto smaller = [&](const RunChoice& a, const RunChoice& b) {
    EXPECT_LE(total_of(*subject, b), total_of(*subject, a))
        << a.weights << " " << a.kv << " to " << b.weights << " " << b.kv;
  };
  for (const Precision& a : precisions()) {
    for (const Precision& b : precisions()) {
      if (a.bits() >= b.bits()) smaller(choice_of(100, a.name), choice_of(100, b.name));
    }
  }
  const std::string plain[] = {"fp32", "fp16", "q8", "fp8", "q4", "fp4"},
                    codes[] = {"fp32", "fp16", "q8", "tq4", "tq3.5", "tq3", "lm3"};
  for (const std::uint64_t tokens : {1u, 39u, 40u, 41u, 100'000u}) {
    for (std::size_t i = 1; i < std::size(plain); ++i)
      smaller(choice_of(tokens, "q4", plain[i - 1]), choice_of(tokens, "q4", plain[i]));
  }
  // Among few tokens the tails decide, and they differ: tq3 keeps 40 tokens in int8, tq3.5 32.
  for (const std::uint64_t tokens : {512u, 4096u, 100'000u}) {
    for (std::size_t i = 1; i < std::size(codes); ++i)
      smaller(choice_of(tokens, "q4", codes[i - 1]), choice_of(tokens, "q4", codes[i]));
  }
}

}  // namespace
}  // namespace axon
