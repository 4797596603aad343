// docs/memory-budget.md, first half: the machine, the weights, the states and the KV cache.

#include "plan/pages_memory_budget.h"

#include <algorithm>
#include <functional>

#include "model/model.h"
#include "model/tensors.h"
#include "plan/machines.h"
#include "plan/report.h"

namespace axon::pages {
namespace {

void add_intro(BudgetPage& page) {
  Markdown& out = page.out;
  out.heading(1, "Memory budget: the page done right");
  out.paragraph(
      "The original Bit-Axon has a page \"Memory Budget\" that breaks down every byte. Its numbers do not add up. This "
      "page goes through it in its own order. Each of its numbers stands in quotes; ours stands beside it, with the "
      "reason where they differ.");
  out.paragraph(
      "`bit-axon plan` works out every number of ours, from the same lists of tensors that a run allocates. A test "
      "compares this file with what the program prints. To write it again:");
  out.code("bit-axon plan --page memory-budget > docs/memory-budget.md");
  out.bullet(
      "**Units.** The original's \"MB\" are 10^6 bytes for weights and 2^20 bytes for memory and caches, and it adds "
      "the "
      "two. They are quoted as they stand. Ours are MiB (2^20) and GiB (2^30).");
  out.bullet(fmt::format(
      "**Two models.** `6b` is what the original's default config builds: {} parameters, not the ~3.2 billion that the "
      "page says. `3b` is the same model with experts {} wide instead of {}; that gives {} parameters, so the page's "
      "claims can be judged on a model of the size that it meant.",
      grouped(page.six.subject->facts().parameters), grouped(page.three.config.moe_intermediate_dim),
      grouped(page.six.config.moe_intermediate_dim), grouped(page.three.subject->facts().parameters)));
  out.bullet(fmt::format(
      "**Two windows.** The architecture's attention looks back {} tokens. *Window {}* keeps those and no more, so the "
      "KV cache stops growing. *Full window* keeps all {} tokens (`--attention-window all`); the page's KV table "
      "assumes it.",
      grouped(page.six.config.swa_window_size), grouped(page.six.config.swa_window_size),
      grouped(page.six.config.max_seq_len)));
  out.bullet(fmt::format(
      "**\"8 GB\"** is taken as 8,000,000,000 bytes ({} MiB), the strictest reading, as `--budget 8GB` takes it.",
      mib(kEightGb)));
  out.bullet(
      "**Runs** are on two threads, with a prompt of 256 tokens at a time and half-precision keys and values, unless "
      "the text says otherwise. Ternary weights are planned by shape: this version has no kernels for them, so their "
      "rows are estimates. So are the caches `fp8`, `q4` and `fp4`; all others are the lists that `--kv` allocates "
      "by.");
}

void add_available(BudgetPage& page) {
  const MachineProfile* machine = find_machine("macbook-air-m4-16gb");
  AXON_CHECK(machine != nullptr && machine->gpu_share && machine->gpu_budget());
  const std::vector<std::string_view> quoted = {"~2,500 MB", "~2,000 MB", "~500 MB", "~1,500 MB"};
  AXON_CHECK(machine->reserves.size() == quoted.size());
  Bytes reserves;
  std::vector<std::vector<std::string>> rows = {
      {"item", "the page", "run on the CPU, MiB", "run on the GPU, MiB"},
      {"physical RAM", "\"16,384 MB\"", mib(machine->ram), mib(machine->ram)}};
  for (std::size_t i = 0; i < quoted.size(); ++i) {
    const Reserve& r = machine->reserves[i];
    reserves += r.bytes;
    rows.push_back(
        {std::string(r.what), fmt::format("\"{}\"", quoted[i]), r.gpu_only ? "-" : mib(r.bytes), mib(r.bytes)});
  }
  const Bytes share{static_cast<std::uint64_t>(static_cast<double>(machine->ram.count) * *machine->gpu_share)};
  const Bytes others = machine->reserves[1].bytes;
  rows.push_back({"left by these items", "(not said)", mib(machine->budget()), mib(machine->ram - reserves)});
  rows.push_back({"the most that macOS lets a GPU hold", "(not said)", "-", mib(share)});
  rows.push_back({"available for a model", "\"~8,000 MB\"", mib(machine->budget()), mib(*machine->gpu_budget())});
  rows.push_back({"the same with other apps closed", "\"~10 GB\"", mib(machine->budget() + others),
                  mib(std::min(share, machine->ram - reserves + others))});
  Markdown& out = page.out;
  out.heading(2, "Available memory");
  out.table(rows, "lrrr");
  out.paragraph(fmt::format(
      "The page's items sum to {} MiB and leave {} MiB, not ~8,000. Its \"~10 GB\" is the ~8,000 and the ~2,000 of the "
      "other apps. This program runs on the CPU, so the GPU framework and its safety margin cost it nothing. Sources "
      "are "
      "in `bit-axon plan --machine {}`.",
      mib(reserves), mib(machine->ram - reserves), machine->name));
}

std::string fits_both(const BudgetPage& page, std::string_view precision) {
  const auto fits = [&](const OurModel& m) { return weights(plan(*m.subject, choice(1, precision))) <= kEightGb; };
  const bool three = fits(page.three), six = fits(page.six);
  return three && six ? "both" : three ? "3b alone" : six ? "6b alone" : "none";
}

Bytes weights_of(const OurModel& model, std::string_view precision) {
  return weights(plan(*model.subject, choice(1, precision)));
}

double ratio(Bytes a, Bytes b) { return static_cast<double>(a.count) / static_cast<double>(b.count); }

void add_weights(BudgetPage& page) {
  struct Row {
    std::string_view name, precision;
    Quoted quoted;
    std::string_view fits;
  };
  const std::vector<Row> quoted = {{"FP16", "fp16", {"~6,400 MB", 6400}, "No"},
                                   {"Q8", "q8", {"~3,200 MB", 3200}, "Tight"},
                                   {"Q4, groups of 64", "q4", {"~1,760 MB", 1760}, "Default (fits)"},
                                   {"1.58-bit (ternary)", "ternary", {"~640 MB", 640}, "Experimental"}};
  std::vector<std::vector<std::string>> rows = {{"precision", "the page", "that is, MiB", "its bits", "our bits",
                                                 "3b, MiB", "6b, MiB", "the page: fits?", "weights within 8 GB"}};
  for (const Row& row : quoted) {
    Result<Precision> precision = parse_precision(row.precision);
    AXON_CHECK(precision.ok());
    rows.push_back(
        {std::string(row.name), row.quoted.cell(), mib(Bytes{static_cast<std::uint64_t>(row.quoted.number * 1e6)}),
         fmt::format("{:.1f}", row.quoted.number * 1e6 * 8 / 3.2e9), fmt::format("{:.4g}", precision.value().bits()),
         mib(weights_of(page.three, row.precision)), mib(weights_of(page.six, row.precision)),
         fmt::format("\"{}\"", row.fits), fits_both(page, row.precision)});
  }
  Markdown& out = page.out;
  out.heading(2, "Weight memory by precision");
  out.table(rows, "lrrrrrrll");
  out.bullet(
      "The page counts 3.2 x 10^9 parameters in every row. Vectors (norms, biases, the SSM's own) stay float32, and "
      "routers half precision, in all of our rows.");
  out.bullet("Q8 of the page has no scales. A scale and a bias in half precision for each 64 weights make 8.5 bits.");
  out.bullet(fmt::format(
      "Q4 of the page is 4.4 bits. With scale and bias it is 4.5. Its \"3.6x less than FP16\" is 16 / 4.4; ours is "
      "{:.2f} for both models.",
      ratio(weights_of(page.three, "fp16"), weights_of(page.three, "q4"))));
  std::uint64_t routed = 0;
  for (const TensorSpec& spec : tensor_list(page.six.config)) {
    if (spec.name.find("switch_mlp") != std::string::npos) routed += spec.shape.elements();
  }
  out.bullet(fmt::format(
      "The original's own `quantize` leaves the routed experts in 16 bits. In `6b` they alone take {}, more than its "
      "whole Q4 model should. Ours quantises them.",
      size(Bytes{2 * routed})));
  out.bullet(
      "Ternary: the page takes 1.6 bits. Five values in a byte and a half-precision scale for each 256 make 1.69. The "
      "original has no ternary weights, and neither has this version.");
  out.bullet(fmt::format(
      "\"FP16 weights alone consume 6.4 GB - nearly the entire budget\": {} of 8 GB for `3b` ({}), {} for `6b`.",
      percent(ratio(weights_of(page.three, "fp16"), kEightGb)), size(weights_of(page.three, "fp16")),
      percent(ratio(weights_of(page.six, "fp16"), kEightGb))));
}

// A line of the page's table of parameters, and the tensors that it speaks of.
struct Component {
  std::string name;
  std::string_view count, fp16, q4;
  std::function<bool(const TensorSpec&)> holds;
  std::string zone;  // its account, where it has one to itself
};

std::uint64_t parameters_of(const OurModel& model, const Component& component) {
  std::uint64_t sum = 0;
  for (const TensorSpec& spec : tensor_list(model.config)) {
    if (!spec.optional && component.holds(spec)) sum += spec.shape.elements();
  }
  return sum;
}

Bytes bytes_of(const OurModel& model, const Component& component, std::string_view precision) {
  if (!component.zone.empty()) return account_bytes(plan(*model.subject, choice(1, precision)), component.zone);
  Result<Precision> held = parse_precision(precision);
  AXON_CHECK(held.ok());
  Bytes sum;
  for (const TensorSpec& spec : tensor_list(model.config)) {
    if (!spec.optional && component.holds(spec)) sum += Bytes{held.value().bytes(spec.rows(), spec.cols()).value()};
  }
  return sum;
}

std::vector<Component> components(const OurModel& model) {
  const auto named = [](std::string name) { return [name](const TensorSpec& s) { return s.name == name; }; };
  std::vector<std::string> zones;
  for (const TensorSpec& s : tensor_list(model.config)) {
    const bool layer = s.name.starts_with("layer_");
    if (layer && (zones.empty() || zones.back() != s.zone)) zones.push_back(s.zone);
  }
  AXON_CHECK(zones.size() == 3);
  const auto in = [&](std::size_t zone) { return [z = zones[zone]](const TensorSpec& s) { return s.zone == z; }; };
  return {{"embed_tokens", "65.5M", "131 MB", "36 MB", named("embed_tokens"), ""},
          {"input_proj", "5.2M", "10.5 MB", "2.9 MB", named("input_proj"), ""},
          {"layers 1-8: SSM", "~482M", "964 MB", "265 MB", in(0), zones[0]},
          {"layers 9-16: attention, MoE", "~1,120M", "2,240 MB", "616 MB", in(1), zones[1]},
          {"layers 17-24: SSM, MoE", "~1,200M", "2,400 MB", "660 MB", in(2), zones[2]},
          {"output_proj", "5.2M", "10.5 MB", "2.9 MB", named("output_proj"), ""},
          {"lm_head (tied)", "0", "0 MB", "0 MB", named("lm_head"), ""}};
}

void add_parameters(BudgetPage& page) {
  std::vector<std::vector<std::string>> rows = {
      {"component", "the page", "3b", "6b", "page, FP16", "3b, MiB", "6b, MiB", "page, Q4", "3b, MiB", "6b, MiB"}};
  const std::vector<Component> list = components(page.six);
  for (const Component& c : list) {
    rows.push_back({c.name, fmt::format("\"{}\"", c.count), grouped(parameters_of(page.three, c)),
                    grouped(parameters_of(page.six, c)), fmt::format("\"{}\"", c.fp16),
                    mib(bytes_of(page.three, c, "fp16")), mib(bytes_of(page.six, c, "fp16")),
                    fmt::format("\"{}\"", c.q4), mib(bytes_of(page.three, c, "q4")), mib(bytes_of(page.six, c, "q4"))});
  }
  const auto parameters = [](const OurModel& m) { return grouped(m.subject->facts().parameters); };
  rows.push_back({"total", "\"~3.2B\"", parameters(page.three), parameters(page.six), "\"~6,400 MB\"",
                  mib(weights_of(page.three, "fp16")), mib(weights_of(page.six, "fp16")), "\"~1,760 MB\"",
                  mib(weights_of(page.three, "q4")), mib(weights_of(page.six, "q4"))});
  const auto parameter_sum = [&](const OurModel& m) {
    std::uint64_t sum = 0;
    for (const Component& c : list) sum += parameters_of(m, c);
    return grouped(sum);
  };
  const auto sum = [&](const OurModel& m, std::string_view precision) {
    Bytes bytes;
    for (const Component& c : list) bytes += bytes_of(m, c, precision);
    return mib(bytes);
  };
  rows.push_back({"sum of the rows", "2,877.9M", parameter_sum(page.three), parameter_sum(page.six), "5,756 MB",
                  sum(page.three, "fp16"), sum(page.six, "fp16"), "1,582.8 MB", sum(page.three, "q4"),
                  sum(page.six, "q4")});
  Markdown& out = page.out;
  out.heading(2, "Parameters, part by part");
  out.table(rows, "lrrrrrrrrr");
  const auto block = [&](const OurModel& m, std::size_t zone) {
    return fmt::format("{:.2f}M", static_cast<double>(parameters_of(m, list[zone])) / 8 / 1e6);
  };
  out.bullet("The page's rows do not sum to its total; the last line has their sum. Ours do.");
  out.bullet(fmt::format("Layers 1-8: \"482M\" is 8 x 60.2M. A block has {}, in both models.", block(page.six, 2)));
  out.bullet(fmt::format(
      "Layers 9-16: \"1,120M\" is 8 x 140M, for which there is no formula. A block has {} in `6b` and {} in `3b`.",
      block(page.six, 3), block(page.three, 3)));
  out.bullet(fmt::format(
      "Layers 17-24: \"1,200M\" is 8 x 150M, for which there is no formula. A block has {} in `6b` and {} in `3b`.",
      block(page.six, 4), block(page.three, 4)));
  out.bullet(
      "The page's Q4 column takes 0.55 byte a weight (4.4 bits). The original never quantises its embedding; ours "
      "does.");
}

void add_ssm_state(BudgetPage& page) {
  const Footprint run = plan(*page.six.subject, choice(65536, "q4"));
  AXON_CHECK(sequence(run) == sequence(plan(*page.three.subject, choice(65536, "q4"))));
  const Bytes state = account_bytes(run, "ssm state"), conv = account_bytes(run, "conv state");
  const Config& c = page.six.config;
  Markdown& out = page.out;
  out.heading(2, "SSM state");
  out.table({{"item", "shape of a layer", "the page", "3b and 6b, MiB", "why"},
             {"SSM state, 16 layers", fmt::format("{} x {}", grouped(c.ssm_intermediate_dim()), c.ssm_d_state),
              "\"~3.7 MB\"", mib(state), "float32, not 16 bits"},
             {"conv tail, 16 layers", fmt::format("{} x {}", c.ssm_d_conv - 1, grouped(c.ssm_intermediate_dim())),
              "\"~0.7 MB\"", mib(conv), "float32, not 16 bits"},
             {"total", "", "\"~4.4 MB\"", mib(state + conv), "negligible all the same"}},
            "llrrl");
  out.paragraph("It is the same at every context: 1 token or 65,536.");
}

void add_kv_cache(BudgetPage& page) {
  struct Row {
    std::uint64_t tokens;
    std::string_view fp16, turbo;
  };
  const std::vector<Row> quoted = {{1024, "80 MB", "~14 MB"},
                                   {4096, "320 MB", "~53 MB"},
                                   {16384, "1,280 MB", "~213 MB"},
                                   {32768, "2,560 MB", "~427 MB"},
                                   {65536, "5,120 MB", "~853 MB"}};
  const std::string window = fmt::format("window {}, MiB", grouped(page.six.config.swa_window_size));
  std::vector<std::vector<std::string>> rows = {{"context", "the page, FP16", "full window, MiB", window,
                                                 "the page, TurboQuant", "tq3, full window, MiB",
                                                 fmt::format("tq3, {}", window)}};
  for (const Row& row : quoted) {
    const auto kv = [&](std::string_view format, std::optional<std::uint64_t> w) {
      const Bytes bytes = kv_cache(page.six, row.tokens, format, w);
      AXON_CHECK(bytes == kv_cache(page.three, row.tokens, format, w));
      return mib(bytes);
    };
    rows.push_back({grouped(row.tokens), fmt::format("\"{}\"", row.fp16), kv("fp16", kFullWindow),
                    kv("fp16", kBuiltWindow), fmt::format("\"{}\"", row.turbo), kv("tq3", kFullWindow),
                    kv("tq3", kBuiltWindow)});
  }
  const Bytes token = kv_cache(page.six, 2, "fp16", kFullWindow) - kv_cache(page.six, 1, "fp16", kFullWindow);
  const Bytes all = kv_cache(page.six, 65536, "fp16", kFullWindow);
  Markdown& out = page.out;
  out.heading(2, "KV cache over context");
  out.paragraph(fmt::format(
      "Both models are alike here. A token takes 2 x 8 layers x 32 heads x 80 x 2 bytes = {} bytes in half precision.",
      grouped(token.count)));
  out.table(rows, "rrrrrrr");
  out.bullet(
      "The page's FP16 column is right to the last MiB for a full window. But the architecture has a window of 4,096, "
      "so its cache never passes the second line.");
  const Footprint exact = [&] {
    RunChoice run = choice(65536, "q4", "fp32");
    run.exact = true;
    return plan(*page.six.subject, run);
  }();
  out.bullet(
      fmt::format("The original's code keeps float32 keys and values: {} MiB at the window (ours with "
                  "`--exact`).",
                  mib(account_bytes(exact, "kv cache"))));
  out.bullet(
      "The page's TurboQuant column is FP16 / 6, so 2.67 bits a value, not the 3 of its name; 80 / 6 rounds to 13, not "
      "14. A layout with that size exists (`tq3`, below). At 1,024 tokens it is larger than a sixth: the newest 40 "
      "tokens stay in 8 bits.");
  out.bullet(fmt::format(
      "\"At 65,536 tokens, the FP16 KV cache alone is ~5.1 GB - exceeding the entire available budget\": it is {}, "
      "{} of 8 GB, and {} MiB with the window.",
      size(all), percent(ratio(all, kEightGb)), mib(kv_cache(page.six, 65536, "fp16", kBuiltWindow))));
}

void add_layouts(BudgetPage& page) {
  const Config& c = page.six.config;
  const std::uint64_t heads = c.num_heads, width = c.head_dim(), window = c.swa_window_size;
  const std::vector<LayerStateShape> shapes = state_shapes(c, 1);
  const auto layers = static_cast<std::uint64_t>(
      std::count_if(shapes.begin(), shapes.end(), [](const LayerStateShape& s) { return s.attention; }));
  const auto of_a_head = [&](const KvFormat& format, std::uint64_t tokens) {
    return kv_cache(page.six, tokens, format.name, kFullWindow).count / layers / heads;
  };
  Result<KvFormat> half = parse_kv_format("fp16");
  AXON_CHECK(half.ok());
  std::vector<std::vector<std::string>> rows = {{"--kv", "bytes of a K+V pair", "bytes of a window", "bits a value",
                                                 "fp16 is x times it", "full 64K, 8 layers, MiB", "what"}};
  for (const KvFormat& format : kv_formats()) {
    const std::uint64_t bytes = of_a_head(format, window);
    rows.push_back({format.name,
                    grouped((of_a_head(format, 2 * window) - of_a_head(format, 2 * window - 64)) / 64),  // a whole tile
                    grouped(bytes),
                    fmt::format("{:.3f}", 8.0 * static_cast<double>(bytes) / static_cast<double>(2 * width * window)),
                    fmt::format("{:.2f}", ratio(Bytes{of_a_head(half.value(), window)}, Bytes{bytes})),
                    mib(kv_cache(page.six, 65536, format.name, kFullWindow)), format.what});
  }
  Markdown& out = page.out;
  out.heading(3, "Layouts of keys and values");
  out.paragraph(fmt::format(
      "One head of {}: a key and a value are {} values. The second column is one token, the third {} tokens, of one "
      "head; the newest 32 or 40 tokens of a TurboQuant layout are int8 (164 bytes a pair) and are counted, and so are "
      "padding and a header of 64 bytes.",
      width, 2 * width, grouped(window)));
  out.table(rows, "lrrrrrl");
  out.paragraph(
      "A true sixth of fp16 needs 2.67 bits a value. \"3-bit\" caches of other programs take 3.06 to 3.5 bits with "
      "their scales. TurboQuant is arXiv 2504.19874; `lm3` is its scalar code in the same bytes.");
}

}  // namespace

Bytes kv_cache(const OurModel& model, std::uint64_t tokens, std::string_view kv, std::optional<std::uint64_t> window) {
  RunChoice run = choice(tokens, "q4", kv, window);
  run.exact = kv == "fp32";
  return account_bytes(plan(*model.subject, run), "kv cache");
}

void add_what_lies_in_memory(BudgetPage& page) {
  add_available(page);
  add_weights(page);
  add_parameters(page);
  add_ssm_state(page);
  add_kv_cache(page);
  add_layouts(page);
}

std::string memory_budget_page(const OurModel& three, const OurModel& six) {
  BudgetPage page{three, six};
  add_intro(page);
  add_what_lies_in_memory(page);
  add_runs_and_training(page);
  add_claims(page);
  page.out.heading(2, "See also");
  page.out.bullet("[memory.md](memory.md): what is planned beside what is measured.");
  page.out.bullet("[memory-101.md](memory-101.md): how far a 16 GB machine goes, with other models too.");
  page.out.bullet("[models.md](models.md): the models that the program knows by name.");
  return page.out.take();
}

}  // namespace axon::pages
