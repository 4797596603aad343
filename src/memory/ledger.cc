#include "memory/ledger.h"

#include <algorithm>

namespace axon {

Reservation::Reservation(Reservation&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)),
      account_(std::move(other.account_)),
      size_(std::exchange(other.size_, Bytes{})) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::exchange(other.ledger_, nullptr);
    account_ = std::move(other.account_);
    size_ = std::exchange(other.size_, Bytes{});
  }
  return *this;
}

void Reservation::release() {
  if (ledger_ != nullptr) ledger_->release(account_, size_);
  ledger_ = nullptr;
  size_ = {};
}

Result<Reservation> Ledger::reserve(std::string_view account, Bytes size) {
  const std::lock_guard lock(mutex_);
  if (size > limit_ - total_) {
    return make_error(ErrorCode::kOverBudget, "{} needs {}, but {} of {} are taken", account, to_string(size),
                      to_string(total_), to_string(limit_));
  }
  auto it = accounts_.find(account);
  if (it == accounts_.end()) it = accounts_.emplace(std::string(account), Usage{}).first;
  it->second.used += size;
  it->second.peak = std::max(it->second.peak, it->second.used);
  total_ += size;
  peak_ = std::max(peak_, total_);
  return Reservation(this, account, size);
}

void Ledger::release(std::string_view account, Bytes size) {
  const std::lock_guard lock(mutex_);
  const auto it = accounts_.find(account);
  AXON_CHECK(it != accounts_.end() && it->second.used >= size);
  it->second.used -= size;
  total_ -= size;
}

Bytes Ledger::used() const {
  const std::lock_guard lock(mutex_);
  return total_;
}
Bytes Ledger::used(std::string_view account) const {
  const std::lock_guard lock(mutex_);
  const auto it = accounts_.find(account);
  return it == accounts_.end() ? Bytes{} : it->second.used;
}
Bytes Ledger::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}
Bytes Ledger::peak(std::string_view account) const {
  const std::lock_guard lock(mutex_);
  const auto it = accounts_.find(account);
  return it == accounts_.end() ? Bytes{} : it->second.peak;
}

}  // namespace axon
