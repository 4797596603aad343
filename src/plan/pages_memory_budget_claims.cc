// docs/memory-budget.md, the end: the page's claims, one by one. pages_test.cc asserts what each verdict rests on.

#include "plan/machines.h"
#include "plan/pages_memory_budget.h"
#include "plan/report.h"

namespace axon::pages {
namespace {

std::string spare(Bytes bytes) {
  return bytes <= kEightGb ? fmt::format("{} to spare", size(kEightGb - bytes))
                           : fmt::format("{} too much", size(bytes - kEightGb));
}

std::string longest(const OurModel& model, std::string_view precision, std::optional<std::uint64_t> window) {
  const auto tokens = longest_context(*model.subject, choice(0, precision, "fp16", window), kEightGb);
  return tokens ? fmt::format("{} tokens", grouped(*tokens)) : "no context at all";
}

struct Numbers {
  const BudgetPage& page;
  Bytes three(std::uint64_t context, std::string_view precision, std::optional<std::uint64_t> window,
              std::string_view kv = "fp16") const {
    return total(*page.three.subject, choice(context, precision, kv, window));
  }
  Bytes six(std::uint64_t context, std::string_view precision, std::optional<std::uint64_t> window,
            std::string_view kv = "fp16") const {
    return total(*page.six.subject, choice(context, precision, kv, window));
  }
  std::string weights_three(std::string_view p) const { return size(weights(plan(*page.three.subject, choice(1, p)))); }
  std::string weights_six(std::string_view p) const { return size(weights(plan(*page.six.subject, choice(1, p)))); }
};

void add_holding(const Numbers& n, Markdown& out) {
  out.heading(3, "Holds");
  out.bullet(fmt::format("\"Q4: default (fits)\": {} of weights for `3b`, {} for `6b`.", n.weights_three("q4"),
                         n.weights_six("q4")));
  const Bytes turbo = n.three(65536, "q4", kFullWindow, "tq3");
  out.bullet(fmt::format(
      "\"Q4 + TurboQuant fits within 8 GB at full 64K context with ~5 GB to spare\": `3b`, full window, {}: {}. For "
      "`6b` {}: {}. (`--kv tq3`.)",
      size(turbo), spare(turbo), size(n.six(65536, "q4", kFullWindow, "tq3")),
      spare(n.six(65536, "q4", kFullWindow, "tq3"))));
  Result<Bytes> full = full_fine_tuning(*n.page.three.subject);
  AXON_CHECK(full.ok());
  out.bullet(
      fmt::format("\"Full fine-tuning requires ~38.4 GB - physically impossible on 16 GB\": {:.1f} x 10^9 bytes "
                  "for `3b`, and more for `6b`.",
                  static_cast<double>(full.value().count) / 1e9));
  out.bullet(fmt::format("\"QLoRA training fits within 8 GB\": {} for `3b`, {} for `6b`.",
                         size(trained(*n.page.three.subject, {}).total()),
                         size(trained(*n.page.six.subject, {}).total())));
  out.bullet(fmt::format("The FP16 column of the KV table, for a full window: {} at 65,536 tokens.",
                         size(kv_cache(n.page.six, 65536, "fp16", kFullWindow))));
  out.bullet("\"Tying saves ~131 MB (FP16) / ~36 MB (Q4)\", in units of 10^6 bytes.");
}

void add_corrected(const Numbers& n, Markdown& out) {
  out.heading(3, "Holds with a correction");
  out.bullet(fmt::format(
      "\"Q4 alone fits within 8 GB up to ~16K context\": it fits further. Full window: up to {} for `3b` (all there "
      "are) and {} for `6b`. Window 4,096: at every context, {} and {}.",
      longest(n.page.three, "q4", kFullWindow), longest(n.page.six, "q4", kFullWindow),
      size(n.three(65536, "q4", kBuiltWindow)), size(n.six(65536, "q4", kBuiltWindow))));
  const Footprint run = plan(*n.page.six.subject, choice(65536, "q4"));
  out.bullet(fmt::format("\"Total SSM state: ~4.4 MB - negligible\": {} MiB, still negligible.",
                         mib(account_bytes(run, "ssm state") + account_bytes(run, "conv state"))));
  out.bullet(fmt::format(
      "TurboQuant's \"853 MB\" at 64K: {} MiB with the layout `tq3`. It is a sixth, but 2.6 bits, not \"3-bit\".",
      mib(kv_cache(n.page.six, 65536, "tq3", kFullWindow))));
  out.bullet("Q4 is \"3.6x\" smaller than FP16: 3.5x, since scales and biases count.");
  out.bullet(fmt::format("Q8 is \"Tight\": {} for `3b` is not; {} for `6b` is, and a run in its window takes {}.",
                         n.weights_three("q8"), n.weights_six("q8"), size(n.six(65536, "q8", kBuiltWindow))));
}

void add_failing(const Numbers& n, Markdown& out) {
  out.heading(3, "Does not hold");
  const OurModel& three = n.page.three;
  const OurModel& six = n.page.six;
  out.bullet(fmt::format(
      "\"FP16 inference exceeds 8 GB at any context length beyond 4K\": `3b`, full window, fits up to {}; with the "
      "window of 4,096 it never exceeds it ({} at 64K). `6b` exceeds it at every context, 4K included ({}).",
      longest(three, "fp16", kFullWindow), size(n.three(65536, "fp16", kBuiltWindow)),
      size(n.six(4096, "fp16", kBuiltWindow))));
  const Bytes plain = n.three(65536, "q4", kFullWindow);
  out.bullet(fmt::format(
      "\"TurboQuant is essential for 64K context\": not with the window of 4,096 ({} with plain fp16 keys and values). "
      "Not for `3b` with a full window either ({}, {}). Only `6b` with all 64K in a full window is over 8 GB, by "
      "{}.",
      size(n.three(65536, "q4", kBuiltWindow)), size(plain), spare(plain),
      size(n.six(65536, "q4", kFullWindow) - kEightGb)));
  out.bullet(fmt::format("\"At 65,536 tokens the FP16 KV cache alone exceeds the entire budget\": {} is less than {}.",
                         size(kv_cache(six, 65536, "fp16", kFullWindow)), size(kEightGb)));
  out.bullet(fmt::format("\"FP16 weights: do not fit\": `3b`'s do, {} of {}; `6b`'s do not, {}.",
                         n.weights_three("fp16"), size(kEightGb), n.weights_six("fp16")));
  out.bullet(
      fmt::format("\"~3.2B parameters\" of the default config: it has {}.", grouped(six.subject->facts().parameters)));
  const auto share = [](const OurModel& m) {
    return percent(static_cast<double>(m.subject->facts().active) / static_cast<double>(m.subject->facts().parameters));
  };
  out.bullet(
      fmt::format("\"Only ~1.4B of 3.2B parameters are active (~44%)\": {} of {} ({}) in `3b`, {} of {} ({}) in "
                  "`6b`.",
                  billions(three.subject->facts().active), billions(three.subject->facts().parameters), share(three),
                  billions(six.subject->facts().active), billions(six.subject->facts().parameters), share(six)));
  const MachineProfile* machine = find_machine("macbook-air-m4-16gb");
  AXON_CHECK(machine != nullptr && machine->gpu_budget());
  out.bullet(
      fmt::format("\"Available for model: ~8,000 MB\": its own items leave {} MiB.", mib(*machine->gpu_budget())));
  out.bullet("The totals of inference: their overhead is 513 in one cell and 713 or 313 in the next.");
  const Footprint training = trained(*six.subject, {});
  out.bullet(fmt::format(
      "\"LoRA params ~32 MB\", \"Adam optimizer ~256 MB\", \"SWA KV cache ~160 MB\": {}, {} and {} MiB for `6b`.",
      mib(account_bytes(training, "adapters")), mib(account_bytes(training, "optimizer state")),
      mib(account_bytes(training, "kv cache"))));
  out.bullet("\"Tying saves ~64 MB in FP16 (~18 MB in Q4)\": half of what it saves.");
}

}  // namespace

void add_claims(BudgetPage& page) {
  const Numbers numbers{page};
  page.out.heading(2, "Which of the page's claims hold");
  add_holding(numbers, page.out);
  add_corrected(numbers, page.out);
  add_failing(numbers, page.out);
}

}  // namespace axon::pages
