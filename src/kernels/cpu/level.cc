#include "kernels/cpu/level.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include <hwy/highway.h>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace axon::cpu {
namespace {

constexpr Level kAll[] = {Level::kScalar,     Level::kSse4, Level::kAvx2,   Level::kAvx512,
                          Level::kAvx512Vnni, Level::kNeon, Level::kNeonDot};

std::vector<Level> detect() {
  std::vector<Level> found{Level::kScalar};
  [[maybe_unused]] const std::int64_t targets = hwy::SupportedTargets();
#if HWY_ARCH_X86
  // Highway asks the operating system too: without XSAVE of the wide registers it reports no AVX.
  if ((targets & HWY_SSE4) != 0) found.push_back(Level::kSse4);
  if ((targets & HWY_AVX2) != 0) found.push_back(Level::kAvx2);
  if ((targets & HWY_AVX3) != 0) {
    found.push_back(Level::kAvx512);
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("gfni")) {
      found.push_back(Level::kAvx512Vnni);
    }
  }
#elif HWY_ARCH_ARM_A64
  found.push_back(Level::kNeon);
#if defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) found.push_back(Level::kNeonDot);
#elif defined(__ARM_FEATURE_DOTPROD)
  found.push_back(Level::kNeonDot);
#endif
#endif
  return found;
}

// Detected once, before any force() narrows what Highway reports.
const std::vector<Level>& detected() {
  static const std::vector<Level> levels = detect();
  return levels;
}

std::atomic<int> forced{-1};

// The targets of Highway that lie above `level`.
std::int64_t targets_above(Level level) {
#if HWY_ARCH_X86
  switch (level) {
    case Level::kScalar: return HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL;
    case Level::kSse4: return HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL;
    case Level::kAvx2: return HWY_AVX3 | HWY_AVX3_DL;
    default: return 0;
  }
#else
  // Where NEON is the baseline, Highway has nothing below it.
  static_cast<void>(level);
  return 0;
#endif
}

}  // namespace

std::string_view name_of(Level level) {
  switch (level) {
    case Level::kScalar: return "scalar";
    case Level::kSse4: return "sse4";
    case Level::kAvx2: return "avx2";
    case Level::kAvx512: return "avx512";
    case Level::kAvx512Vnni: return "avx512vnni";
    case Level::kNeon: return "neon";
    case Level::kNeonDot: return "neondot";
  }
  return "?";
}

std::vector<Level> supported_levels() { return detected(); }

Level level() {
  const int index = forced.load(std::memory_order_relaxed);
  return index < 0 ? detected().back() : static_cast<Level>(index);
}

bool has_bf16_dot([[maybe_unused]] Level level) {
#if HWY_ARCH_X86
  return level == Level::kAvx512Vnni && __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

Status force(std::string_view name) {
  std::string known;
  for (const Level wanted : detected()) {
    if (name_of(wanted) == name) {
      hwy::DisableTargets(targets_above(wanted));
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      forced.store(static_cast<int>(wanted), std::memory_order_relaxed);
      return Ok{};
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name_of(wanted));
  }
  for (const Level other : kAll) {
    if (name_of(other) == name) {
      return make_error(ErrorCode::kInvalidArgument, "this processor lacks the level {}; it has {}", name, known);
    }
  }
  return make_error(ErrorCode::kInvalidArgument, "unknown CPU level \"{}\"; this processor has {}", name, known);
}

Status force_from_environment() {
  const char* name = std::getenv("BIT_AXON_CPU");
  if (name == nullptr || *name == '\0') return Ok{};
  return force(name);
}

}  // namespace axon::cpu
