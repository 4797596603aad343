#include "memory/arena.h"

#include <sys/mman.h>

#include "memory/pages.h"

namespace axon {

Result<Arena> Arena::create(Ledger& ledger, std::string_view account, Bytes size) {
  Arena arena;
  arena.reservation_ = AXON_TRY(ledger.reserve(account, size));
  if (size == 0_B) return arena;
  void* data = mmap(nullptr, size.count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return make_error(ErrorCode::kOverBudget, "the system refused {} for {}", to_string(size), account);
  }
  populate_pages(data, size.count, PageUse::kWrite);
  arena.data_ = static_cast<std::byte*>(data);
  arena.size_ = size.count;
  return arena;
}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) munmap(data_, size_);
    reservation_ = std::move(other.reservation_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Arena::~Arena() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace axon
