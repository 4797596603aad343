#include "cli/benchmark_report.h"

#include <algorithm>

#include "plan/report.h"
#include "plan/report_words.h"

namespace axon::cli {
namespace {

constexpr std::array<Ceiling, kCeilings> kAllCeilings = {Ceiling::kRead, Ceiling::kInt8, Ceiling::kBf16,
                                                         Ceiling::kFp32};
constexpr std::size_t kPartColumns = 6;  // cases side by side, within 110 columns
constexpr double kSmallPart = 1e-5;      // of the time: a verb that this model does not use has none

using Number = std::function<std::optional<double>(const BenchmarkTurn&)>;

double per_token(std::uint64_t count, const BenchmarkTurn& sum) {
  return static_cast<double>(count) / static_cast<double>(sum.tokens);
}

std::string percent(const Spread& share) {
  return share.count == 0 ? "-" : fmt::format("{:.0f} %", 100 * share.median);
}

std::string giga(double rate) { return fmt::format("{:.{}f}", rate * 1e-9, rate < 9.95e9 ? 2 : 1); }

std::string rate_words(double rate) { return fmt::format("{:.{}f}", rate, rate < 99.95 ? 2 : 1); }

std::string range_words(const Spread& s, const std::function<std::string(double)>& words) {
  return fmt::format("({} .. {})", words(s.min), words(s.max));
}

double speed(const BenchmarkTurn& turn) { return turn.tokens_per_second(); }

std::string bytes_words(double bytes) { return to_string(Bytes{static_cast<std::uint64_t>(bytes + 0.5)}); }

class Text {
 public:
  explicit Text(const BenchmarkReport& report) : report_(report) {}

  std::string write() {
    heading();
    ceilings();
    table(BenchmarkCase::kPrefill);
    table(BenchmarkCase::kDecode);
    for (std::size_t s = 0; s < report_.sides.size(); ++s) parts(s);
    left_out();
    return std::move(out_);
  }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    while (out_.ends_with(' ')) out_.pop_back();  // of a last column without words
    out_ += '\n';
  }
  std::size_t cases() const { return report_.result.subjects[0].size(); }
  const BenchmarkCaseResult& result(std::size_t side, std::size_t c) const { return report_.result.subjects[side][c]; }

  void heading() {
    for (std::size_t s = 0; s < report_.sides.size(); ++s) {
      const BenchmarkReport::Side& side = report_.sides[s];
      const std::string letter = report_.letter(s);
      put("{}{}{}", letter, letter.empty() ? "" : "  ", side_words(side));
    }
    put("{}{}{}, {} threads, {} arithmetic, prompts in passes of {} tokens\n"
        "medians of {} repetitions (least .. most)",
        printable(report_.processor), report_.processor.empty() ? "" : ", ", report_.level, report_.threads,
        report_.exact ? "exact" : "fast", report_.prefill_chunk, report_.repetitions);
  }

  void ceilings() {
    out_ += "\n" + bold("ceilings, measured between the turns") + "\n";
    for (const Ceiling c : kAllCeilings) {
      const Spread& rates = report_.result.ceilings[static_cast<std::size_t>(c)];
      if (rates.count == 0) {
        put("  {:<5}{:>9}  no such instruction here", name_of(c), "none");
        continue;
      }
      const char* unit = c == Ceiling::kRead ? "GB/s" : c == Ceiling::kInt8 ? "GOP/s" : "GFLOP/s";
      put("  {:<5}{:>9} {:<8}{:<20}{}", name_of(c), giga(rates.median), unit, range_words(rates, giga),
          c == Ceiling::kRead ? read_words() : "");
    }
  }

  std::string read_words() const {
    const std::string memory = to_string(report_.result.read_memory);
    if (!report_.in_cache()) return fmt::format("{} of weights, over and over", memory);
    return fmt::format("{} of weights in a cache of {}: not memory's speed", memory,
                       to_string(report_.last_level_cache));
  }

