#include "train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace axon::train {
namespace {

constexpr std::array<std::pair<std::string_view, Decay>, 3> kDecays{
    {{"cosine", Decay::kCosine}, {"linear", Decay::kLinear}, {"constant", Decay::kConstant}}};

double share(std::uint64_t part, std::uint64_t whole) {
  return part >= whole ? 1 : static_cast<double>(part) / static_cast<double>(whole);
}

double cosine(double from, double to, double progress) {
  return to + 0.5 * (1 + std::cos(std::numbers::pi * progress)) * (from - to);
}

double compat_rate(const Schedule& s, std::uint64_t updates) {
  if (s.warmup != 0 && updates <= s.warmup) return s.peak * share(updates, s.warmup);
  // Without a warm-up the original has no second schedule to join, and the cosine begins at 0.
  const std::uint64_t done = s.warmup == 0 ? updates : updates - s.warmup - 1;
  return cosine(s.peak, s.floor, share(done, s.total > s.warmup ? s.total - s.warmup : 1));
}

}  // namespace

Result<Decay> parse_decay(std::string_view name) {
  for (const auto& [known, decay] : kDecays) {
    if (known == name) return decay;
  }
  return make_error(ErrorCode::kInvalidArgument, "no schedule \"{}\": there are cosine, linear and constant", name);
}

std::string_view name_of(Decay decay) { return kDecays[static_cast<std::size_t>(decay)].first; }

Status Schedule::check() const {
  if (!(peak > 0) || !std::isfinite(peak)) {
    return make_error(ErrorCode::kInvalidArgument, "the learning rate must be above 0, not {}", peak);
  }
  if (!(floor >= 0 && floor <= peak)) {
    return make_error(ErrorCode::kInvalidArgument, "the lowest learning rate must be from 0 to {}, not {}", peak,
                      floor);
  }
  if (total == 0) return make_error(ErrorCode::kInvalidArgument, "a run needs at least one update, not 0");
  if (compat && decay != Decay::kCosine) {
    return make_error(ErrorCode::kInvalidArgument, "compat has the cosine schedule alone, not {}", name_of(decay));
  }
  return Ok{};
}

double Schedule::rate(std::uint64_t updates) const {
  if (compat) return compat_rate(*this, updates);
  if (updates < warmup) return peak * share(updates + 1, warmup);
  if (decay == Decay::kConstant) return peak;
  // A warm-up as long as the run leaves nothing to go down.
  const double progress = total > warmup ? share(updates - warmup, total - warmup) : 0;
  return decay == Decay::kCosine ? cosine(peak, floor, progress) : floor + (peak - floor) * (1 - progress);
}

}  // namespace axon::train
