#include "plan/bit_axon_subject.h"

#include <rapidcheck.h>

#include "convert/convert.h"
#include "plan/plan_for_test.h"

namespace axon {
namespace {

using namespace testing_plan;
using testing_model::engine_config;
using testing_model::EngineFolder;

std::unique_ptr<Subject> preset_of(const Config& config, const std::string& tokenizer = "") {
  return ok(bit_axon_config(config, "it", "preset", tokenizer));
}

Config set(const Config& config, const std::string& setting) { return ok(with_setting(config, setting)); }

std::string text_of(const Footprint& f) {
  std::string out;
  for (const Account& a : f.accounts) {
    out += fmt::format("{} {}{}\n", a.name, a.bytes.count, a.estimate ? " estimate" : "");
    for (const Term& t : a.terms) out += fmt::format("  {} {}\n", t.text, t.bytes.count);
  }
  return out + f.cannot_run;
}

// A model that is there and one that is not, of the same config, are the same account by account.
TEST(BitAxonSubject, APlanOfAPresetIsThePlanOfItsFiles) {
  const Folder folder;
  put_file(folder / "tokenizer.json", testing_model::tokenizer_json());
  Config uneven = engine_config();  // rows that no group divides, tensors of odd sizes
  uneven.hidden_dim = 68, uneven.num_heads = 2, uneven.vocab_size = 301, uneven.ssm_d_conv = 3;
  Config untied = engine_config();
  untied.weight_tying = false;
  for (const Config& config : {engine_config(), uneven, untied}) {
    for (const std::string& weights : our_weights()) {
      const ConvertPlan plan = plan_init(config, ok(parse_weight_format(weights)), 1);
      Ledger ledger(1_GiB);
      cpu::ThreadPool pool(1);
      const std::string out = folder / "model";
      ASSERT_TRUE(
          init(config, plan, 1, folder / "tokenizer.json", out, ledger, pool, [](Bytes, Bytes) { return true; }).ok());
      const auto files = ok(bit_axon_files(out));
      const auto made_up = preset_of(config, folder / "tokenizer.json");
      for (const bool exact : {false, true}) {
        RunChoice stored = choice_of(700, "keep", exact ? "tq3" : "fp16");
        stored.threads = 3;
        stored.exact = exact;
        RunChoice asked = stored;
        asked.weights = weights;
        EXPECT_EQ(text_of(footprint_of(*files, stored)), text_of(footprint_of(*made_up, asked))) << weights;
        stored.window = asked.window = 300;
        EXPECT_EQ(text_of(footprint_of(*files, stored)), text_of(footprint_of(*made_up, asked))) << weights;
      }
      std::filesystem::remove_all(out);
    }
  }
}

// The numbers are the engine's own.
TEST(BitAxonSubject, TotalIsTheEnginesPlan) {
  const EngineFolder folder;
  const auto subject = ok(bit_axon_files(folder.path()));
  for (const std::string& weights : our_weights()) {
    RunChoice choice = choice_of(500, weights);
    choice.prefill_chunk = 48;
    choice.threads = 2;
    choice.max_tokens = 100;
    const EngineOptions options{
        .weights = ok(parse_weight_format(weights)),
        .session = {.context = 500, .prefill_chunk = 48, .arithmetic = Arithmetic::kFast, .logits_rows = 1},
        .sampling = {},
        .threads = 2,
        .text = Bytes{4 * 600}};
    const EnginePlan plan = folder.plan(options);
    const Footprint f = footprint_of(*subject, choice);
    ASSERT_EQ(f.accounts.size(), plan.lines.size());
    for (std::size_t i = 0; i < plan.lines.size(); ++i) {
      EXPECT_EQ(f.accounts[i].name, plan.lines[i].account);
      EXPECT_EQ(f.accounts[i].bytes, plan.lines[i].bytes) << plan.lines[i].account;
      EXPECT_FALSE(f.accounts[i].estimate);
    }
    EXPECT_TRUE(f.cannot_run.empty());
  }
}

TEST(BitAxonSubject, FactsOfAPresetAndOfFiles) {
  const auto preset = subject_of("3b");
  EXPECT_EQ(preset->facts().family, "bit_axon");
  EXPECT_EQ(preset->facts().evidence, "preset");
  EXPECT_TRUE(preset->facts().runs_here);
  EXPECT_EQ(preset->facts().context_max, 65536u);
  EXPECT_EQ(preset->facts().parameters, count_parameters(ok(axon::preset("3b"))).total);
  ASSERT_EQ(preset->facts().layers.size(), 3u);
  EXPECT_EQ(preset->facts().layers[1].kind, "swa_moe");
  EXPECT_EQ(preset->facts().layers[1].count, 8u);
  EXPECT_EQ(preset->facts().layers[1].window, 4096u);
  EXPECT_EQ(preset->facts().layers[0].window, 0u);
  const EngineFolder folder(engine_config(), {.kind = WeightFormat::kAffine, .bits = 4, .group_size = 32});
  const auto files = ok(bit_axon_files(folder.path()));
  EXPECT_EQ(files->facts().evidence, "files");
  EXPECT_EQ(files->facts().stored, "q4 g32");
}

// The window's ring, by hand: 8 layers x 2 x 4,096 tokens x 32 heads x 80 x 2 B; and what issue 3 demands of 3b.
TEST(BitAxonSubject, TheNumbersOf3b) {
  const auto subject = subject_of("3b");
  RunChoice choice = choice_of(65536, "q4");
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice), "kv cache"), 8ull * 2 * 4096 * 2560 * 2);
  EXPECT_LE(total_of(*subject, choice), 2150_MiB);
  choice.window = 0;
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice), "kv cache"), 8ull * 2 * 65536 * 2560 * 2);
  EXPECT_GT(total_of(*subject, choice).count, 66ull * (1ull << 30) / 10);
  choice.weights = "fp16";
  EXPECT_GT(total_of(*subject, choice), 11_GiB);
  choice.exact = true;  // that alone changes no cache
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice), "kv cache"), 8ull * 2 * 65536 * 2560 * 2);
  choice.kv = "fp32";
  EXPECT_EQ(bytes_of(footprint_of(*subject, choice), "kv cache"), 8ull * 2 * 65536 * 2560 * 4);
}

