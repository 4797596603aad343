#include "generate/sampler.h"

#include <algorithm>
#include <cmath>

namespace axon {

Status check_sampling(const SamplingOptions& o) {
  const auto bad = [](std::string_view name, std::string_view expected, float came) {
    return make_error(ErrorCode::kInvalidArgument, "{} must be {}, but is {}", name, expected, came);
  };
  if (!(o.temperature >= 0.0f) || !std::isfinite(o.temperature))
    return bad("--temperature", "0 or more", o.temperature);
  if (!(o.top_p >= 0.0f)) return bad("--top-p", "from 0 to 1", o.top_p);
  if (!(o.min_p >= 0.0f && o.min_p <= 1.0f)) return bad("--min-p", "from 0 to 1", o.min_p);
  if (!(o.repetition_penalty > 0.0f) || !std::isfinite(o.repetition_penalty)) {
    return bad("--repetition-penalty", "above 0", o.repetition_penalty);
  }
  return Ok{};
}

Sampler::Sampler(const SamplingOptions& options, std::size_t vocab_size, Carver& carver)
    : options_(options),
      rng_(options.seed),
      candidates_(carver.span<Candidate>(vocab_size)),
      seen_(carver.span<std::uint64_t>((vocab_size + 63) / 64)) {}

void Sampler::note(std::span<const std::uint32_t> tokens) {
  for (const std::uint32_t id : tokens) seen_[id / 64] |= std::uint64_t{1} << (id % 64);
}

std::span<Sampler::Candidate> Sampler::keep_top_k(std::span<float> logits) {
  const std::span<Candidate> all = candidates_.first(logits.size());
  for (std::uint32_t id = 0; id < logits.size(); ++id) all[id] = {logits[id], id};
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  std::span<Candidate> kept = all;
  if (options_.top_k > 0 && options_.top_k < logits.size()) {
    const auto kth = all.begin() + static_cast<std::ptrdiff_t>(options_.top_k - 1);
    std::nth_element(all.begin(), kth, all.end(), better);
    const float threshold = kth->logit;
    const auto end = std::partition(kth + 1, all.end(), [&](const Candidate& c) { return c.logit == threshold; });
    kept = {all.begin(), end};
  }
  std::sort(kept.begin(), kept.end(), better);
  return kept;
}

std::span<Sampler::Candidate> Sampler::keep_top_p(std::span<Candidate> sorted) const {
  const float best = sorted[0].logit;
  double sum = 0;
  for (const Candidate& c : sorted) sum += std::exp(static_cast<double>(c.logit - best));
  std::size_t keep = sorted.size();
  if (options_.top_p < 1.0f) {
    double before = 0;
    for (keep = 0; keep < sorted.size() && (keep == 0 || before <= static_cast<double>(options_.top_p)); ++keep) {
      before += std::exp(static_cast<double>(sorted[keep].logit - best)) / sum;
    }
    while (keep < sorted.size() && sorted[keep].logit == sorted[keep - 1].logit) ++keep;
  }
  if (options_.min_p > 0.0f) {
    const float floor = best + std::log(options_.min_p);
    while (keep > 1 && sorted[keep - 1].logit < floor) --keep;
  }
  return sorted.first(keep);
}

std::uint32_t Sampler::sample(std::span<float> logits) {
  if (options_.repetition_penalty != 1.0f) {
    for (std::size_t id = 0; id < logits.size(); ++id) {
      if ((seen_[id / 64] >> (id % 64) & 1) == 0) continue;
      logits[id] = logits[id] > 0 ? logits[id] / options_.repetition_penalty : logits[id] * options_.repetition_penalty;
    }
  }
  if (options_.temperature == 0.0f) {
    return static_cast<std::uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  for (float& logit : logits) logit /= options_.temperature;
  const std::span<Candidate> kept = keep_top_p(keep_top_k(logits));
  const float best = kept[0].logit;
  double sum = 0;
  for (const Candidate& c : kept) sum += std::exp(static_cast<double>(c.logit - best));
  double left = rng_.uniform(draws_++) * sum;
  for (const Candidate& c : kept) {
    left -= std::exp(static_cast<double>(c.logit - best));
    if (left < 0) return c.id;
  }
  return kept.back().id;
}

}  // namespace axon
