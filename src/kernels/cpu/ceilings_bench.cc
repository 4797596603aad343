// The ceilings of this machine, at the level in use (BIT_AXON_CPU): what the other benchmarks are to be held against.
// By the clock: a ceiling measured on a busy machine is that of what was left of it.

#include "kernels/cpu/ceilings.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "kernels/cpu/level.h"
#include "memory/arena.h"

namespace axon::cpu {
namespace {

constexpr std::chrono::milliseconds kSlice(20);

std::span<const std::byte> buffer() {
  static Ledger ledger(CeilingProbe::buffer_bytes());
  static const Arena arena = Arena::create(ledger, account::kWorkspace, CeilingProbe::buffer_bytes()).value();
  return {arena.data(), arena.size().count};
}

// Argument: threads.
void ceiling(benchmark::State& state, CeilingSample (CeilingProbe::*probe)(std::chrono::nanoseconds),
             const char* counter) {
  AXON_CHECK(force_from_environment().ok());
  ThreadPool pool(static_cast<std::size_t>(state.range(0)));
  CeilingProbe probes(pool, buffer());
  std::string label(name_of(level()));
  if (probe == &CeilingProbe::read) {
    for (const auto& way : probes.choose_read(std::chrono::milliseconds(10), 9)) {
      label += fmt::format("; {:.1f} {}", way.bytes_per_second * 1e-9, way.name);
    }
  }
  CeilingSample all;
  double best = 0.0;
  for (auto _ : state) {
    const CeilingSample slice = (probes.*probe)(kSlice);
    state.SetIterationTime(slice.time.count());
    best = std::max(best, slice.per_second());
    all += slice;
  }
  if (all.count == 0) return state.SkipWithError("this level or processor has no such instruction");
  state.SetLabel(label);
  state.counters[counter] = all.per_second() * 1e-9;
  state.counters["best"] = best * 1e-9;
}

void threads(benchmark::internal::Benchmark* b) {
  b->ArgName("threads")->Arg(1)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(ceiling, read, &CeilingProbe::read, "GB/s")->Apply(threads);
BENCHMARK_CAPTURE(ceiling, int8, &CeilingProbe::int8, "GOP/s")->Apply(threads);
BENCHMARK_CAPTURE(ceiling, bf16, &CeilingProbe::bf16, "GFLOP/s")->Apply(threads);
BENCHMARK_CAPTURE(ceiling, fp32, &CeilingProbe::fp32, "GFLOP/s")->Apply(threads);

}  // namespace
}  // namespace axon::cpu
