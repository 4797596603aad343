// Decode speed by depth and KV type: a model's step() behind 1k to 64k tokens with a window that sees them all. What
// the cache holds is made up, since its values do not change the time. BIT_AXON_BENCH_MODEL names the model's folder;
// no model, no figures. Compare types within one run: --benchmark_enable_random_interleaving=true.

#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

#include "generate/engine.h"
#include "generate/made_up_past.h"

namespace axon {
namespace {

constexpr std::size_t kContext = 65536 + 64;

struct Bench {
  std::unique_ptr<Engine> engine;
  Ledger ledger{Bytes{std::uint64_t{1} << 40}};
  std::map<std::string, Session, std::less<>> sessions;
};

SessionOptions session_options(std::string_view kv) {
  return {.context = kContext, .prefill_chunk = 1, .kv = parse_kv_type(kv).value()};
}

Result<std::unique_ptr<Bench>> make_bench() {
  const char* folder = std::getenv("BIT_AXON_BENCH_MODEL");
  if (folder == nullptr) return Error{ErrorCode::kNotFound, "BIT_AXON_BENCH_MODEL names no model"};
  auto bench = std::make_unique<Bench>();
  ModelFiles files = AXON_TRY(open_model(folder));
  files.config.swa_window_size = files.config.max_seq_len = kContext;
  EngineOptions options;
  options.session = session_options("tq3");
  options.threads = 2;
  const EnginePlan plan = AXON_TRY(Engine::plan(files, nullptr, options));
  bench->engine = AXON_TRY(Engine::create(std::move(files), nullptr, "", plan, options, bench->ledger.limit()));
  return bench;
}

Session& session_of(Bench& bench, const std::string& kv) {
  const auto found = bench.sessions.find(kv);
  if (found != bench.sessions.end()) return found->second;
  Engine& engine = *bench.engine;
  Session session = Session::create(engine.model(), engine.device(), bench.ledger, session_options(kv)).value();
  return bench.sessions.emplace(kv, std::move(session)).first->second;
}

void decode(benchmark::State& state, const std::string& kv) {
  static Result<std::unique_ptr<Bench>> made = make_bench();
  if (!made.ok()) return state.SkipWithError(made.error().message.c_str());
  Bench& bench = *made.value();
  Session& session = session_of(bench, kv);
  const auto depth = static_cast<std::size_t>(state.range(0));
  bench.engine->device().reset_work();
  for (auto _ : state) {
    if (session.position() < depth || session.position() > depth + 32) {
      state.PauseTiming();
      make_up_past(session.state(), depth, bench.engine->device().pool());
      state.ResumeTiming();
    }
    session.step(1);
    session.logits();
  }
  const cpu::DeviceWork& work = bench.engine->device().work();
  const auto per_token = [&](double s) { return benchmark::Counter(1e3 * s, benchmark::Counter::kAvgIterations); };
  state.counters["attend_ms"] = per_token(work.of(cpu::Verb::kAttend));
  state.counters["encode_ms"] = per_token(work.of(cpu::Verb::kAppend));
  state.counters["rotate_ms"] = per_token(work.of(cpu::Verb::kRotate));
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

[[maybe_unused]] const int registered = [] {
  for (const std::string kv : {"fp16", "q8", "tq4", "tq3.5", "tq3", "lm3"}) {
    benchmark::RegisterBenchmark(("decode/" + kv).c_str(), [kv](benchmark::State& s) { decode(s, kv); })
        ->ArgName("depth")
        ->RangeMultiplier(4)
        ->Range(1024, 65536)
        ->Iterations(16)  // two flushes of a tail
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  return 0;
}();

}  // namespace
}  // namespace axon