  void table(BenchmarkCase::Kind kind) {
    bool headed = false;
    for (std::size_t c = 0; c < cases(); ++c) {
      if (result(0, c).what.kind != kind) continue;
      if (!headed) head(kind);
      headed = true;
      for (std::size_t s = 0; s < report_.sides.size(); ++s) row(s, c);
      if (report_.sides.size() == 2) {
        const Spread ratio = paired_ratio(result(0, c), result(1, c));
        const auto times = [](double r) { return fmt::format("{:.2f}", r); };
        put("{:<10} {:<3}{:>10}x {:<20}", "", "A/B", fmt::format("{:.3f}", ratio.median), range_words(ratio, times));
      }
    }
    if (!headed) return;
    if (kind == BenchmarkCase::kPrefill) {
      put("  int8, ...: of the products; matmul, whole: the time that the ceilings need for them, as a share of the\n"
          "  time of the products alone, and of all time");
    } else {
      put("  bytes: read for a token. GB/s, read: of the weights, and their share of the read ceiling; all: the share\n"
          "  with keys, values and states");
    }
  }

  void head(BenchmarkCase::Kind kind) {
    out_ += '\n';
    if (kind == BenchmarkCase::kPrefill) {
      out_ += bold(fmt::format("{:<14}{:>10}  {:<20}{:>10}{:>10}  {:<6}{:>9}{:>9}", "prompt", "tokens/s", "",
                               "a prompt", "GOP/s", "", "matmul", "whole"));
    } else {
      out_ += bold(fmt::format("{:<14}{:>10}  {:<18}{:>9}{:>12}{:>11}{:>11}{:>7}{:>6}{:>6}", "behind", "tokens/s", "",
                               "a token", "weights", "keys+vals", "states", "GB/s", "read", "all"));
    }
    out_ += '\n';
  }

  void row(std::size_t side, std::size_t c) {
    const BenchmarkCaseResult& r = result(side, c);
    const BenchmarkTurn sum = r.sum();
    const Spread rate = r.spread(speed);
    const std::string letter = report_.letter(side);
    const std::string one = fmt::format(
        "{:>10}", letter == "B" ? "" : grouped(r.what.kind == BenchmarkCase::kPrefill ? r.what.tokens : r.what.depth));
    const std::string speeds = fmt::format("{} {:<3}{:>10}  ", one, letter, rate_words(rate.median));
    if (r.what.kind == BenchmarkCase::kPrefill) {
      const Spread operations =
          r.spread([](const BenchmarkTurn& t) { return static_cast<double>(t.operations()) / t.seconds; });
      put("{}{:<20}{:>10}{:>10}  {:<6}{:>9}{:>9}", speeds, range_words(rate, rate_words),
          seconds_words(sum.seconds / r.units()), giga(operations.median), main_kind(sum.work),
          percent(r.spread(&BenchmarkTurn::matmul_share)), percent(r.spread(&BenchmarkTurn::compute_share)));
      return;
    }
    const Spread reading =
        r.spread([](const BenchmarkTurn& t) { return static_cast<double>(t.work.weight_bytes) / t.seconds; });
    put("{}{:<18}{:>9}{:>12}{:>11}{:>11}{:>7}{:>6}{:>6}", speeds, range_words(rate, rate_words),
        seconds_words(sum.seconds / r.units()), bytes_words(per_token(sum.work.weight_bytes, sum)),
        bytes_words(per_token(sum.work.kv_bytes, sum)), bytes_words(per_token(sum.work.state_bytes, sum)),
        giga(reading.median), percent(r.spread(&BenchmarkTurn::weights_share)),
        percent(r.spread(&BenchmarkTurn::bytes_share)));
  }

  // What most of the operations are done in.
  static std::string_view main_kind(const cpu::DeviceWork& work) {
    if (work.int8_ops >= std::max(work.bf16_flops, work.fp32_flops)) return name_of(Ceiling::kInt8);
    return name_of(work.bf16_flops >= work.fp32_flops ? Ceiling::kBf16 : Ceiling::kFp32);
  }

