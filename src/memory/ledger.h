#pragma once
// The ledger: who holds how much memory, under which name, and never more than the limit.

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace axon {

// The names of the accounts. Weights have one account a zone, "weights: <zone>" (model/model.h names the zones).
namespace account {
inline constexpr std::string_view kKvCache = "kv cache";
inline constexpr std::string_view kSsmState = "ssm state";
inline constexpr std::string_view kConvState = "conv state";
inline constexpr std::string_view kWorkspace = "workspace";
inline constexpr std::string_view kLogits = "logits";
inline constexpr std::string_view kAdapters = "adapters";
inline constexpr std::string_view kAdapterGradients = "adapter gradients";
inline constexpr std::string_view kOptimizer = "optimizer state";
inline constexpr std::string_view kBlockInputs = "block inputs";
inline constexpr std::string_view kBorderStates = "border states";
inline constexpr std::string_view kActivations = "activations";
inline constexpr std::string_view kLoss = "loss";
inline constexpr std::string_view kBatch = "batch";
inline constexpr std::string_view kTokenizer = "tokenizer";
inline constexpr std::string_view kText = "text";
inline constexpr std::string_view kConversion = "conversion";
inline constexpr std::string_view kTrainingData = "training data";
inline constexpr std::string_view kProcess = "process";
}  // namespace account

class Ledger;

// Memory that has been granted. Gives itself back when it goes out of scope.
class [[nodiscard]] Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { release(); }
  Bytes size() const { return size_; }
  void release();

 private:
  friend class Ledger;
  Reservation(Ledger* ledger, std::string_view account, Bytes size) : ledger_(ledger), account_(account), size_(size) {}
  Ledger* ledger_ = nullptr;
  std::string account_;
  Bytes size_;
};

// Thread-safe. The limit is hard: a reserve() that would pass it fails (kOverBudget) and changes nothing.
class Ledger {
 public:
  explicit Ledger(Bytes limit) : limit_(limit) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  ~Ledger() { AXON_CHECK(total_ == 0_B); }

  Result<Reservation> reserve(std::string_view account, Bytes size);
  Bytes limit() const { return limit_; }
  Bytes used() const;
  Bytes used(std::string_view account) const;
  // The largest sum that was ever held at once, and the largest of one account.
  Bytes peak() const;
  Bytes peak(std::string_view account) const;

 private:
  friend class Reservation;
  void release(std::string_view account, Bytes size);

  struct Usage {
    Bytes used, peak;
  };
  const Bytes limit_;
  mutable std::mutex mutex_;
  std::map<std::string, Usage, std::less<>> accounts_;
  Bytes total_{};
  Bytes peak_{};
};

}  // namespace axon
