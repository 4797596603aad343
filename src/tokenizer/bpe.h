#pragma once
// Byte-pair encoding of one piece of text: of all neighbours that merge, the pair of lowest rank, leftmost first, until
// none does. O(n log n) for a piece of n bytes.

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/token.h"
#include "tokenizer/token_tables.h"

namespace axon {

// Memory that pieces share one after the other.
struct BpeScratch {
  struct Symbol {
    TokenId id;
    std::uint32_t previous;
    std::uint32_t next;
    std::uint64_t merge;  // with the next symbol: Merge::value
  };
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> heap;
  std::uint64_t steps = 0;  // pairs looked up and heap entries taken so far: what the time is proportional to
};

// Appends the tokens of `piece`, which is shorter than 2^31 bytes.
void bpe_encode(const TokenTables& tables, std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out);

}  // namespace axon
