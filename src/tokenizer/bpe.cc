#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <functional>

#include "base/error.h"

namespace axon {
namespace {

// Up to here scanning all pairs for every merge beats the heap: nothing to set up, and it stays in the first cache.
constexpr std::size_t kShort = 48;
constexpr std::uint64_t kNever = ~std::uint64_t{0};
constexpr std::uint32_t kNone = ~std::uint32_t{0};

std::uint64_t lookup(const TokenTables& tables, TokenId left, TokenId right, BpeScratch& scratch) {
  ++scratch.steps;
  return tables.merge_value(left, right);
}

void encode_short(const TokenTables& tables, std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) {
  std::array<TokenId, kShort> ids;
  std::array<std::uint64_t, kShort> values;  // of the merge of i with i + 1, kNever where there is none
  std::size_t count = piece.size();
  for (std::size_t i = 0; i < count; ++i) ids[i] = tables.byte_token(static_cast<unsigned char>(piece[i]));
  const auto update = [&](std::size_t i) {
    const std::uint64_t value = lookup(tables, ids[i], ids[i + 1], scratch);
    values[i] = value == 0 ? kNever : value;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) update(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (values[i] < values[best]) best = i;
    }
    if (values[best] == kNever) break;
    ids[best] = static_cast<TokenId>(values[best]);
    --count;
    for (std::size_t i = best + 1; i < count; ++i) ids[i] = ids[i + 1];
    for (std::size_t i = best + 1; i + 1 < count; ++i) values[i] = values[i + 1];
    if (best + 1 < count) update(best);
    if (best > 0) update(best - 1);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

// A linked list of symbols, and a heap of (rank, position) whose entries may be out of date.
class LongPiece {
 public:
  LongPiece(const TokenTables& tables, BpeScratch& scratch)
      : tables_(tables), scratch_(scratch), symbols_(scratch.symbols), heap_(scratch.heap) {}

  void encode(std::string_view piece, std::vector<TokenId>& out) {
    start(piece);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const std::uint64_t entry = heap_.back();
      heap_.pop_back();
      ++scratch_.steps;
      const auto at = static_cast<std::uint32_t>(entry);
      if (symbols_[at].merge >> 32 == entry >> 32) join(at);
    }
    for (std::uint32_t at = 0; at != kNone; at = symbols_[at].next) out.push_back(symbols_[at].id);
  }

 private:
  static std::uint64_t entry(std::uint64_t merge, std::uint32_t at) { return merge >> 32 << 32 | at; }

  void start(std::string_view piece) {
    const auto count = static_cast<std::uint32_t>(piece.size());
    symbols_.resize(count);
    heap_.clear();
    for (std::uint32_t i = 0; i < count; ++i) {
      symbols_[i] = {tables_.byte_token(static_cast<unsigned char>(piece[i])), i == 0 ? kNone : i - 1,
                     i + 1 == count ? kNone : i + 1, 0};
    }
    for (std::uint32_t i = 0; i + 1 < count; ++i) {
      symbols_[i].merge = lookup(tables_, symbols_[i].id, symbols_[i + 1].id, scratch_);
      if (symbols_[i].merge != 0) heap_.push_back(entry(symbols_[i].merge, i));
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  void join(std::uint32_t at) {
    BpeScratch::Symbol& left = symbols_[at];
    BpeScratch::Symbol& right = symbols_[left.next];
    left.id = static_cast<TokenId>(left.merge);
    left.next = right.next;
    right.merge = 0;  // entries for it are out of date from now on
    if (left.next != kNone) symbols_[left.next].previous = at;
    update(at);
    if (left.previous != kNone) update(left.previous);
  }

  void update(std::uint32_t at) {
    BpeScratch::Symbol& symbol = symbols_[at];
    symbol.merge = symbol.next == kNone ? 0 : lookup(tables_, symbol.id, symbols_[symbol.next].id, scratch_);
    if (symbol.merge == 0) return;
    heap_.push_back(entry(symbol.merge, at));
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  const TokenTables& tables_;
  BpeScratch& scratch_;
  std::vector<BpeScratch::Symbol>& symbols_;
  std::vector<std::uint64_t>& heap_;
};

}  // namespace

void bpe_encode(const TokenTables& tables, std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) {
  if (piece.empty()) return;
  if (piece.size() <= kShort) return encode_short(tables, piece, scratch, out);
  AXON_CHECK(piece.size() < (std::size_t{1} << 31));
  LongPiece(tables, scratch).encode(piece, out);
}

}  // namespace axon