  void parts(std::size_t side) {
    const std::string letter = report_.letter(side);
    for (std::size_t first = 0; first < cases(); first += kPartColumns) {
      const std::size_t end = std::min(first + kPartColumns, cases());
      std::string head = fmt::format("\n{:<10}", letter.empty() ? "time" : "time of " + letter);
      for (std::size_t c = first; c < end; ++c) head += fmt::format("{:>16}", result(side, c).what.name());
      out_ += bold(head) + '\n';
      for (const BenchmarkPart& part : parts_of(report_.result.subjects[side])) {
        std::string line = fmt::format("{:<10}", part.name);
        for (std::size_t c = first; c < end; ++c) {
          line += fmt::format("{:>10}{:>4.0f} %", seconds_words(part.seconds[c]), 100 * part.shares[c]);
        }
        put("{}", line);
      }
    }
  }

  void left_out() {
    const auto list = [](const std::vector<std::size_t>& numbers) {
      std::vector<std::string> words;
      for (const std::size_t n : numbers) words.push_back(grouped(n));
      return join(words, ", ");
    };
    if (!report_.prefill_left_out.empty() || !report_.depth_left_out.empty()) out_ += '\n';
    if (!report_.prefill_left_out.empty()) {
      put("left out: prompts of {} tokens, more than the model's max_seq_len {}", list(report_.prefill_left_out),
          grouped(report_.max_seq_len));
    }
    if (!report_.depth_left_out.empty()) {
      put("left out: depth {}, more than the model's max_seq_len {}", list(report_.depth_left_out),
          grouped(report_.max_seq_len));
    }
  }

  const BenchmarkReport& report_;
  std::string out_;
};

Json spread_json(const Spread& s) {
  if (s.count == 0) return nullptr;
  return {{"count", s.count},
          {"min", s.min},
          {"lower_quartile", s.lower_quartile},
          {"median", s.median},
          {"upper_quartile", s.upper_quartile},
          {"max", s.max}};
}

Json number_json(const std::optional<double>& number) { return number ? Json(*number) : Json(nullptr); }

Json turn_json(const BenchmarkTurn& turn, BenchmarkCase::Kind kind) {
  Json json = {{"tokens", turn.tokens}, {"seconds", turn.seconds}, {"tokens_per_second", turn.tokens_per_second()}};
  for (const Ceiling c : kAllCeilings) json["ceilings"][std::string(name_of(c))] = turn.ceilings.of(c);
  if (kind == BenchmarkCase::kPrefill) {
    json["matmul_share"] = number_json(turn.matmul_share());
    json["compute_share"] = number_json(turn.compute_share());
  } else {
    json["weights_share"] = number_json(turn.weights_share());
    json["bytes_share"] = number_json(turn.bytes_share());
  }
  return json;
}

Json case_json(const BenchmarkCaseResult& r) {
  const bool prefill = r.what.kind == BenchmarkCase::kPrefill;
  const BenchmarkTurn sum = r.sum();
  const auto rate = [&](auto count) {
    return spread_json(r.spread([&](const BenchmarkTurn& t) { return static_cast<double>(count(t)) / t.seconds; }));
  };
  Json json = {{"name", r.what.name()},
               {"kind", prefill ? "prefill" : "decode"},
               {"tokens", r.what.tokens},
               {"depth", r.what.depth},
               {"start", r.what.start},
               {"tokens_per_second", spread_json(r.spread(speed))},
               {"seconds_per_unit", sum.seconds / r.units()},
               {"unit", prefill ? "prompt" : "token"},
               {"weight_bytes_per_token", per_token(sum.work.weight_bytes, sum)},
               {"kv_bytes_per_token", per_token(sum.work.kv_bytes, sum)},
               {"state_bytes_per_token", per_token(sum.work.state_bytes, sum)},
               {"int8_ops_per_token", per_token(sum.work.int8_ops, sum)},
               {"bf16_flops_per_token", per_token(sum.work.bf16_flops, sum)},
               {"fp32_flops_per_token", per_token(sum.work.fp32_flops, sum)},
               {"weight_bytes_per_second", rate([](const BenchmarkTurn& t) { return t.work.weight_bytes; })},
               {"bytes_per_second", rate([](const BenchmarkTurn& t) { return t.all_bytes(); })},
               {"operations_per_second", rate([](const BenchmarkTurn& t) { return t.operations(); })}};
  if (prefill) {
    json["matmul_share"] = spread_json(r.spread(&BenchmarkTurn::matmul_share));
    json["compute_share"] = spread_json(r.spread(&BenchmarkTurn::compute_share));
  } else {
    json["weights_share"] = spread_json(r.spread(&BenchmarkTurn::weights_share));
    json["bytes_share"] = spread_json(r.spread(&BenchmarkTurn::bytes_share));
  }
  Json parts = Json::object();
  for (std::size_t v = 0; v < cpu::kVerbsOfInference; ++v) {
    const auto verb = static_cast<cpu::Verb>(v);
    parts[std::string(cpu::name_of(verb))] = r.seconds_of(verb);
  }
  parts["outside"] = r.seconds_outside();
  json["parts"] = std::move(parts);
  Json turns = Json::array();
  for (const BenchmarkTurn& turn : r.turns) turns.push_back(turn_json(turn, r.what.kind));
  json["turns"] = std::move(turns);
  return json;
}

}  // namespace

