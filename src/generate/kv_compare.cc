#include "generate/kv_compare.h"

#include <algorithm>
#include <cmath>

namespace axon {
namespace {

std::size_t most_likely(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

Bytes kv_bytes(const Session& session) {
  Bytes out;
  Session::plan(session.model().config(), session.options(), [&](std::string_view account, const Carver& carver) {
    if (account == account::kKvCache) out = carver.peak();
  });
  return out;
}

class Comparison : public WindowReader {
 public:
  Comparison(std::span<Session* const> sessions, cpu::CpuDevice& device)
      : sessions_(sessions), device_(device), reference_(sessions[0]->model().config().vocab_size) {
    for (Session* const session : sessions) {
      AXON_CHECK(session->options().prefill_chunk == sessions[0]->options().prefill_chunk);
      AXON_CHECK(session->options().logits_rows == sessions[0]->options().logits_rows);
      Tally& tally = tallies_.emplace_back();
      tally.score.type = session->options().kv_type();
      tally.score.kv = kv_bytes(*session);
    }
    logits_.resize(sessions.size());
  }

  // So that the samples never move: they take what was planned for them.
  void reserve(std::size_t tokens) {
    for (Tally& tally : tallies_) tally.klds.reserve(tokens);
  }

  void begin() override {
    for (Session* const session : sessions_) session->reset();
  }

  Status read(std::span<const std::uint32_t> chunk) override {
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
      device_.reset_work();
      AXON_TRY(sessions_[i]->prefill(chunk));
      tallies_[i].score.work += device_.work();
    }
    return Ok{};
  }

  void score(std::size_t row, std::span<const std::uint32_t> targets) override {
    for (std::size_t i = 0; i < sessions_.size(); ++i) logits_[i] = sessions_[i]->logits_of(row, targets.size());
    for (std::size_t r = 0; r < targets.size(); ++r) {
      reference_.set(logits_[0].row(r));
      const double reference_nll = reference_.log_sum() - double{logits_[0].row(r)[targets[r]]};
      for (std::size_t i = 0; i < sessions_.size(); ++i) {
        judge(tallies_[i], logits_[i].row(r), targets[r], reference_nll);
      }
    }
  }

  std::vector<KvScore> scores() {
    std::vector<KvScore> out;
    for (Tally& tally : tallies_) {
      KvScore& score = out.emplace_back(tally.score);
      score.top1_agreement = static_cast<double>(tally.agreed) / static_cast<double>(score.kld.count());
      score.kld_999 = quantile(tally.klds, 0.999);
    }
    return out;
  }

 private:
  struct Tally {
    KvScore score;
    std::size_t agreed = 0;
    std::vector<float> klds;  // one a token
  };

  void judge(Tally& tally, std::span<const float> logits, std::uint32_t target, double reference_nll) {
    const double log_sum = log_sum_exp(logits);
    const double nll = log_sum - double{logits[target]}, kld = reference_.kld(logits, log_sum);
    tally.score.nll.add(nll);
    tally.score.nll_difference.add(nll - reference_nll);
    tally.score.kld.add(kld);
    tally.score.kld_largest = std::max(tally.score.kld_largest, kld);
    tally.klds.push_back(static_cast<float>(kld));
    if (most_likely(logits) == reference_.best()) ++tally.agreed;
  }

  const std::span<Session* const> sessions_;
  cpu::CpuDevice& device_;
  ReferenceRow reference_;
  std::vector<Mat<const float>> logits_;  // of one score(), a session each
  std::vector<Tally> tallies_;
};

}  // namespace
double KvScore::perplexity() const { return std::exp(nll.mean()); }
double KvScore::perplexity_ratio() const { return std::exp(nll_difference.mean()); }

void ReferenceRow::set(std::span<const float> logits) {
  AXON_CHECK(logits.size() == p_.size());
  logits_ = logits;
  best_ = most_likely(logits);
  const double largest = logits[best_];
  double sum = 0;
  for (std::size_t i = 0; i < p_.size(); ++i) sum += p_[i] = std::exp(logits[i] - largest);
  for (double& p : p_) p /= sum;
  log_sum_ = largest + std::log(sum);
}

double ReferenceRow::kld(std::span<const float> logits, double log_sum) const {
  AXON_CHECK(logits.size() == p_.size());
  double sum = 0;
  for (std::size_t i = 0; i < p_.size(); ++i) sum += p_[i] * (double{logits_[i]} - double{logits[i]});
  return std::max(0.0, sum + log_sum - log_sum_);
}

double quantile(std::span<float> numbers, double share) {
  if (numbers.empty()) return 0;
  const auto above = static_cast<std::size_t>(std::ceil(share * static_cast<double>(numbers.size())));
  const auto at = numbers.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(above, 1) - 1);
  std::nth_element(numbers.begin(), at, numbers.end());
  return *at;
}

Bytes kv_compare_bytes(std::size_t types, std::size_t tokens, std::size_t vocab) {
  return {types * tokens * sizeof(float) + vocab * sizeof(double)};
}

Result<std::vector<KvScore>> compare_kv(std::span<Session* const> sessions, cpu::CpuDevice& device,
                                        std::span<const std::uint32_t> ids, std::size_t window, std::size_t windows,
                                        const std::function<bool(std::size_t done, std::size_t total)>& progress) {
  AXON_CHECK(!sessions.empty());
  Comparison comparison(sessions, device);
  const bool all = windows == 0 || window == 0 || windows > ids.size() / window;
  comparison.reserve(all ? ids.size() : windows * window);
  AXON_TRY(walk_windows(comparison, ids, window, windows, sessions[0]->options(), progress));
  return comparison.scores();
}

}  // namespace axon
