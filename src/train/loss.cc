#include "train/loss.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace axon::train {
namespace {

static_assert(kIgnore == kNoLabel);

double log1mexp(double x) { return x < -std::log(2.0) ? std::log1p(-std::exp(x)) : std::log(-std::expm1(x)); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::fabs(x))); }

// At log p = 0 the odds are infinite.
double below_zero(double logp) { return std::min(logp, -1e-7); }

struct Odds {
  double margin;              // log odds(chosen) - log odds(rejected)
  double dchosen, drejected;  // of the margin in respect of each log p
};
Odds odds_of(double chosen, double rejected) {
  const double c = below_zero(chosen), r = below_zero(rejected);
  return {
      .margin = (c - r) - (log1mexp(c) - log1mexp(r)), .dchosen = 1 / -std::expm1(c), .drejected = -1 / -std::expm1(r)};
}

std::size_t count_labels(std::span<const std::uint32_t> labels) {
  return static_cast<std::size_t>(std::ranges::count_if(labels, [](std::uint32_t l) { return l != kIgnore; }));
}

}  // namespace

LossSums& LossSums::operator+=(const LossSums& other) {
  LossSums add = other;
  for (std::size_t i = 0; i < kNumbers; ++i) numbers()[i] += add.numbers()[i];
  return *this;
}

LossRunner::LossRunner(Carver& carver, const LossSettings& settings, std::size_t capacity)
    : settings_(settings),
      starts_(carver.span<std::uint32_t>(capacity)),
      next_(carver.span<std::uint32_t>(settings.objective == Objective::kPreference ? capacity : 0)),
      factors_(carver.span<float>(capacity)),
      more_(carver.span<float>(settings.objective == Objective::kPreference ? capacity : 0)),
      loss_(carver.span<float>(capacity)),
      logps_(carver.span<float>(settings.objective == Objective::kPreference ? capacity : 0)) {}

LossSums LossRunner::run(TrainingPass& pass, const Batch& batch, bool learn, std::uint64_t first_token) {
  // The original's units: the mean over a batch's targets, and over its pairs.
  double targets = 0, chosen = 0, pair_count = 0;
  for (const Row& row : batch.rows) {
    for (const Segment& s : row.segments) {
      targets += s.targets;
      chosen += s.role == SegmentRole::kChosen ? s.targets : 0;
      pair_count += s.role == SegmentRole::kChosen ? 1 : 0;
    }
  }
  LossSums sums;
  for (const Row& row : batch.rows) {
    for (std::size_t i = 0; i < row.segments.size(); ++i) starts_[i] = row.segments[i].begin;
    pass.forward(row.ids,
                 {.tokens = row.ids.size(), .starts = starts_.first(row.segments.size()), .first_token = first_token});
    first_token += row.ids.size();
    LossSums part;
    if (settings_.objective == Objective::kSupervised) {
      part = supervised(pass, row, learn, settings_.compat ? 1 / std::max(targets, 1.0) : 1.0);
    } else if (settings_.compat) {
      part = compat_pairs(pass, row, learn, 1 / std::max(chosen, 1.0), 1 / std::max(pair_count, 1.0));
    } else {
      part = pairs(pass, row, learn);
    }
    part.tokens = static_cast<double>(row.ids.size());
    sums += part;
  }
  return sums;
}

LossSums LossRunner::supervised(TrainingPass& pass, const Row& row, bool learn, double unit) {
  const std::size_t T = row.ids.size();
  const auto loss = loss_.first(T), factors = factors_.first(T);
  if (learn) {
    std::ranges::fill(factors, static_cast<float>(unit));
    pass.backward({row.labels, factors, loss});
  } else {
    pass.losses(row.labels, loss);
  }
  LossSums sums;
  for (const float l : loss) sums.loss += double{l};
  sums.weight = static_cast<double>(count_labels(row.labels));
  return sums;
}

