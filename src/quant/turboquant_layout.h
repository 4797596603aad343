#pragma once
// Where the compressed cache of one head keeps its bytes. A window of W tokens is a header, tiles of coded tokens and a
// tail of the newest tokens in int8; every region starts on a 64-byte line.
//   tile    K codes | K scales | V codes | V scales        64 tokens; the last tile of a head may be shorter
//   tail    K int8  | K scales | V int8  | V scales        slots of a ring; scales in half precision
// When the tail is full its oldest kFlushTokens are coded into the ring of tiles. The newest token is in the tail, so
// the tiles need never hold more than W - (tail_tokens - kFlushTokens) of them.

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

struct Layout {
  std::string_view name;  // "tq3"
  Code key, value;
  ScaleKind scale;
  std::size_t tail_tokens;  // a multiple of kFlushTokens, more than one flush
  std::string_view what;
};
std::span<const Layout> layouts();                 // tq4, tq3.5, tq3, lm3
const Layout* find_layout(std::string_view name);  // null if there is none

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

// One head with room for a window. kUnsupported for a head_dim that check_head_dim refuses, kInvalidArgument for a
// window of 0 or beyond 2^40 tokens.
struct HeadPlan {
  std::size_t coded_tokens;  // room in tiles; 0 if the tail holds the whole window
  std::size_t tail_tokens;   // room in the tail
  std::size_t tiles;         // the last may be short
  std::size_t tile_bytes;    // of a whole one
  std::size_t tiles_at, tail_at;
  Bytes bytes;  // a multiple of kLineBytes

  std::size_t tokens_of_tile(std::size_t i) const;
  std::size_t offset_of_tile(std::size_t i) const { return tiles_at + i * tile_bytes; }
};
Result<HeadPlan> plan_head(const Layout& layout, std::size_t head_dim, std::uint64_t window);

// All that a head's bytes mean, as one number: tables, steps, scales, rotation signs and places. Saved states carry it;
// codes written under another number cannot be read.
std::uint64_t codebook_id(const Layout& layout, std::size_t head_dim);

}  // namespace axon::turboquant