// All that a window of the 3b preset takes, header, tail and padding included, within 1/6 of fp16 and its likes.
TEST(BitAxonSubject, ACompressedWindowOf3bIsWhatTheLayoutSays) {
  const auto subject = subject_of("3b");
  constexpr std::uint64_t kHeads = 8 * 32, kWindow = 4096;
  const struct {
    const char* name;
    std::uint64_t most;  // of a head
  } bounds[] = {{"tq4", 348'160}, {"tq3.5", 286'720}, {"tq3", 218'453}, {"lm3", 218'453}};
  for (const auto& bound : bounds) {
    const Footprint f = footprint_of(*subject, choice_of(65536, "q4", bound.name));
    const auto head = ok(turboquant::plan_head(*turboquant::find_layout(bound.name), 80, kWindow));
    EXPECT_EQ(bytes_of(f, "kv cache"), kHeads * head.bytes.count) << bound.name;
    EXPECT_LE(bytes_of(f, "kv cache"), kHeads * bound.most) << bound.name;
    EXPECT_FALSE(f.find("kv cache")->estimate);
    EXPECT_EQ(f.cannot_run, "");
  }
  // int8 and a scale for each vector: 82 B, and nothing in codes.
  const std::uint64_t q8 = bytes_of(footprint_of(*subject, choice_of(65536, "q4", "q8")), "kv cache");
  EXPECT_GE(q8, kHeads * kWindow * 2 * 82);
  EXPECT_LE(q8, kHeads * (kWindow * 2 * 82 + 64 * 4));
}

// The terms name what a head keeps, and the numbers in them multiply to what stands beside them.
TEST(BitAxonSubject, TermsOfACompressedCache) {
  const auto subject = subject_of("3b");
  const auto terms = [&](std::uint64_t context, const char* kv) {
    const Footprint f = footprint_of(*subject, choice_of(context, "q4", kv));
    EXPECT_EQ(wrong_sums(f), "") << kv;
    std::string out;
    for (const Term& t : f.find("kv cache")->terms) out += fmt::format("{} = {}\n", t.text, t.bytes.count);
    return out;
  };
  EXPECT_EQ(terms(4096, "tq3"),
            "8 layers x 32 heads x 64 B of header = 16384\n"
            "8 layers x 32 heads x 4,064 tokens in codes x 52 B a key and value = 54099968\n"
            "8 layers x 32 heads x 40 tokens in int8 x 2 (keys, values) x (80 + 2 B of scale) = 1679360\n"
            "8 layers x 32 heads x padding to lines of 64 B = 40960\n");
  EXPECT_EQ(terms(4096, "q8").find("in codes"), std::string::npos);
  EXPECT_EQ(terms(16, "tq3").find("in codes"), std::string::npos);
}

