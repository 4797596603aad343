#pragma once
// What holding keys and values in another type costs on a text: the logits of every type against those of a reference,
// token by token, and the time that attention takes. Everything in nats and seconds.

#include <functional>
#include <span>
#include <vector>

#include "generate/score.h"
#include "kernels/cpu/cpu_device.h"

namespace axon {

struct KvScore {
  KvType type;
  RunningMean nll;
  RunningMean nll_difference;  // from the reference's, token by token
  // Of KLD(reference || type) = sum p (log p - log p'), a token each.
  RunningMean kld;
  double kld_999 = 0;  // 99.9 % of the tokens have no larger one
  double kld_largest = 0;
  double top1_agreement = 0;  // share of tokens whose most likely token is the reference's
  Bytes kv;                   // what the cache takes
  cpu::DeviceWork work;       // of all tokens

  double perplexity() const;
  double perplexity_ratio() const;  // to the reference's
};

// The distribution after one token that others are judged by.
class ReferenceRow {
 public:
  explicit ReferenceRow(std::size_t vocab) : p_(vocab) {}
  void set(std::span<const float> logits);  // [V]; they must stay as long as they are judged by
  double log_sum() const { return log_sum_; }
  std::size_t best() const { return best_; }
  // Of a row whose log_sum_exp is known. Never negative.
  double kld(std::span<const float> logits, double log_sum) const;

 private:
  std::vector<double> p_;
  std::span<const float> logits_;
  double log_sum_ = 0;
  std::size_t best_ = 0;
};

// The smallest number that `share` of them do not pass; 0 of none. Reorders them.
double quantile(std::span<float> numbers, double share);

// What compare_kv takes from the heap, for so many types (the reference counts) and at most so many tokens.
Bytes kv_compare_bytes(std::size_t types, std::size_t tokens, std::size_t vocab);

// Walks the windows of score_windows, each chunk through every session; the first session is the reference. They share
// a model, `device`, chunk and rows. A chunk's own keys and values are not compressed while it is read, so long chunks
// hide what a type costs. Errors as score_windows; `progress` counts tokens.
Result<std::vector<KvScore>> compare_kv(std::span<Session* const> sessions, cpu::CpuDevice& device,
                                        std::span<const std::uint32_t> ids, std::size_t window, std::size_t windows,
                                        const std::function<bool(std::size_t done, std::size_t total)>& progress);

}  // namespace axon
