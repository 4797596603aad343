#pragma once
// How the Python original packs: documents one behind the other, cut into rows of max_seq_len tokens wherever that
// falls, the last row of an epoch filled with id 0.

#include <cstdint>
#include <span>
#include <vector>

#include "train/data.h"

namespace axon::train {

class CompatPacker {
 public:
  explicit CompatPacker(TokenId separator) : separator_(separator) {}

  // One row: max_seq_len tokens, whether each is learned, and the lines that it is of.
  struct Packed {
    std::vector<TokenId> ids;
    std::vector<std::uint8_t> trained;
    std::vector<std::uint32_t> lines;
    std::uint64_t started = 0;  // examples that begin in it
  };
  // The next row of the epoch with this order; false when there is none, and the packer is as at its start.
  Result<bool> next(const ExampleSource& source, std::span<const std::uint32_t> order, Packed& out);
  std::uint64_t rows() const { return rows_; }  // of this epoch, so far
  void restart();

 private:
  struct Token {
    TokenId id;
    std::uint32_t line;
    std::uint8_t trained;
    bool starts;  // an example
  };
  Status add(const ExampleSource& source, std::size_t index);
  void take(std::size_t count, std::size_t width, Packed& out);

  TokenId separator_;
  std::vector<Token> held_;
  std::size_t next_ = 0;  // in the order
  std::uint64_t rows_ = 0;
  Example example_;
};

}  // namespace axon::train
