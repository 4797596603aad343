#pragma once
// Where the compressed cache of one head keeps its bytes. A window of W tokens is a header, tiles of coded tokens and a
// tail of the newest tokens in int8; every region starts on a 64-byte line.
//   tile    K codes | K scales | V codes | V scales        64 tokens; the last tile of a head may be shorter
//   tail    K int8  | K scales | V int8  | V scales        slots of a ring; scales in half precision
// When the tail is full its oldest kFlushTokens are coded into the ring of tiles. The newest token is in the tail, so
// the tiles need never hold more than W - (tail_tokens - kFlushTokens) of them. Where a token lies follows from its
// position and from how many have passed; nothing else is remembered.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "quant/turboquant_rotation.h"
#include "quant/turboquant_scale.h"
#include "quant/turboquant_tables.h"

namespace axon::turboquant {

inline constexpr std::size_t kTileTokens = 64;  // of one tile
inline constexpr std::size_t kGroupTokens = 4;  // what kernels read at a time; a tile's tokens are a multiple of it
inline constexpr std::size_t kFlushTokens = 8;  // coded at a time
inline constexpr std::size_t kLineBytes = 64;
inline constexpr std::uint64_t kMaxWindow = std::uint64_t{1} << 40;

struct Layout {
  std::string_view name;  // "tq3"
  Code key, value;
  ScaleKind scale;
  std::size_t tail_tokens;  // a multiple of kFlushTokens, more than one flush
  std::string_view what;

  bool coded() const { return tail_tokens < kMaxWindow; }  // else every window is all tail, and the codes mean nothing
};
std::span<const Layout> layouts();                 // tq4, tq3.5, tq3, lm3
const Layout& int8_layout();                       // q8: the tail alone
const Layout* find_layout(std::string_view name);  // one of those; null if there is none

// Of one key and one value vector with their scales.
std::size_t pair_bytes(const Layout& layout, std::size_t head_dim);

// Offsets within a tile of `tokens` (a multiple of kFlushTokens up to kTileTokens).
struct TileOffsets {
  std::size_t key_codes, key_scales, value_codes, value_scales, bytes;
};
TileOffsets tile_offsets(const Layout& layout, std::size_t head_dim, std::size_t tokens = kTileTokens);
TileOffsets tail_offsets(std::size_t head_dim, std::size_t tokens);

// What one head needs beside codes. Zeroed memory is a valid start.
struct HeadHeader {
  std::int32_t key_exponent, value_exponent;  // of the stored scales
  std::uint64_t key_saturated, value_saturated;
  std::uint8_t reserved[40];
};
static_assert(sizeof(HeadHeader) == kLineBytes);

// Tokens with consecutive positions that lie side by side, in one tile or in the tail.
struct TokenRun {
  bool in_tail;
  std::size_t tile;  // unless in_tail
  std::size_t slot;  // of the first, in the tile or the tail
  std::size_t count;
};

// One head with room for a window. kUnsupported for a head_dim that check_head_dim refuses, kInvalidArgument for a
// window of 0 or beyond kMaxWindow.
struct HeadPlan {
  std::size_t coded_tokens;  // room in tiles; 0 if the tail holds the whole window
  std::size_t tail_tokens;   // room in the tail
  std::size_t tiles;         // the last may be short
  std::size_t tile_bytes;    // of a whole one
  std::size_t tiles_at, tail_at;
  Bytes bytes;  // a multiple of kLineBytes

  std::size_t tokens_of_tile(std::size_t i) const;
  std::size_t offset_of_tile(std::size_t i) const { return tiles_at + i * tile_bytes; }

  // When `passed` tokens have: those below the result have left the tail.
  std::uint64_t left_tail(std::uint64_t passed) const;
  // The run from token p on, at most kTileTokens long. p < passed is a token that is still held: one of the newest
  // coded_tokens below left_tail(passed), or one above.
  TokenRun run_from(std::uint64_t p, std::uint64_t passed) const;
};
Result<HeadPlan> plan_head(const Layout& layout, std::size_t head_dim, std::uint64_t window);

// All that a head's bytes mean, as one number: tables, steps, scales, rotation signs and places. Saved states carry it;
// codes written under another number cannot be read.
std::uint64_t codebook_id(const Layout& layout, std::size_t head_dim);

}  // namespace axon::turboquant