// What this program cannot do is planned as an estimate, and said.
TEST(BitAxonSubject, OtherFormatsAreEstimates) {
  const auto subject = subject_of("nano");
  const Footprint nf4 = footprint_of(*subject, choice_of(100, "nf4"));
  EXPECT_TRUE(nf4.estimate());
  EXPECT_EQ(nf4.cannot_run, "this version has no kernels for nf4 weights");
  const Footprint fp8 = footprint_of(*subject, choice_of(100, "q4", "fp8"));
  EXPECT_TRUE(fp8.find("kv cache")->estimate);
  EXPECT_FALSE(fp8.accounts.front().estimate);
  EXPECT_EQ(fp8.cannot_run, "this version has no fp8 cache");
  for (const KvType& type : kv_types()) {
    const Footprint ours = footprint_of(*subject, choice_of(100, "q4", std::string(type.name())));
    EXPECT_FALSE(ours.estimate()) << type.name();
    EXPECT_EQ(ours.cannot_run, "") << type.name();
  }
  // 16 bits by the other road: matrices are the same bytes, whether from our lists or as an estimate.
  Bytes ours, theirs;
  for (const Account& a : footprint_of(*subject, choice_of(100, "bf16")).accounts)
    ours += a.name.starts_with("weights") ? a.bytes : 0_B;
  for (const Account& a : footprint_of(*subject, choice_of(100, "fp8")).accounts)
    theirs += a.name.starts_with("weights") ? a.bytes : 0_B;
  EXPECT_NEAR(static_cast<double>(theirs.count) / static_cast<double>(ours.count), 0.5, 0.02);
}

// run refuses such a model; plan says why, and reckons.
TEST(BitAxonSubject, AHeadThatNoLayoutTakesIsAnEstimate) {
  Config config = engine_config();
  config.hidden_dim = 68, config.num_heads = 2;
  const auto subject = preset_of(config);
  for (const char* kv : {"q8", "tq3"}) {
    const Footprint f = footprint_of(*subject, choice_of(100, "bf16", kv));
    EXPECT_TRUE(f.find("kv cache")->estimate) << kv;
    EXPECT_GT(f.find("kv cache")->bytes, 0_B) << kv;
    EXPECT_NE(f.cannot_run.find("34"), std::string::npos) << f.cannot_run;
    EXPECT_TRUE(f.cannot_run.starts_with(fmt::format("a {} cache cannot hold", kv))) << f.cannot_run;
    EXPECT_TRUE(subject->command(choice_of(100, "bf16", kv)).starts_with("bit-axon plan "));
  }
  EXPECT_EQ(footprint_of(*subject, choice_of(100, "bf16", "fp16")).cannot_run, "");
}

TEST(BitAxonSubject, RefusesWhatContradictsTheModel) {
  const auto subject = subject_of("nano");
  EXPECT_EQ(error_of(subject->footprint(choice_of(65537))),
            "--context 65537 is more than the model's max_seq_len 65536");
  EXPECT_TRUE(subject->footprint(choice_of(65536)).ok());
}

