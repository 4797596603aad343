// A bare number of parameters: all that is known is what the weights take.

#include <charconv>

#include "plan/architecture_subject.h"
#include "plan/report.h"
#include "plan/train_plan.h"

namespace axon {
namespace {

class SizeSubject : public Subject {
 public:
  explicit SizeSubject(SizeGuess guess) : guess_(std::move(guess)) {
    facts_.target = guess_.target;
    const bool typed = parse_parameter_count(guess_.target) == guess_.parameters;  // else a folder of an unknown family
    facts_.title = fmt::format("A model of {} parameters", typed ? guess_.target : grouped(guess_.parameters));
    facts_.family = "unknown";
    facts_.evidence = "size";
    facts_.parameters = guess_.parameters;
    facts_.stored = guess_.stored > Bytes{} ? to_string(guess_.stored) : "not said; bf16 is assumed";
  }

  const SubjectFacts& facts() const override { return facts_; }

  Result<Footprint> footprint(const RunChoice& choice) const override {
    Footprint out;
    out.accounts.push_back(AXON_TRY(weights_account(choice)));
    if (out.accounts.back().estimate) out.notes.push_back("all parameters are taken to be in matrices");
    AXON_TRY(add_cache(choice, out));
    out.cannot_run = "a size is not a model";
    return out;
  }

  Result<Footprint> training(const TrainChoice&) const override {
    return make_error(ErrorCode::kInvalidArgument, "{}: training needs shapes, and a size has none", guess_.target);
  }

  std::string command(const RunChoice& choice) const override {
    std::string out = fmt::format("bit-axon plan {}", shell_word(guess_.target));
    if (guess_.fallback) {
      out += fmt::format(" --fallback --layers {} --hidden-size {}", guess_.layers, guess_.hidden_size);
    }
    if (choice.context != 0) out += fmt::format(" --context {}", choice.context);
    if (choice.weights != "keep") out += fmt::format(" --weights {}", choice.weights);
    if (choice.kv != "fp16") out += fmt::format(" --kv {}", choice.kv);
    return out;
  }

 private:
  Result<Account> weights_account(const RunChoice& choice) const {
    Account account{.name = "weights", .bytes = guess_.stored, .estimate = false, .terms = {}};
    if (choice.weights == "keep" && guess_.stored > Bytes{}) {
      account.terms = {{"all tensors as stored", guess_.stored}};
      return account;
    }
    const Precision precision = AXON_TRY(parse_precision(choice.weights == "keep" ? "bf16" : choice.weights));
    const auto weights = precision.bytes(1, guess_.parameters);
    if (!weights) return make_error(ErrorCode::kInvalidArgument, "{}: the weights do not fit 64 bits", guess_.target);
    account.bytes = {*weights};
    account.estimate = true;
    account.terms = {
        {fmt::format("{} parameters x {:.4g} bits", grouped(guess_.parameters), precision.bits()), account.bytes}};
    return account;
  }

  Status add_cache(const RunChoice& choice, Footprint& out) const {
    const KvFormat format = AXON_TRY(parse_kv_format(choice.kv));
    if (!guess_.fallback) {
      out.notes.push_back(
          "not counted: the kv cache, for a size says nothing of it (--fallback --layers N --hidden-size N reckons 2 x "
          "layers x hidden size x tokens x bytes)");
      return Ok{};
    }
    const std::uint64_t tokens = choice.context != 0 ? choice.context : 4096;
    const auto one = kv_bytes(format, 1, guess_.hidden_size, guess_.hidden_size, tokens);
    const auto bytes = one ? checked_mul(*one, guess_.layers) : std::nullopt;
    if (!bytes || *bytes >= std::uint64_t{1} << 62) {
      return make_error(ErrorCode::kInvalidArgument, "{}: the kv cache does not fit 64 bits", guess_.target);
    }
    out.accounts.push_back({.name = "kv cache",
                            .bytes = Bytes{*bytes},
                            .estimate = true,
                            .terms = {{fmt::format("2 x {} layers x {} hidden size x {} tokens, {}", guess_.layers,
                                                   grouped(guess_.hidden_size), grouped(tokens), format.name),
                                       Bytes{*bytes}}}});
    out.notes.push_back(
        "the kv cache is reckoned by the fallback formula: too much for models with grouped heads, windows or latents");
    return Ok{};
  }

  SizeGuess guess_;
  SubjectFacts facts_;
};

}  // namespace

std::unique_ptr<Subject> size_subject(SizeGuess guess) { return std::make_unique<SizeSubject>(std::move(guess)); }

std::optional<std::uint64_t> parse_parameter_count(std::string_view text) {
  if (text.size() < 2) return std::nullopt;
  const char unit = text.back();
  const double factor = unit == 'b' || unit == 'B'   ? 1e9
                        : unit == 'm' || unit == 'M' ? 1e6
                        : unit == 'k' || unit == 'K' ? 1e3
                        : unit == 't' || unit == 'T' ? 1e12
                                                     : 0;
  double number = 0;
  const char* end = text.data() + text.size() - 1;
  const auto [at, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (factor == 0 || error != std::errc() || at != end || !(number > 0 && number * factor < 1e16)) return std::nullopt;
  const double count = number * factor + 0.5;
  return count < 1 ? std::nullopt : std::optional(static_cast<std::uint64_t>(count));
}

}  // namespace axon