LossSums LossRunner::pairs(TrainingPass& pass, const Row& row, bool learn) {
  const std::size_t T = row.ids.size();
  const auto loss = loss_.first(T), factors = factors_.first(T);
  pass.losses(row.labels, loss);
  const auto mean_logp = [&](const Segment& s) {
    double sum = 0;
    for (std::size_t t = s.begin; t < s.end; ++t) sum -= double{loss[t]};
    return sum / std::max(1.0, static_cast<double>(s.targets));
  };
  LossSums sums;
  for (std::size_t i = 0; i + 1 < row.segments.size(); i += 2) {
    const Segment &chosen = row.segments[i], &rejected = row.segments[i + 1];
    const double lp_c = mean_logp(chosen), lp_r = mean_logp(rejected);
    const Odds odds = odds_of(lp_c, lp_r);
    const double penalty = -log_sigmoid(odds.margin), slope = -settings_.lambda * sigmoid(-odds.margin);
    const double n_c = std::max(1.0, static_cast<double>(chosen.targets));
    const double n_r = std::max(1.0, static_cast<double>(rejected.targets));
    // d loss / d nll of a token: log p is minus the mean of those.
    std::fill(factors.begin() + chosen.begin, factors.begin() + chosen.end,
              static_cast<float>((1 - slope * odds.dchosen) / n_c));
    std::fill(factors.begin() + rejected.begin, factors.begin() + rejected.end,
              static_cast<float>(-slope * odds.drejected / n_r));
    sums += {.loss = -lp_c + settings_.lambda * penalty,
             .weight = 1,
             .tokens = 0,
             .nll = -lp_c,
             .odds = penalty,
             .chosen = lp_c,
             .rejected = lp_r,
             .margin = lp_c - lp_r,
             .better = lp_c > lp_r ? 1.0 : 0.0};
  }
  if (learn) pass.backward({row.labels, factors, loss});
  return sums;
}

// Labels of row t are the ids of row t themselves: nll as they are, log p shifted by one.
LossSums LossRunner::compat_pairs(TrainingPass& pass, const Row& row, bool learn, double nll_unit, double pair_unit) {
  const std::size_t T = row.ids.size();
  const auto loss = loss_.first(T), factors = factors_.first(T), more = more_.first(T), logps = logps_.first(T);
  const auto next = next_.first(T);
  std::ranges::fill(next, kIgnore);
  std::ranges::fill(factors, 0.0f);
  std::ranges::fill(more, 0.0f);
  for (const Segment& s : row.segments) {
    for (std::size_t t = s.begin; t + 1 < s.end; ++t) next[t] = row.labels[t + 1];
  }
  pass.losses(next, logps);
  pass.losses(row.labels, loss);
  const auto mean_logp = [&](const Segment& s) {
    double sum = 0;
    for (std::size_t t = s.begin; t < s.end; ++t) sum -= std::clamp(double{logps[t]}, 0.0, 1000.0);
    return sum / std::max(1.0, static_cast<double>(count_labels(next.subspan(s.begin, s.end - s.begin))));
  };
  LossSums sums;
  for (std::size_t i = 0; i + 1 < row.segments.size(); i += 2) {
    const Segment &chosen = row.segments[i], &rejected = row.segments[i + 1];
    const double lp_c = mean_logp(chosen), lp_r = mean_logp(rejected);
    const Odds odds = odds_of(lp_c, lp_r);
    const double beta = settings_.lambda, penalty = -log_sigmoid(beta * odds.margin);
    const double slope = -beta * sigmoid(-beta * odds.margin) * pair_unit;
    for (const Segment* s : {&chosen, &rejected}) {
      const double n = std::max(1.0, static_cast<double>(count_labels(next.subspan(s->begin, s->end - s->begin))));
      const double d = s == &chosen ? odds.dchosen : odds.drejected;
      for (std::size_t t = s->begin; t < s->end; ++t) {
        more[t] = static_cast<float>(double{logps[t]} > 1000.0 ? 0.0 : -slope * d / n);
      }
    }
    double nll = 0;
    for (std::size_t t = chosen.begin; t < chosen.end; ++t) {
      factors[t] = static_cast<float>(nll_unit);
      nll += double{loss[t]};
    }
    // So that the mean over pairs is the original's: the mean over tokens, and over pairs.
    const double share = nll * nll_unit / pair_unit;
    sums += {.loss = share + penalty,
             .weight = 1,
             .tokens = 0,
             .nll = share,
             .odds = penalty,
             .chosen = lp_c,
             .rejected = lp_r,
             .margin = lp_c - lp_r,
             .better = lp_c > lp_r ? 1.0 : 0.0};
  }
  if (learn) pass.backward(std::array<LossTerm, 2>{LossTerm{row.labels, factors, loss}, LossTerm{next, more, logps}});
  return sums;
}

}  // namespace axon::train