// Numbers beyond all machines are errors, never wrapped and never a failed check.
TEST(BitAxonSubject, AbsurdChoicesAreErrorsOrExact) {
  Config wide = ok(preset("nano"));
  wide.max_seq_len = 1u << 30;
  wide.swa_window_size = 1u << 30;
  wide.moe_num_experts = 1024, wide.moe_top_k = 1024;
  ASSERT_TRUE(check_config(wide, "wide").ok());
  const auto subject = preset_of(wide);
  for (const std::uint64_t big :
       {std::uint64_t{1} << 30, std::uint64_t{1} << 40, std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    for (const int field : {0, 1, 2, 3}) {
      RunChoice choice = choice_of(1u << 30);
      (field == 0   ? choice.prefill_chunk
       : field == 1 ? choice.threads
       : field == 2 ? choice.max_tokens
                    : choice.context) = big;
      Result<Footprint> f = subject->footprint(choice);
      if (f.ok()) {
        EXPECT_EQ(wrong_sums(f.value()), "") << big << " " << field;
        EXPECT_GE(f.value().total().count / 3, big) << field;  // nothing is less than its largest factor
      } else {
        EXPECT_EQ(f.error().code, ErrorCode::kInvalidArgument) << f.error().message;
      }
    }
  }
}

TEST(BitAxonSubject, CommandsAreOnesThatCanBeTyped) {
  const auto preset = subject_of("nano");
  EXPECT_EQ(preset->command(choice_of(0, "q4")),
            "bit-axon init --preset nano --weights q4 -o nano-q4 && bit-axon run --model nano-q4 --context 65536");
  EXPECT_EQ(preset->command(choice_of(10, "nf4")), "bit-axon plan nano --weights nf4 --context 10 --kv fp16");
  // run knows a precision by fewer names than plan does
  EXPECT_EQ(preset->command(choice_of(10, "INT4")),
            "bit-axon init --preset nano --weights q4 -o nano-q4 && bit-axon run --model nano-q4 --context 10");
  RunChoice all = choice_of(10, "q4", "tq3");
  all.window = 0;
  all.prefill_chunk = 32;
  const std::string options = " --context 10 --attention-window all --prefill-chunk 32";
  EXPECT_EQ(
      preset->command(all),
      "bit-axon init --preset nano --weights q4 -o nano-q4 && bit-axon run --model nano-q4" + options + " --kv tq3");
  all.kv = "fp8";
  EXPECT_EQ(preset->command(all), "bit-axon plan nano --weights q4" + options + " --kv fp8");
  const EngineFolder folder;
  const auto files = ok(bit_axon_files(folder.path()));
  RunChoice exact = choice_of(10, "keep", "fp32");
  EXPECT_EQ(files->command(exact), fmt::format("bit-axon run --model {} --context 10 --kv fp32", folder.path()));
  exact.exact = true;
  EXPECT_EQ(files->command(exact), fmt::format("bit-axon run --model {} --context 10 --exact", folder.path()));
  exact.kv = "fp16";
  EXPECT_EQ(files->command(exact),
            fmt::format("bit-axon run --model {} --context 10 --exact --kv fp16", folder.path()));
}

TEST(BitAxonSubject, MoreIsNeverLess) {
  const Config small = set(ok(preset("small")), "max_seq_len=65536");
  EXPECT_TRUE(rc::check("context, layers, window, chunk, threads", [&] {
    const std::string weights = *rc::gen::elementOf(our_weights());
    RunChoice choice = choice_of(*rc::gen::inRange<std::uint64_t>(1, 20000), weights, *rc::gen::elementOf(kv_names()));
    choice.prefill_chunk = *rc::gen::inRange<std::uint64_t>(1, 600);
    choice.threads = *rc::gen::inRange<std::uint64_t>(1, 9);
    choice.window = *rc::gen::inRange<std::uint64_t>(1, 20000);
    const std::uint64_t layers = *rc::gen::inRange<std::uint64_t>(1, 30);
    const Bytes before = total_of(*preset_of(set(small, fmt::format("num_layers={}", layers))), choice);
    std::uint64_t more_layers = layers;
    switch (*rc::gen::inRange(0, 5)) {
      case 0: choice.context += *rc::gen::inRange<std::uint64_t>(0, 20000); break;
      case 1: choice.prefill_chunk += *rc::gen::inRange<std::uint64_t>(0, 600); break;
      case 2: choice.threads += *rc::gen::inRange<std::uint64_t>(0, 9); break;
      case 3: *choice.window += *rc::gen::inRange<std::uint64_t>(0, 20000); break;
      default: more_layers += *rc::gen::inRange<std::uint64_t>(0, 9);
    }
    const Bytes after = total_of(*preset_of(set(small, fmt::format("num_layers={}", more_layers))), choice);
    RC_ASSERT(after >= before);
    if (more_layers > layers) RC_ASSERT(after > before);
  }));
}

// Fewer bits are never more bytes, for rows that the blocks of all of them divide.
TEST(BitAxonSubject, FewerBitsAreFewerBytes) {
  for (const char* name : {"nano", "3b"}) {
    Config config = ok(preset(name));
    config.hidden_dim = 2560, config.d_source_model = 2048, config.moe_intermediate_dim = 1792;
    const auto subject = preset_of(config);
    Bytes before{~std::uint64_t{0}};
    for (const Precision& p : precisions()) {
      if (p.name == "q1_0" || p.what.starts_with("GGUF")) break;  // not in falling order
      const Bytes total = total_of(*subject, choice_of(1000, p.name));
      EXPECT_LE(total, before) << name << " " << p.name;
      before = total;
    }
  }
}

}  // namespace
}  // namespace axon