std::vector<BenchmarkPart> parts_of(std::span<const BenchmarkCaseResult> cases) {
  std::vector<BenchmarkPart> parts;
  const auto add = [&](std::string_view name, const std::function<double(const BenchmarkCaseResult&)>& seconds) {
    BenchmarkPart part{.name = std::string(name), .seconds = {}, .shares = {}};
    double largest = 0;
    for (const BenchmarkCaseResult& r : cases) {
      part.seconds.push_back(seconds(r));
      part.shares.push_back(part.seconds.back() / (r.sum().seconds / r.units()));
      largest = std::max(largest, part.shares.back());
    }
    if (largest >= kSmallPart) parts.push_back(std::move(part));
  };
  for (std::size_t v = 0; v < cpu::kVerbsOfInference; ++v) {
    const auto verb = static_cast<cpu::Verb>(v);
    add(cpu::name_of(verb), [&](const BenchmarkCaseResult& r) { return r.seconds_of(verb); });
  }
  add("outside", [](const BenchmarkCaseResult& r) { return r.seconds_outside(); });
  return parts;
}

std::string seconds_words(double seconds) {
  const auto words = [](double number, const char* unit) {
    return fmt::format("{:.{}f} {}", number, number < 9.995 ? 2 : number < 99.95 ? 1 : 0, unit);
  };
  if (seconds >= 0.9995) return words(seconds, "s");
  return seconds >= 0.9995e-3 ? words(seconds * 1e3, "ms") : words(seconds * 1e6, "us");
}

std::string side_words(const BenchmarkReport::Side& side) {
  return fmt::format("{}, weights {}, kv {}", printable(side.model), weights_words(side.weights), side.kv);
}

std::string benchmark_text(const BenchmarkReport& report) { return Text(report).write(); }

Json benchmark_json(const BenchmarkReport& report) {
  const auto side_json = [&](std::size_t s) {
    const BenchmarkReport::Side& side = report.sides[s];
    Json cases = Json::array();
    for (std::size_t c = 0; c < report.result.subjects[s].size(); ++c) {
      cases.push_back(case_json(report.result.subjects[s][c]));
      if (s == 1) {
        cases.back()["ratio"] = spread_json(paired_ratio(report.result.subjects[0][c], report.result.subjects[1][c]));
      }
    }
    return Json{{"model", side.model}, {"weights", side.weights}, {"kv", side.kv}, {"cases", std::move(cases)}};
  };
  Json json = side_json(0);
  if (report.sides.size() > 1) json["compare"] = side_json(1);
  Json ceilings = Json::object();
  for (const Ceiling c : kAllCeilings) {
    ceilings[std::string(name_of(c))] = spread_json(report.result.ceilings[static_cast<std::size_t>(c)]);
  }
  json["ceilings"] = std::move(ceilings);
  json["read"] = {{"way", report.result.read_way},
                  {"memory_bytes", report.result.read_memory.count},
                  {"last_level_cache_bytes", report.last_level_cache.count},
                  {"in_cache", report.in_cache()}};
  json["left_out"] = {{"prefill", report.prefill_left_out}, {"depth", report.depth_left_out}};
  json["repetitions"] = report.repetitions;
  json["prefill_chunk"] = report.prefill_chunk;
  json["context"] = report.context;
  json["exact"] = report.exact;
  json["threads"] = report.threads;
  json["cpu"] = report.level;
  json["processor"] = report.processor;
  return json;
}

}  // namespace axon::cli
