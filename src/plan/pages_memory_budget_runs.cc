// docs/memory-budget.md, second half: what runs and trainings take in all.

#include "model/tensors.h"
#include "plan/pages_memory_budget.h"
#include "plan/report.h"

namespace axon::pages {
namespace {

constexpr std::uint64_t kContexts[] = {4096, 16384, 32768, 65536};

// The page's budget is in its own "MB".
constexpr double kPageBudget = 8000;

std::string marked(const std::string& text, bool over) { return over ? fmt::format("**{}**", text) : text; }

struct InferenceRow {
  std::string_view name, weights, kv;
  double weights_quoted;
  double quoted[4];
  double kv_quoted[4];
};
const std::vector<InferenceRow>& inference_rows() {
  static const std::vector<InferenceRow> rows = {
      {"FP16", "fp16", "fp16", 6400, {7233, 8393, 9673, 12233}, {320, 1280, 2560, 5120}},
      {"Q4", "q4", "fp16", 1760, {2593, 3353, 4633, 7193}, {320, 1280, 2560, 5120}},
      {"Q4 + TurboQuant", "q4", "tq3", 1760, {2326, 2486, 2700, 3126}, {53, 213, 427, 853}}};
  return rows;
}

void add_inference(BudgetPage& page) {
  std::vector<std::vector<std::string>> rows = {{"run", "whose", "4K", "16K", "32K", "64K"}};
  for (const InferenceRow& row : inference_rows()) {
    std::vector<std::string> line = {std::string(row.name), "the page, \"MB\""};
    for (const double quoted : row.quoted) {
      line.push_back(marked(fmt::format("\"~{}\"", grouped(static_cast<std::uint64_t>(quoted))), quoted > kPageBudget));
    }
    rows.push_back(std::move(line));
    for (const OurModel* model : {&page.three, &page.six}) {
      for (const auto& window : {kFullWindow, kBuiltWindow}) {
        line = {"", fmt::format("{}, {}", model->subject->facts().target, window ? "full window" : "window 4,096")};
        for (const std::uint64_t context : kContexts) {
          const Bytes all = total(*model->subject, choice(context, row.weights, row.kv, window));
          line.push_back(marked(mib(all), all > kEightGb));
        }
        rows.push_back(std::move(line));
      }
    }
  }
  Markdown& out = page.out;
  out.heading(2, "Total inference memory");
  out.paragraph("Ours in MiB. **Bold** is over 8 GB (the page's: over its 8,000).");
  out.table(rows, "llrrrr");
  std::vector<std::string> rests;
  for (const InferenceRow& row : inference_rows()) {
    std::string rest;
    for (int i = 0; i < 4; ++i) {
      rest += fmt::format("{}{:.0f}", i == 0 ? "" : ", ", row.quoted[i] - row.weights_quoted - row.kv_quoted[i]);
    }
    rests.push_back(fmt::format("{} in its {} row", rest, row.name));
  }
  out.bullet(fmt::format(
      "Besides weights and KV cache, the page's totals hold {}. The first two should be the same; 513 is 500 for the "
      "GPU framework, 4.4 for the SSM state and 9 unexplained.",
      fmt::join(rests, "; ")));
  for (const OurModel* model : {&page.three, &page.six}) {
    const Footprint run = plan(*model->subject, choice(65536, "q4"));
    const Bytes states = account_bytes(run, "ssm state") + account_bytes(run, "conv state");
    const Bytes rest = run.total() - weights(run) - account_bytes(run, "kv cache");
    out.bullet(fmt::format("Ours, `{}`: {} MiB: states {}, workspace {}, text {}, process {}, logits and tokenizer {}.",
                           model->subject->facts().target, mib(rest), mib(states), mib(account_bytes(run, "workspace")),
                           mib(account_bytes(run, "text")), mib(account_bytes(run, "process")),
                           mib(account_bytes(run, "logits") + account_bytes(run, "tokenizer"))));
  }
  out.bullet("The page's totals add 10^6 bytes (weights) to 2^20 bytes (the rest).");
  out.paragraph("A cell of the table, account by account; it does not fit, and the exit status is 3:");
  out.code("bit-axon plan 3b --weights fp16 --attention-window all --budget 8GB");
}

Bytes train_account(const OurModel& model, std::string_view name, const TrainChoice& choice = {}) {
  return account_bytes(trained(*model.subject, choice), name);
}

Bytes train_sum(const Footprint& training, std::initializer_list<std::string_view> names) {
  Bytes sum;
  for (const std::string_view name : names) sum += account_bytes(training, name);
  return sum;
}

void add_training_table(BudgetPage& page) {
  const Footprint three = trained(*page.three.subject, {}), six = trained(*page.six.subject, {});
  std::vector<std::vector<std::string>> rows = {{"component", "the page", "3b, MiB", "6b, MiB", "why"}};
  const auto row = [&](std::string what, std::string_view quoted, std::initializer_list<std::string_view> names,
                       std::string why) {
    rows.push_back({std::move(what), quoted.empty() ? "-" : fmt::format("\"{}\"", quoted), mib(train_sum(three, names)),
                    mib(train_sum(six, names)), std::move(why)});
  };
  rows.push_back({"base weights, Q4, frozen", "\"~1,760 MB\"", mib(weights(three)), mib(weights(six)), "as above"});
  row("adapters, rank 16", "~32 MB", {"adapters"}, "counted, not \"~0.5%\"; float32, not 16 bits");
  row("their gradients", "~32 MB", {"adapter gradients"}, "float32");
  row("AdamW's two moments", "~256 MB", {"optimizer state"}, "8 bytes a parameter; the page takes 16");
  row("block inputs kept", "", {"block inputs"}, "checkpointing keeps them, in float32");
  row("SSM states between pieces", "", {"border states"}, "one for each layer and piece of 512 tokens");
  row("activations of one block", "~500-1,000 MB", {"activations"}, "the page has no formula");
  row("loss", "", {"loss", "batch"}, "256 tokens' logits and gradients at once");
  row("workspace", "", {"workspace"}, "what the kernels work in, on two threads");
  row("SWA KV cache", "~160 MB", {"kv cache"}, "training looks back within the row");
  row("framework or process", "~500 MB", {"process"}, "no GPU framework");
  row("tokenizer, lines of text", "", {"tokenizer", "text"}, "");
  rows.push_back({"total", "\"~3,240-3,740 MB\"", mib(three.total()), mib(six.total()), ""});
  page.out.table(rows, "lrrrl");
}

void add_training(BudgetPage& page) {
  Markdown& out = page.out;
  out.heading(2, "QLoRA training");
  out.paragraph(
      "Rank 16, rows of 2,048 tokens, AdamW, checkpointing. These are the accounts that `train` reserves, to the byte; "
      "data come on top, with 36 bytes a line.");
  add_training_table(page);
  for (const OurModel* model : {&page.three, &page.six}) {
    Result<AdapterShape> adapters = train::Training::adapter_shape(model->config, {});
    Result<Bytes> full = full_fine_tuning(*model->subject);
    AXON_CHECK(adapters.ok() && full.ok());
    const std::size_t parameters = adapters.value().parameters();
    out.bullet(fmt::format(
        "`{}`: adapters have {} parameters, {:.2f} % of the model (the page: \"~0.5%\"). Full fine-tuning at 12 bytes "
        "a "
        "parameter (16-bit weights and gradients, two float32 moments) takes {} = {:.1f} x 10^9 bytes (the page: "
        "\"38.4 GB\").",
        model->subject->facts().target, grouped(parameters),
        100.0 * static_cast<double>(parameters) / static_cast<double>(model->subject->facts().parameters),
        size(full.value()), static_cast<double>(full.value().count) / 1e9));
  }
  out.bullet("The page's rows sum to its total, but hardly a row agrees with ours.");
  out.bullet("The original's code has no checkpointing: it keeps the activations of all blocks.");
  out.paragraph("The rows of the table, and the formula of one:");
  out.code(
      "bit-axon plan 3b --train --threads 2 --budget 8GB\n"
      "bit-axon plan 3b --train --threads 2 --budget 8GB --explain activations");
}

void add_thermal(BudgetPage& page) {
  const auto trainable = [&](std::uint64_t rank) {
    TrainChoice choice;
    choice.settings.rank = rank;
    return train_account(page.three, "adapters", choice) + train_account(page.three, "adapter gradients", choice) +
           train_account(page.three, "optimizer state", choice);
  };
  Markdown& out = page.out;
  out.heading(2, "Thermal management");
  out.paragraph(fmt::format(
      "One row speaks of memory: at 75-85 C, \"Halve LoRA rank\", \"Same memory footprint, less compute\". Adapters, "
      "gradients and moments of `3b` take {} MiB at rank 16 and {} MiB at rank 8. The footprint is the same only if "
      "the "
      "unused half is kept. The original's code never changes the rank.",
      mib(trainable(16)), mib(trainable(8))));
  out.heading(3, "Active parameters");
  std::vector<std::vector<std::string>> rows = {{"", "parameters", "active for a token", "share"},
                                                {"the page", "\"3.2B\"", "\"~1.4B\"", "\"~44%\""}};
  for (const OurModel* model : {&page.three, &page.six}) {
    const ParameterCount count = count_parameters(model->config);
    rows.push_back({model->subject->facts().target, grouped(count.total), grouped(count.active),
                    percent(static_cast<double>(count.active) / static_cast<double>(count.total))});
  }
  out.table(rows, "lrrr");
  out.paragraph(
      "Active: what is not an expert, the shared expert and 2 of 8 routed ones. The page gives no shape for its 1.4B. "
      "Being "
      "inactive saves arithmetic, not memory: the next token may choose any expert, so all of them stay.");
}

void add_strategy(BudgetPage& page) {
  struct Row {
    std::string_view scenario;
    std::uint64_t context;
    std::string_view config, quoted, kv;
  };
  const std::vector<Row> quoted = {{"chatbot", 4096, "Q4", "~2.5 GB", "fp16"},
                                   {"code generation", 8192, "Q4", "~2.8 GB", "fp16"},
                                   {"document summary", 16384, "Q4", "~3.3 GB", "fp16"},
                                   {"PDF analysis", 32768, "Q4 + TurboQuant recommended", "~2.7 GB", "tq3"},
                                   {"full 64K", 65536, "Q4 + TurboQuant required", "~3.1 GB", "tq3"}};
  std::vector<std::vector<std::string>> rows = {{"scenario", "context", "the page's config", "the page",
                                                 "so, 3b, full window", "plain Q4, 3b, full", "plain Q4, 3b, 4,096",
                                                 "plain Q4, 6b, 4,096"}};
  for (const Row& row : quoted) {
    const auto run = [&](const OurModel& model, std::string_view kv, std::optional<std::uint64_t> window) {
      return size(total(*model.subject, choice(row.context, "q4", kv, window)));
    };
    rows.push_back({std::string(row.scenario), grouped(row.context), fmt::format("\"{}\"", row.config),
                    fmt::format("\"{}\"", row.quoted), run(page.three, row.kv, kFullWindow),
                    run(page.three, "fp16", kFullWindow), run(page.three, "fp16", kBuiltWindow),
                    run(page.six, "fp16", kBuiltWindow)});
  }
  Markdown& out = page.out;
  out.heading(2, "Context strategy");
  out.table(rows, "lrlrrrrr");
  out.paragraph(
      "The page divides some of its totals by 1,024 and one by 1,000. With the window that the model is made with "
      "there "
      "is nothing to choose: plain Q4 runs every scenario in the same memory.");
}

void add_tying(BudgetPage& page) {
  const Config& c = page.six.config;
  const std::uint64_t parameters = c.vocab_size * c.d_source_model;
  const auto at = [&](std::string_view name) {
    Result<Precision> precision = parse_precision(name);
    AXON_CHECK(precision.ok());
    return mib(Bytes{precision.value().bytes(c.vocab_size, c.d_source_model).value()});
  };
  Markdown& out = page.out;
  out.heading(2, "Weight tying");
  out.table({{"saved by one tensor for embedding and head", "FP16", "Q4"},
             {"the page, in a note", "\"~64 MB\"", "\"~18 MB\""},
             {"the page, in its last section", "\"~131 MB\"", "\"~36 MB\""},
             {"3b and 6b, MiB", at("fp16"), at("q4")}},
            "lrr");
  out.paragraph(fmt::format(
      "{} x {} = {} parameters. The note has half of it; the last section is right, in units of 10^6 bytes. Tied heads "
      "take nothing here. The original writes the tensor twice in its files.",
      grouped(c.vocab_size), grouped(c.d_source_model), grouped(parameters)));
}

}  // namespace

void add_runs_and_training(BudgetPage& page) {
  add_inference(page);
  add_training(page);
  add_thermal(page);
  add_strategy(page);
  add_tying(page);
}

}  // namespace axon::pages
